"""The width sweeps as a user starts them: their configs, and what is refused at once."""

import copy
import dataclasses
import sys

import pytest
import yaml

from experiments.lab import command_line
from experiments.lab.command_line import load, main
from experiments.lab.schema import ConfigError, build
from experiments.scaling.config import ScalingConfig
from experiments.width import Width
from experiments.width_all import WidthAll
from experiments.width_quick import WidthQuick

SCRIPTS = {one.name: one for one in (Width(), WidthQuick(), WidthAll())}


def config(name, *overrides):
    return load(name, ScalingConfig, list(overrides))


def test_what_decides_stands_in_the_config_and_was_there_before_the_runs():
    decide = config("width").decide
    assert (decide.sweep, decide.curve, decide.t) == ("layer_adam", "test_loss", 200)
    assert (decide.collapse_margin, decide.place_margin) == (0.1, 0.2)
    assert (decide.quantile, decide.confidence) == (0.5, 0.95)
    for name in SCRIPTS:  # The larger run is judged alike; the first look at another step.
        other = config(name).decide
        assert (other.sweep, other.curve, other.collapse_margin) == ("layer_adam", "test_loss", 0.1)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_config_can_be_planned(name):
    cfg = config(name)
    parts = SCRIPTS[name].plan(cfg)
    assert [part.name for part in parts] == list(cfg.part or (*cfg.sweeps, "coordinates"))
    for part in parts:
        SCRIPTS[name].layout(part, cfg).check()
        assert len({repr(piece) for piece in part.pieces.values()}) == len(part.pieces)


SWEEP = "sweeps.two_layer"
BAD = {
    "part=[two_layers]": "part: must be among two_layer, two_layer_one_sided, layer_adam",
    "part=[two_layer, two_layer]": "part: must be null or a list of different sweeps",
    "part=[]": "part: must be null or a list of different sweeps",
    "times=[10, 50, 300]": "times: must be at most steps = 200 (got [10, 50, 300])",
    "times=[10, 200, 50]": "times: must be at least three ascending numbers from 1",
    "steps=100": "times: must be at most steps = 100",
    "steps=1": "steps: must be an integer from 2",
    "decide.t=20": "decide.t: must be among times = 10, 50, 200 (got 20)",
    "decide.sweep=nothing": "decide.sweep: must be among two_layer",
    "decide.curve=loss": "decide.curve: must be one of train_loss, test_loss",
    "decide.quantile=1": "decide.quantile: must be between 0.01 and 0.99",
    "decide.collapse_margin=0": "decide.collapse_margin: must be a positive finite number",
    "first_seed=-1": "first_seed: must be an integer from 0",
    "coordinates.widths=[64, 128]": "coordinates.widths: must be at least three ascending",
    "adam_eps=0": "adam_eps: must be between 1e-30 and 1e+30",
    f"{SWEEP}.widths=[64,64,256,512,1024,2048,4096]": f"{SWEEP}.widths: must be ascending integers",
    f"{SWEEP}.widths=[128,64]": f"{SWEEP}.widths: must be ascending integers from 2",
    f"{SWEEP}.widths=[]": f"{SWEEP}.widths: must be ascending integers",
    f"{SWEEP}.seeds=[96,96]": f"{SWEEP}.seeds: must have one count a width, 7 in all",
    f"{SWEEP}.seeds=[9,9,9,9,9,9,10]": f"{SWEEP}.seeds: must be integers from 2 to 100000, none",
    f"{SWEEP}.seeds=[9,9,9,9,9,9,0]": f"{SWEEP}.seeds: must be integers from 2",
    f"{SWEEP}.rank=[65]": f"{SWEEP}.rank: must be at most the least width = 64 (got [65])",
    f"{SWEEP}.rank=[4,4]": f"{SWEEP}.rank: must be a list of different values",
    f"{SWEEP}.log2_a=[-3,-16]": f"{SWEEP}.log2_a: must be null or two ascending integers",
    f"{SWEEP}.log2_a=[-3.5,1]": f"{SWEEP}.log2_a: must be null or two ascending integers",
    f"{SWEEP}.log2_a=null": f"{SWEEP}.log2_b: must be given with log2_a, or neither",
    "sweeps.layer_sign.line=null": "sweeps.layer_sign.line: must be given where there is no plane",
    f"{SWEEP}.model=three_layer": f"{SWEEP}.model: must be one of",
    f"{SWEEP}.init=[C]": f"{SWEEP}.init: must be A, B, both, or a list of them",
    f"{SWEEP}.optimizer=[newton]": f"{SWEEP}.optimizer: must be gd, sign, adam, adamw, scaled_gd",
    f"{SWEEP}.task.n_train=0": f"{SWEEP}.task.n_train: must be an integer from 1",
    f"{SWEEP}.curvature.iterations=1": f"{SWEEP}.curvature.iterations: must be an integer from 2",
    f"{SWEEP}.seed=[1]": f"{SWEEP}.seed: unknown key; did you mean",
    "+sweeps.more.widths=[64]": "sweeps.more",
    "sweeps=3": "sweeps: must be a group of keys (got 3)",
    "engine.devices=0": "engine.devices: must be null or an integer",
    "out=": "out: must be null or a folder",
}


# Those that Hydra sees otherwise than a value in the config, and some of the others.
TYPED = [f"{SWEEP}.seeds=[96,96]", f"{SWEEP}.widths=[128,64]", f"{SWEEP}.seed=[1]",
         "+sweeps.more.widths=[64]", "sweeps=3", "out="]  # fmt: skip


@pytest.mark.parametrize("override", TYPED)
def test_what_a_user_gets_wrong_is_one_line_and_status_2(override, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    out = [] if override.startswith("out") else [f"out={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["width", override, *out])
    with pytest.raises(SystemExit) as stop:
        main(Width())
    printed = capfd.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith(f"error: {BAD[override]}")
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def plain():
    """The default config as plain data."""
    return command_line._plain(command_line._compose("width", None, command_line.CONF))


@pytest.mark.parametrize("override", [bad for bad in BAD if bad not in TYPED])
def test_every_wrong_value_is_refused_by_its_field(override, plain):
    key, _, value = override.partition("=")
    data = copy.deepcopy(plain)
    group = data
    *path, last = key.split(".")
    for name in path:
        group = group[name]
    assert last in group
    group[last] = yaml.safe_load(value)
    with pytest.raises(ConfigError) as caught:
        build(ScalingConfig, data)
    assert str(caught.value).startswith(BAD[override])
    assert "\n" not in str(caught.value)


def test_no_sweep_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"^sweeps: must be at least one \(got {}\)$"):
        dataclasses.replace(config("width"), sweeps={})


def test_replot_without_results_is_one_line(tmp_path, monkeypatch, capfd):
    arguments = ["width", "part=[two_layer]", "replot=true", f"out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main(Width())
    assert stop.value.code == 2
    assert "two_layer.npz: no such results file" in capfd.readouterr().err
