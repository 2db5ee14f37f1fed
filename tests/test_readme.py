"""What the README shows runs as it stands there; its coordinate check is run by `.ci/readme`."""

import doctest
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)


def test_the_readme_examples_run():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 5
    assert results.failed == 0


def test_lora_plus_in_ones_own_training_runs():
    (block,) = (block for block in BLOCKS if "nnx.Optimizer(" in block)
    exec(block, {"__name__": "readme"})
