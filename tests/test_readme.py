"""What the README shows runs as it stands there; the coordinate check at smaller sizes."""

import doctest
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)


def test_the_readme_examples_run():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 5
    assert results.failed == 0


def test_the_coordinate_check_says_how_predictions_fared(capsys):
    (block,) = (block for block in BLOCKS if "coordinate_check(" in block)
    for large, small in (("[64, 128, 256, 512]", "[16, 32, 64]"), ("seeds=64", "seeds=4")):
        assert large in block
        block = block.replace(large, small)
    exec(block, {"__name__": "readme"})
    said = capsys.readouterr().out
    assert said.count("identically zero (zero: pass)") == 2
    assert len(re.findall(r"\(0: (?:pass|fail|undecided)\)", said)) == 10


def test_lora_plus_in_ones_own_training_runs():
    (block,) = (block for block in BLOCKS if "nnx.Optimizer(" in block)
    exec(block, {"__name__": "readme"})
