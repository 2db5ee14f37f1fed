"""What PyTorch gave, in `figures/parity.json`, so that tests need no PyTorch."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.parity.setting import Run

FILE = Path(__file__).parents[2] / "figures" / "parity.json"


class Official(NamedTuple):
    """What the official optimizer does.

    Attributes:
        versions: of torch, peft and transformers.
        runs: of each of `setting.RUNS`, by name.
        groups: of small networks by name: name, shape, rate and weight decay of each parameter.
    """

    versions: dict[str, str]
    runs: dict[str, Run]
    groups: dict[str, list[list[Any]]]


def measured() -> Official:
    """With PyTorch, here and now.

    Raises:
        ImportError: there is none.
    """
    from experiments.parity import peers, setting

    runs = {name: peers.train(told) for name, told in setting.RUNS.items()}
    return Official(peers.versions(), runs, {name: peers.groups(net) for name, net in peers.nets()})


def load(path: Path | None = None) -> Official:
    """As it was saved."""
    data = json.loads((path or FILE).read_text())
    runs = {name: Run(np.array(losses), moved) for name, (losses, moved) in data["runs"].items()}
    return Official(data["versions"], runs, data["groups"])


def save(official: Official, path: Path | None = None) -> None:
    """All digits of it, whole or not at all."""
    from lora_theory.store.files import write_json

    runs = {name: [run.losses.tolist(), run.moved] for name, run in official.runs.items()}
    write_json(path or FILE, official._asdict() | {"runs": runs})
