"""The docs are built without a warning, every link leads somewhere, and what the pages show runs as
it stands there; what docs/width.md states is measured.
"""

import doctest
import functools
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.links import read, wrong
from lora_theory.store.dataset import Results
from lora_theory.theory.claims import claims

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "experiments.md").read_text()
ADDING = (ROOT / "docs" / "extending.md").read_text()


# --- The pages ---


def build(source, out):
    """Build docs as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", source / "docs"]
    return subprocess.run([*command, source, out], capture_output=True, text=True, timeout=400)


@pytest.mark.slow
def test_the_docs_are_built_and_every_link_and_image_leads_somewhere(tmp_path):
    done = build(ROOT, tmp_path / "html")
    assert (done.returncode, done.stderr) == (0, "")
    assert wrong(tmp_path / "html") == []
    (tmp_path / "html/README.html").unlink()
    assert "index.html: no such file: README.html" in wrong(tmp_path / "html")
    front = read(tmp_path / "html/docs/theory.html")
    assert any("mathjax" in url for url in front.loaded)


@pytest.fixture
def small(tmp_path):
    """Docs of one page, with our configuration."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/conf.py", tmp_path / "docs")
    for folder in ("_static", "_templates"):
        shutil.copytree(ROOT / "docs" / folder, tmp_path / "docs" / folder)
    (tmp_path / "README.md").write_text("# Front\n")
    (tmp_path / "docs/index.md").write_text("# Contents\n\n```{toctree}\n../README\n```\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("text", "said"), [
    ("", None),
    ("[there](nowhere.md)", "nowhere.md"),
    ("![there](nowhere.png)", "nowhere.png"),
    ("[there](../README.md#nowhere)", "nowhere"),
    ("```{eval-rst}\n.. automodule:: undocumented\n```", "f: a public name without a docstring"),
], ids=["sound", "page", "image", "anchor", "docstring"])  # fmt: skip
def test_what_leads_nowhere_or_has_no_docstring_is_an_error(
    text, said, small, tmp_path, monkeypatch
):
    (tmp_path / "lora_theory").mkdir()
    (tmp_path / "undocumented.py").write_text(
        '"""A module."""\n\n\ndef f():\n    return 1\n\n\nf.__module__ = "lora_theory.x"\n'
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    page = small / "docs/index.md"
    page.write_text(page.read_text() + f"\n{text}\n")
    done = build(small, tmp_path / "html")
    assert (done.returncode == 0) is (said is None), done.stderr
    assert (said or "") in done.stderr


@pytest.mark.parametrize(("html", "said"), [
    ('<a href="b.html#x">', None),
    ('<a href="c.html">', "a.html: no such file: c.html"),
    ('<a href="b.html#y">', "a.html: no such anchor: b.html#y"),
    ('<img src="c.png">', "a.html: no such file: c.png"),
    ('<script src="https://x.org/x.js">', "a.html: loads from another host: https://x.org/x.js"),
    ('<link rel="stylesheet" href="//x.org/x">', "a.html: loads from another host: //x.org/x"),
    ('<a href="https://example.org">', None),
])  # fmt: skip
def test_what_looks_at_pages_finds_what_leads_nowhere(html, said, tmp_path):
    """Control: the check can fail."""
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<p id="x">')
    assert wrong(tmp_path) == ([said] if said else [])


@pytest.mark.parametrize(("css", "faults"), [
    ("a { background: url(b.png) }", 0),
    ("a { background: url('data:image/png;base64,AA') }", 0),
    ("a { background: url(//x.org/b.png) }", 1),
    ('@import "https://x.org/b.css";', 1),
])  # fmt: skip
def test_a_style_sheet_loads_nothing_from_another_host(css, faults, tmp_path):
    (tmp_path / "a.css").write_text(css)
    assert len(wrong(tmp_path)) == faults


@pytest.mark.parametrize(("html", "status"), [('<p id="x">', 0), ('<a href="c.html">', 1)])
def test_faults_are_printed_and_are_an_exit_status(html, status, tmp_path):
    (tmp_path / "a.html").write_text(html)
    command = [sys.executable, ROOT / "docs/links.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, status)


def test_the_api_has_every_module_and_every_public_name():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    shown = set(re.findall(r"automodule:: (\S+)$", pages, re.M))
    packages = {"lora_theory"} | {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "lora_theory").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert shown == packages
    stub = (ROOT / "lora_theory/__init__.pyi").read_text()
    public = {".".join(name) for name in re.findall(r"^from (\S+) import (\w+) as", stub, re.M)}
    assert set(re.findall(r"^   (lora_theory\.\S+)$", pages, re.M)) == public


@pytest.mark.parametrize("page", ["theory", "ratio"])
def test_the_examples_of_a_page_run(page):
    results = doctest.testfile(str(ROOT / "docs" / f"{page}.md"), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


COMMANDS = [
    "fig2",
    "optimum",
    "claims",
    "width-quick",
    "width",
    "width-all",
    "preconditioning",
    "transformer",
    "budget",
    "ratio",
    "parity",
    "bench",
]


@pytest.mark.parametrize("target", COMMANDS)
def test_the_page_of_figures_says_how_long_a_command_takes_as_make_does(target):
    page = (ROOT / "docs/figures.md").read_text()
    (minutes,) = re.findall(rf"^\| `make {target}` \| (\d+) \|", page, re.M)
    assert re.search(rf"^{target}:.*\({minutes} minutes?\)", (ROOT / "Makefile").read_text(), re.M)


def test_every_kind_of_figure_is_on_the_page_of_figures():
    """Of the sweeps of `make width` one of each kind."""
    page = (ROOT / "docs/figures.md").read_text()
    names = {path.stem for path in (ROOT / "figures").glob("*.png")}
    kinds = {name.rpartition("_")[2] for name in names if name.startswith("width_")}
    others = {name for name in names if not name.startswith("width_")}
    assert len(others) >= 13
    assert [name for name in others if f"(../figures/{name}.png)" not in page] == []
    assert [kind for kind in kinds if not re.search(rf"/width_\w*{kind}\.png\)", page)] == []


# --- Code on the pages ---


@pytest.mark.slow
@pytest.mark.parametrize("page", ["training", "answers"])
def test_recipes_and_answers_run_as_they_stand(page):
    """Those of other projects run in `.ci/ecosystem`, and these also from the wheel."""
    recipes = runpy.run_path(str(ROOT / ".ci/recipes"))
    path = ROOT / "docs" / f"{page}.md"
    assert recipes["run"](path) > 20
    assert page == "answers" or len(recipes["blocks"](path, foreign=True)) == 3


def test_a_recipe_that_gives_something_else_is_found(tmp_path, capsys):
    """Control: what runs the pages can fail."""
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n\n```\n")
    with pytest.raises(AssertionError, match="1 examples fail"):
        runpy.run_path(str(ROOT / ".ci/recipes"))["run"](page)


def block(first_line):
    """The code block of the pages that begins with this line, without it."""
    found = re.findall(
        rf"^```\w+\n# {re.escape(first_line)}\n(.*?)^```$", PAGE + ADDING, re.M | re.S
    )
    assert len(found) == 1, first_line
    return found[0]


def run(folder, *command, environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture
def elsewhere(tmp_path):
    """The shortest example, in a folder of its own."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "escape.py").write_text(block("escape.py"))
    (tmp_path / "conf" / "escape.yaml").write_text(block("conf/escape.yaml"))
    return tmp_path


@pytest.mark.slow
def test_the_shortest_example_runs_resumes_and_refuses(elsewhere, environment):
    done = run(elsewhere, "escape.py", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    path = elsewhere / "results/escape/escape.npz"
    left = Results.load(path).arrays["left_at"].mean(axis=0)
    assert (np.diff(left) > 0).all()  # Like log n: it takes longer the wider.
    assert np.diff(left)[-1] == pytest.approx(left[-1] / 2, rel=0.3)
    for width, mean in zip((10, 20, 40, 80), left, strict=True):
        assert f"n = 2^{width}: {mean:.1f}" in done.stdout
    before = path.stat().st_mtime_ns
    again = run(elsewhere, "escape.py", environment=environment)
    assert (again.stdout, path.stat().st_mtime_ns) == (done.stdout, before)
    other = run(elsewhere, "escape.py", "seeds=20..39", environment=environment)
    assert other.returncode == 0
    assert (elsewhere / "runs/escape/seeds=20..39/results/escape/escape.npz").exists()
    wrong = run(elsewhere, "escape.py", "steps=-1", environment=environment)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: steps: must be an integer from 1 to 10000 (got -1)\n"


def added(text, after, line):
    """The text with a block put after the line that begins a table."""
    assert text.count(after) == 1
    return text.replace(after, after + line)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A copy of the repository to which all that docs/extending.md shows is added."""
    copy = tmp_path_factory.mktemp("grown")
    for folder in ("lora_theory", "experiments", "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("models/tanh.py", "data/cosine.py", "data/half.py"):
        (copy / "lora_theory" / file).write_text(block(f"lora_theory/{file}"))
    registry = copy / "experiments/registry.py"
    text = registry.read_text()
    for table, kind in {
        "MODELS": "Model",
        "TASKS": "str",
        "LOSSES": "str",
        "OPTIMIZERS": "str",
    }.items():
        first = f"{table}: dict[str, {kind}] = {{\n"
        text = added(text, first, block(f"experiments/registry.py: {table}"))
    registry.write_text(text)
    rules = copy / "lora_theory/theory/rules.py"
    rules.write_text(rules.read_text() + "\n\n" + block("lora_theory/theory/rules.py"))
    claims = copy / "lora_theory/theory/claims/two_layer.py"
    text = claims.read_text()
    (start,) = re.findall(r"^def claims\(\).*?:\n    \"\"\".*?\"\"\"\n", text, re.M | re.S)
    text = added(text, start, block("lora_theory/theory/claims/two_layer.py: claims"))
    first = "from collections.abc import Iterator\n"
    text = added(text, first, "")
    text = text.replace(first, f"import dataclasses\n{first}")
    last = "from lora_theory.theory.regions import lattice\n"
    claims.write_text(added(text, last, "from lora_theory.theory.rules import TWO_LAYER_GD\n"))
    return copy


SMALL = ["task.n_train=50", "task.n_test=20", "grid.points=4", "seeds=2", "steps=12",
         "model.width=20", "loss=mse", "plot.dpi=40"]  # fmt: skip


@pytest.mark.slow
def test_a_new_model_task_loss_and_optimizer_train_in_figure_2(grown, tmp_path, environment):
    chosen = ["model=tanh", "task.name=cosine", "loss=half_mse", "optimizer.name=lion"]
    done = run(
        grown, "-m", "experiments.fig2", *SMALL, *chosen, f"out={tmp_path}", environment=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = Results.load(tmp_path / "results/fig2/half_mse.npz")
    assert results.config["model"]["name"] == "tanh"
    assert results.config["task"]["name"] == "cosine"
    assert results.config["optimizer"]["name"] == "lion"
    losses = results.arrays["train_loss"]
    assert np.nanmin(losses[..., -1]) < np.nanmin(losses[..., 0])


@pytest.mark.slow
def test_a_new_rule_is_solved(grown, environment):
    probe = (
        "from lora_theory import solve\n"
        "from lora_theory.theory.rules import A_ALONE\n"
        "print(*solve(A_ALONE, 'B'), sep='; ')"
    )
    done = run(grown, "-c", probe, environment=environment)
    found = (
        "A alone: c_a = -1; stable, no feature learning: c_a < -1; unstable from t = 1: c_a > -1\n"
    )
    assert (done.returncode, done.stdout) == (0, found), done.stderr


@pytest.mark.slow
def test_a_new_claim_is_measured_and_its_control_caught(grown, tmp_path, environment):
    done = run(
        grown, "-m", "experiments.claims", "only=[tanh-lazy-rows]", "widths=[32,128,512]",
        "seeds.tanh=1000", "constants.scales=[0.2]", "constants.ratios=[1,4]", "seeds.map=8",
        "seeds.lattice=2", "dpi=40", f"out={tmp_path}", environment=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (claim,) = json.loads((tmp_path / "results/claims/claims.json").read_text())["claims"]
    assert (claim["found"]["verdict"], claim["control"]["verdict"]) == ("holds", "fails")


@pytest.mark.slow
def test_a_new_optimizer_is_known_to_the_claims(grown, environment):
    probe = (
        "from experiments import registry\n"
        "from experiments.claims import settings\n"
        "from experiments.claims.experiment import ClaimsConfig\n"
        "from experiments.lab.command_line import load\n"
        "from lora_theory.terms import Setting\n"
        "options = ['widths=[8,16,32]', 'seeds.layer=4', 'constants.ratios=[1]']\n"
        "cfg = load('claims', ClaimsConfig, options)\n"
        "(group,) = settings.groups([Setting('layer', 'lion', 'A', -1, 0)])\n"
        "sizes = settings.log2_sizes(group, cfg)\n"
        "((table, *_),) = settings.tables(settings.measure(group, cfg), sizes)\n"
        "print(round(table.slope('dB', 1).value, 2))"
    )
    done = run(grown, "-c", probe, environment=environment)
    assert (done.returncode, done.stdout) == (0, "0.0\n"), done.stderr


def test_the_page_says_the_contracts_and_roles_that_are():
    from experiments.lab.schema import Role

    contracts = (ROOT / ".importlinter").read_text()
    for part in re.findall(r"^\| `(lora_theory\.\w+|experiments/lab)`", PAGE, re.M):
        assert part.replace("/", ".") in contracts
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M)) >= {role.name.lower() for role in Role}


# --- docs/statements.md ---


def test_every_claim_stands_under_a_statement_with_its_verdict():
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs/statements.md").read_text().splitlines()
        if re.match(r"\| .*`[\w-]+`.* \| ", line)
    ]
    recorded = {claim.id: claim.recorded for claim in claims()}
    shown = set()
    for _, _, named, verdict in rows:
        ids = re.findall(r"`([\w-]+)`", named)
        if ids:
            assert re.findall(r"\b(holds|fails)\b", verdict) == [recorded[at] for at in ids], named
        shown |= set(ids)
    assert shown == set(recorded)


# --- docs/width.md ---

WIDTH = (ROOT / "docs" / "width.md").read_text()
TABLE = [
    [cell.strip() for cell in row.strip("| \n").split("|")]
    for row in re.findall(r"^\| `\w+` \| \w+, .*\|$", WIDTH, re.M)
]


@functools.cache
def verdicts(name):
    """(family, exponent, loss and step) -> verdict, of a committed summary."""
    kept = json.loads((ROOT / "figures" / f"{name}.json").read_text())
    return {
        (family["family"].partition(", n =")[0], v["what"], v["where"]): v
        for family in kept["families"]
        for v in family["verdicts"]
    }


def shown(verdict):
    """As the table has it."""
    if verdict["value"] is None:
        return "no fit"
    if not verdict["determined"]:
        return "undetermined"
    return "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**verdict).replace("-", "−")


def test_the_table_of_exponents_has_every_sweep():
    assert {row[0].strip("`") for row in TABLE} == {
        "two_layer", "two_layer_one_sided", "layer_adam", "layer_sign", "rank_init1", "rank_init2",
    }  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: ", ".join(row[:4]))
def test_the_table_of_exponents_is_that_of_the_committed_summaries(row):
    sweep, family, what, where, predicted, *measured = row
    for prefix, number, outcome in zip(
        ("width", "width_all"), measured[::2], measured[1::2], strict=True
    ):
        found = verdicts(f"{prefix}_{sweep.strip('`')}").get((family, what, where))
        if found is None:
            assert (number, outcome) == ("not run", "")
        else:
            assert predicted == f"{found['predicted']:+.2f}".replace("-", "−")
            assert (number, outcome.strip("*")) == (shown(found), found["outcome"])


def test_what_one_list_of_seeds_did_not_run_is_the_plane_of_sign_updates():
    alone = {(row[0], row[2].partition(" ")[0]) for row in TABLE if "not run" in row}
    assert alone == {("`layer_sign`", "collapse")}


# --- What the front page has found ---

FRONT = " ".join((ROOT / "README.md").read_text().split())


@pytest.mark.parametrize(("name", "exponents"), [
    ("width_all_layer_adam", ["c_a", "c_b"]), ("width_layer_adam", ["c_a"])
])  # fmt: skip
def test_the_exponents_of_the_first_finding_are_those_of_the_summaries(name, exponents):
    found = verdicts(name)
    for exponent in exponents:
        (primary,) = [
            verdict
            for (family, what, where), verdict in found.items()
            if (family, what, where) == ("adam, Init[1]", f"collapse {exponent}", "test, t = 200")
        ]
        assert f"{exponent} = {shown(primary)}" in FRONT


def test_the_finding_on_the_transformer_is_that_of_its_report():
    report = (ROOT / "figures/transformer.md").read_text()
    tuned, small = re.findall(r": ([+−][\d.]+) (\[[^]]*\]), a gain above", report)
    assert f"{' '.join(tuned)} of accuracy" in FRONT
    assert f"small rate it is {small[0]}," in FRONT


def cells(page, section):
    """The rows of the first table of a section."""
    part = (ROOT / page).read_text().partition(section)[2].partition("\n## ")[0]
    rows = [line.strip()[1:-1].split("|") for line in part.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[1:]}


def test_the_table_of_budgets_is_that_of_its_report():
    report = cells("figures/budget.md", "## Transformer")
    shown = cells("docs/ratio.md", "Transformer, n = 64, accuracy")
    assert shown == {way: row[2:5] + row[6:8] for way, row in report.items()}
    one, half = (report[way][2] for way in ("LoRA, λ = 1", "LoRA+, half of these rates"))
    assert f"reach {float(half):.2f} in one trial, λ = 1 on average {float(one):.2f}" in FRONT


def test_the_exponents_of_suggested_rates_are_those_of_its_report():
    report = (ROOT / "figures/ratio.md").read_text()
    page = " ".join((ROOT / "docs/ratio.md").read_text().split())
    found = re.findall(r"η_A (\S+ ± \S+), η_B (\S+ ± [\d.]+)", report)
    assert len(found) == 5
    for a, b in found:
        assert f"η_A {a}, η_B {b}" in page.replace("), (", " ")
