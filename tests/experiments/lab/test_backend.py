"""What computes: started, or one line; mistakes of an experiment stay what they are."""

import pytest
from study.sums import Sums

from experiments.lab.backend import BackendError, started


class Failing(Sums):
    """Its start raises."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def start(self, cfg):
        raise self.error


@pytest.mark.parametrize("said", ["Unknown backend: 'x'\nmore", "Unable to initialize backend 'x'"])
def test_a_backend_that_does_not_start_is_one_line(said):
    with pytest.raises(BackendError, match=r"\A[^\n]*'x'\Z"):
        started(Failing(RuntimeError(said)), None)


@pytest.mark.parametrize("error", [RuntimeError("mine"), NotImplementedError("mine"), OSError(5)])
def test_any_other_error_is_the_experiments_own(error):
    with pytest.raises(type(error)) as caught:
        started(Failing(error), None)
    assert caught.value is error
