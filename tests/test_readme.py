"""What the README shows runs as it stands there."""

import doctest
from pathlib import Path


def test_the_readme_examples_run():
    results = doctest.testfile(str(Path(__file__).parents[1] / "README.md"), module_relative=False)
    assert results.attempted >= 5
    assert results.failed == 0
