"""How the house is built: what may import what, what is public, and that tests mirror modules."""

import ast
import importlib
import pickle
import shutil
import subprocess
import sys
from copy import copy as copied
from copy import deepcopy
from pathlib import Path

import pytest

import lora_theory
from experiments.lab.backend import BackendError
from experiments.lab.command_line import ConfError
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError, WriteError
from lora_theory.theory.exponents import RuleError
from lora_theory.train.epsilon import EpsilonError

ROOT = Path(__file__).parents[1]
STUB = ast.parse((ROOT / "lora_theory" / "__init__.pyi").read_text())
PUBLIC = [
    (node.module, alias.name)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]
FORBIDDEN = {
    "lora_theory/theory/rules.py": "import jax",
    "lora_theory/theory/claims/records.py": "import lora_theory.train.coordinates",
    "lora_theory/train/coordinates.py": "import lora_theory.theory.exponents",
    "lora_theory/exact/scalar_map.py": "import lora_theory.theory.regions",
    "lora_theory/exact/layer_map.py": "import lora_theory.theory.claims.layer",
    "lora_theory/stats/slopes.py": "import lora_theory.store.files",
    "lora_theory/store/files.py": "import lora_theory.stats.slopes",
    "lora_theory/adapters/layer.py": "import lora_theory.models.toys",
    "lora_theory/models/toys.py": "import lora_theory.train.sweep",
    "lora_theory/plots/theory.py": "import lora_theory.train.sweep",
    "experiments/lab/folders.py": "import experiments.fig2",
    "experiments/fig2.py": "import experiments.bench",
    "experiments/landscape/report.py": "import experiments.optimum",
    "experiments/landscape/experiment.py": "import experiments.scaling.families",
    "experiments/scaling/verdicts.py": "import experiments.width",
    "experiments/width.py": "import experiments.width_quick",
    "lora_theory/adapters/lora_plus.py": "import xarray",
}


def lint(folder, environment):
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-logo", "--no-cache"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    for package in ("lora_theory", "experiments"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    shutil.copy(ROOT / ".importlinter", folder)
    return folder


def test_the_house_keeps_its_contracts(copy, environment):
    done = lint(copy, environment)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FORBIDDEN)
def test_an_import_that_is_not_allowed_breaks_a_contract(file, copy, environment):
    """Control: the contracts can fail."""
    path = copy / file
    before = path.read_text()
    path.write_text(before + f"\n{FORBIDDEN[file]}\n")
    try:
        done = lint(copy, environment)
    finally:
        path.write_text(before)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: str(value))
def test_every_public_name_is_importable_and_documented(module, name):
    found = getattr(lora_theory, name)
    assert found is getattr(importlib.import_module(module), name)
    if callable(found):
        assert found.__doc__


def test_the_public_names_are_listed_and_others_are_refused():
    assert {name for _, name in PUBLIC} <= set(dir(lora_theory))
    with pytest.raises(AttributeError, match="no_such_name"):
        lora_theory.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("imported", "allowed"),
    [
        ("lora_theory", set()),
        ("lora_theory.theory.claims", set()),
        ("lora_theory.adapters.lora_plus", {"jax", "flax", "optax"}),
        ("lora_theory.train.coordinates", {"jax", "flax", "optax", "scipy"}),
    ],
)
def test_the_core_starts_nothing_that_it_does_not_need(imported, allowed, environment):
    heavy = ["jax", "flax", "optax", "scipy", "xarray", "hydra", "matplotlib", "experiments"]
    probe = f"import sys, {imported}; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= allowed


def test_the_tests_mirror_the_modules():
    without = {"__init__", "__main__", "terms", "arrays"}  # Words, aliases, and
    only_fields = ROOT / "lora_theory/plots/records.py"
    for package, home in (("lora_theory", ""), ("experiments", "experiments")):
        for module in (ROOT / package).rglob("*.py"):
            inside = module.relative_to(ROOT / package).with_suffix("")
            if inside.name in without or module == only_fields:
                continue
            beside = ROOT / "tests" / home / inside.parent / f"test_{inside.name}.py"
            whole = ROOT / "tests" / home / f"test_{inside.parent}.py"
            assert beside.exists() or whole.exists(), f"{package}/{inside}.py has no tests"


@pytest.mark.parametrize("error", [
    ConfigError("a", "must be b", 3), ConfError("a"), BackendError("a"), ResultsError("a"),
    WriteError(28, "No space left", "a"), EpsilonError("a"), RuleError("a"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_errors_cross_from_one_process_to_another(error):
    for same in (pickle.loads(pickle.dumps(error)), copied(error), deepcopy(error)):
        assert (type(same), str(same), vars(same)) == (type(error), str(error), vars(error))
