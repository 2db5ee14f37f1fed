"""Flags and overrides: told apart in any order, and read as Hydra reads them."""

import pytest

from experiments.lab.arguments import jobs, parsed, says, split
from experiments.lab.schema import ConfigError


@pytest.mark.parametrize(
    ("line", "flags", "overrides"),
    [
        ("a=1 -m b=2", ["-m"], ["a=1", "b=2"]),
        ("-i a=1", ["--info=all"], ["a=1"]),
        ("a=1 --info config b=2", ["--info=config"], ["a=1", "b=2"]),
        ("-c hydra ~a", ["--cfg=hydra"], ["~a"]),
        ("status a=1", [], ["status=true", "a=1"]),
        ("a=status -m b=1,2 status", ["-m"], ["a=status", "b=1,2", "status=true"]),
        ("+cluster=slurm a=1 status", [], ["a=1", "status=true"]),
        ("+cluster=slurm hydra.launcher.partition=b plan=true", [], ["plan=true"]),
        (
            "+cluster=slurm hydra.launcher.partition=b",
            [],
            ["+cluster=slurm", "hydra.launcher.partition=b"],
        ),
    ],
)
def test_flags_take_what_belongs_to_them_and_no_override(line, flags, overrides):
    assert split(line.split()) == (flags, overrides)


@pytest.mark.parametrize("line", ["--foo", "-mseeds=1", "--cfg a=1", "--info=x", "-m --info"])
def test_what_hydra_would_answer_with_its_usage_is_one_line(line):
    with pytest.raises(ConfigError, match=r"\A--?\w+[^\n]*: must be[^\n]*\Z"):
        split(line.split())


def test_jobs_are_all_combinations_and_the_last_word_counts():
    given = parsed(["a=1,2", "b=choice(x,y)", "c=3", "c=4"])
    assert [job[:2] for job in jobs(given)] == [
        [f"a={a}", f"b={b}"] for a in (1, 2) for b in "xy"
    ]  # fmt: skip
    assert (says(given, "c"), says(given, "a"), says(given, "d")) == ("4", None, None)
    assert list(jobs(parsed(["model=glob(*)"]))) == []  # Hydra alone knows them.
