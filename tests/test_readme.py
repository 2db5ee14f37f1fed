"""The front page: what it shows runs, and what it states is what the commands wrote."""

import doctest
import re
from pathlib import Path

import pytest
import yaml

import lora_theory
from lora_theory.theory.claims import claims

ROOT = Path(__file__).parents[1]
CLAIMS = claims()
README = (ROOT / "README.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.splitlines()
    if line.startswith("| `")
]


def table():
    """id -> its row of what `make claims` wrote."""
    rows = (ROOT / "figures" / "claims.md").read_text().splitlines()
    return {row.split("`")[1]: row for row in rows if row.startswith("| `")}


def test_the_front_page_takes_three_minutes():
    assert len(README.splitlines()) <= 128
    assert len(README.split()) < 1500  # At 400 to 500 words a minute.


def test_its_example_of_the_algebra_runs():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert (results.attempted, results.failed) == (2, 0)


def test_lora_plus_in_ones_own_training_runs():
    (_, block) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    exec(block, {"__name__": "readme"})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_the_claims_it_shows_are_those_that_were_measured(row):
    name, _, predicted, measured, small, verdict = row
    assert {claim.id: f"**{claim.recorded}**" for claim in CLAIMS}[name.strip("`")] == verdict
    shown = table()[name.strip("`")]
    assert f" {predicted} predicted, {measured} measured" in shown
    assert bool(small) == (" at n = 2^7 to 2^11 " in shown)
    assert f" at n = 2^7 to 2^11 {small}," in shown or not small


def test_it_shows_six_claims_and_counts_all():
    assert len(ROWS) == 6
    held = sum(claim.recorded == "holds" for claim in CLAIMS)
    counted = re.search(r"Of (\d+) claims (\d+) hold and (\d+) fail", README)
    assert tuple(map(int, counted.groups())) == (len(CLAIMS), held, len(CLAIMS) - held)
    assert f"all {len(CLAIMS)} of them" in README


@pytest.mark.parametrize(
    "word",
    ["η_A", "η_B", "λ", "Init[1]", "Init[2]", "α", "W\\*", "*efficient*", "contribute", "A Z"],
)
def test_a_symbol_is_explained_before_the_front_page_uses_it_in_a_table(word):
    assert README.index(word) < README.index("| `")


def test_the_citation_names_what_the_package_names():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert str(citation["version"]) == lora_theory.__version__
    (author,) = citation["authors"]
    assert f'authors = [{{ name = "{author["name"]}" }}]' in project
    assert f'license = {{ text = "{citation["license"]}" }}' in project
    (paper,) = citation["references"]
    assert [person["family-names"] for person in paper["authors"]] == ["Hayou", "Ghosh", "Yu"]
    assert any("2402.12354" in entry["value"] for entry in paper["identifiers"])
