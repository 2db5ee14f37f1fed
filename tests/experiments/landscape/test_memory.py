"""What the engine holds: a number that follows the config, and little for the paper's figure."""

import pytest

from experiments.fig2 import Fig2
from experiments.lab.command_line import load
from experiments.landscape.experiment import LandscapeConfig


def needed(*overrides):
    cfg = load("fig2", LandscapeConfig, ["engine.devices=1", *overrides])
    found = {}
    for need in Fig2().memory(cfg):
        found[need.what] = found.get(need.what, 0) + need.bytes
    return found


def test_the_papers_figure_needs_no_memory_to_speak_of():
    assert sum(needed().values()) < 2**23


@pytest.mark.parametrize(
    ("override", "what", "bytes"),
    [
        ("model.width=200", "the features", 3 * 4 * 200 * 1100),
        ("model=feature_layer", "the features", 2 * 4 * 100 * 1100),
        ("model.weight=random", "W*", 4 * 100 * 100),
        ("model.inputs=7", "W_in", 4 * 100 * 7),
        ("engine.micro_batch=1000", "the gates", 4 * 1000 * 100 * 64),
        ("steps=500", "the losses of each step", 2 * 4 * 424 * 500),
        ("engine.chunk=128", "the losses of each step", 2 * 4 * 128 * 200),
    ],
)
def test_an_array_is_as_large_as_its_sides_say(override, what, bytes):
    assert needed(override)[what] == bytes
