"""`lora_plus` beside what PyTorch and PEFT gave, without either: curves, controls, groups."""

import doctest
import functools
import re
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.lab.errors import StoppedError, one_line_errors
from experiments.parity import __main__ as command
from experiments.parity import report, setting, stored
from lora_theory import ParamGroup, explain, lora_plus

ROOT, FILE = Path(__file__).parents[2], stored.FILE
OFFICIAL = stored.load()


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in report.compared(OFFICIAL.runs)}


def test_the_weights_are_those_of_pytorch():
    """The first loss is of the weights alone."""
    first = {run.losses[0] for run in OFFICIAL.runs.values()}
    assert max(first) - min(first) < 1e-14
    trained = next(iter(OFFICIAL.runs.values())).moved
    kinds = ("lora_A", "lora_B", "lora_embedding_A", "norms.0.bias", "norm.weight", "head.weight")
    assert all(any(name.endswith(k) or k in name for name in trained) for k in kinds)
    assert len(trained) == 21


@pytest.mark.parametrize("name", setting.RUNS)
def test_the_curves_agree_over_a_hundred_steps(name, rows):
    """Far below the tolerance, which is 1e-5: losses to rounding; moves where gradients are small
    beside Adam's ε, so that rounding is felt, too.
    """
    assert rows[name].as_wanted
    assert len(rows[name].losses) == 100
    assert rows[name].losses.max() < 1e-12
    assert rows[name].moved < 1e-8
    losses = OFFICIAL.runs[name].losses
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()


@pytest.mark.parametrize("name", setting.CONTROLS)
def test_what_is_wrong_in_one_thing_is_told_apart(name, rows):
    """Control: each by more than ten times the tolerance."""
    assert rows[name].as_wanted
    assert rows[name].losses.max() > 10 * setting.TOLERANCE


def test_the_page_says_what_is_measured(rows):
    """Of controls the numbers too; what is rounding differs from machine to machine."""
    page = (ROOT / "docs/parity.md").read_text()
    for line in report.lines(list(rows.values()), OFFICIAL.versions)[4:]:
        name, verdict = line.split(" | ")[0], line.split(" | ")[-1]
        said = [at for at in page.splitlines() if at.startswith(f"{name} |")]
        assert len(said) == 1, name
        assert said[0] == line if "control" in name else said[0].endswith(verdict)
    for name, version in OFFICIAL.versions.items():
        assert f"{name} {version.partition('+')[0]}" in page.replace("\n", " ")


def test_the_code_of_the_page_runs():
    results = doctest.testfile(str(ROOT / "docs/parity.md"), module_relative=False)
    assert (results.attempted, results.failed) == (5, 0)


# --- Groups ---


def trained(params, **more):
    """Name -> rate and decay, by `explain`."""
    told = setting.LORA_PLUS
    base = functools.partial(optax.adamw, weight_decay=told.decay)
    given = {"ratio": told.ratio, "eta_embedding": told.embedding, "base": base}
    found = explain(params, told.rate, labels="official", **given, **more)
    return {row.leaf: (row.rate, row.decay) for row in found.rows}


def network(name):
    """The parameters of a network, and the rate and decay that PEFT's optimizer gives each."""
    found = OFFICIAL.groups[name]
    params = {leaf: jnp.ones(shape) for leaf, shape, _, _ in found}
    return params, {leaf: (rate, decay) for leaf, _, rate, decay in found}


@pytest.mark.parametrize("name", [name for name in OFFICIAL.groups if name != "everything"])
def test_rates_and_decays_are_those_of_peft(name):
    params, wanted = network(name)
    assert trained(params) == wanted


# What no name and no shape tells, and how it is said.
TOLD = {
    "base_model.model.embedding.base_layer.weight": ("embedding", "*.embedding.base_layer"),
    "base_model.model.group_norm.weight": ("B", "*.group_norm.weight"),
    "base_model.model.final_norm.weight": ("no_decay", "*.final_norm.weight"),
}


def test_what_names_do_not_tell_is_said_by_patterns():
    """PEFT asks modules for their types: the table of an adapted embedding, a LayerNorm without a
    bias, and a GroupNorm, which is none.
    """
    params, wanted = network("everything")
    found = trained(params)
    assert {leaf for leaf in params if found[leaf] != wanted[leaf]} == TOLD.keys()
    groups = {group: ParamGroup(match=pattern) for group, pattern in TOLD.values()}
    groups["B"] = ParamGroup(match=groups["B"].match, weight_decay=setting.LORA_PLUS.decay)
    assert trained(params, groups=groups) == wanted


def test_the_assertions_of_pefts_own_test_of_embeddings():
    """tests/test_loraplus.py, test_lora_plus_embedding_lr, with its numbers."""
    rate, ratio, embedding = 5e-5, 1.2, 1e-6
    params, _ = network("PEFT's test")
    found = explain(params, rate, ratio=ratio, eta_embedding=embedding, labels="official")
    names = {}
    for row in found.rows:
        names.setdefault(row.rate, set()).add(row.leaf)
    assert names == {
        embedding: {
            "base_model.model.embedding.lora_embedding_A.default",
            "base_model.model.embedding.lora_embedding_B.default",
        },
        rate: {"base_model.model.lin0.lora_A.default.weight"},
        rate * ratio: {"base_model.model.lin0.lora_B.default.weight"},
    }


def test_a_network_without_adapters_is_refused():
    """PEFT's test_lora_plus_helper_sucess trains one; here that is a mistake, unless labelled."""
    shapes = {
        "embedding.weight": (100, 20), "layer_norm.weight": (20,), "layer_norm.bias": (20,),
        "lin0.weight": (20, 20), "lin0.bias": (20,), "lin1.weight": (16, 20), "lin1.bias": (16,),
    }  # fmt: skip
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="finds no factor"):
        lora_plus(5e-5, ratio=1.2, labels="official").init(params)
    labels = {name: "A" if len(shape) > 1 else "no_decay" for name, shape in shapes.items()}
    found = explain(params, 5e-5, ratio=1.2, labels=labels)
    rates = {name: 5e-5 if len(shape) > 1 else 5e-5 * 1.2 for name, shape in shapes.items()}
    assert {row.leaf: row.rate for row in found.rows} == rates


# --- The command ---


def run(monkeypatch, *asked):
    monkeypatch.setattr(sys, "argv", ["parity", *asked])
    with one_line_errors():
        return command.main()


@pytest.fixture
def pytorch(monkeypatch):
    """A stand-in that gives what is stored."""
    peers = types.ModuleType("experiments.parity.peers")
    names = {told: name for name, told in setting.RUNS.items()}
    peers.train = lambda told: OFFICIAL.runs[names[told]]
    peers.versions = lambda: OFFICIAL.versions
    peers.nets = lambda: ((name, name) for name in OFFICIAL.groups)
    peers.groups = lambda name: OFFICIAL.groups[name]
    monkeypatch.setitem(sys.modules, "experiments.parity.peers", peers)
    monkeypatch.setattr("experiments.parity.peers", peers, raising=False)
    return peers


@pytest.mark.slow
def test_what_is_stored_is_what_was_measured(pytorch, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(stored, "FILE", tmp_path / "parity.json")
    assert run(monkeypatch) == 0
    assert (tmp_path / "parity.json").read_bytes() == FILE.read_bytes()
    assert run(monkeypatch, "check") == 0
    said = capsys.readouterr().out
    assert said.count("| agrees |") == 2 * len(setting.RUNS)
    assert said.count("told apart, as it should be") == 2 * len(setting.CONTROLS)
    (rounded,) = set(re.findall(r"In float32 losses are (\S+)", said))
    assert 10 * setting.TOLERANCE < float(rounded) < 0.5  # As the page says.


@pytest.mark.slow
def test_a_pytorch_that_does_something_else_is_found(pytorch, monkeypatch, capsys):
    """Control: other curves, or other groups, end a check with status 1."""
    right = pytorch.groups
    pytorch.groups = lambda name: right(name)[:-1]
    assert run(monkeypatch, "check") == 1
    pytorch.groups = right
    train, before = pytorch.train, FILE.read_bytes()
    pytorch.train = lambda told: train(told)._replace(losses=1.0001 * train(told).losses)
    assert run(monkeypatch, "check") == 1
    assert run(monkeypatch) == 1
    assert FILE.read_bytes() == before
    assert "**differs**" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["chek"], "error: parity: must be followed by nothing or check (got chek)\n"),
        ([], "error: peers: must be installed, as pip install"),
    ],
)
def test_what_can_not_be_done_is_one_line(asked, line, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "experiments.parity.peers", raising=False)
    with pytest.raises(StoppedError) as stopped:
        run(monkeypatch, *asked)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert len(said.splitlines()) == 1


def test_the_network_has_every_weight_once():
    """The names of PyTorch; every frozen weight is there too."""
    assert set(setting.weights()) > set(OFFICIAL.runs["LoRA+"].moved)
    assert all(np.isfinite(array).all() for array in setting.weights().values())
