"""What the engine holds in memory, by the config alone."""

import math

from experiments import registry
from experiments.lab.memory import Need
from experiments.landscape.experiment import EngineConfig, TaskConfig
from experiments.registry import ModelConfig

# Where the config does not say how many, no fewer runs step together on cores, and no pass has
# fewer samples.
_LEAST_RUNS = 4
_LEAST_BLOCK = 64


def needs(
    model: ModelConfig, task: TaskConfig, engine: EngineConfig, steps: int, cells: int, devices: int
) -> list[Need]:
    """The largest arrays that are there on a CPU, by the fields of `conf/fig2.yaml`.

    Args:
        model, task, engine: as the config has them, nulls included.
        steps: T.
        cells: of one piece of work.
        devices: how many there are, each of which has the features and their blocks to itself.
    """
    gate = registry.MODELS[model.name].gate
    n = ("model.width", model.width)
    d = ("model.inputs", getattr(model, "inputs", model.width))
    r = ("model.rank", getattr(model, "rank", 1))
    samples = [("task.n_train", task.n_train), ("task.n_test", task.n_test)]
    least = 1 if engine.policy == "batch" else _LEAST_RUNS
    runs = ("engine.micro_batch", engine.micro_batch or least)
    records = runs if devices * runs[1] > cells else ("grid.points", math.ceil(cells / devices))
    each = ("engine.devices", devices)
    copies = 3 * devices if gate else 1 + devices  # As measured; XLA keeps another for the gates.
    found = [
        Need("A and B with their gradients", [each, runs, n, r], copies=4),
        Need("the losses of each step", [each, records, ("steps", steps)], copies=2),
    ]
    for count in samples:
        found += [
            Need("the inputs", [d, count], copies=3),
            Need("the features", [n, count], copies),
        ]
    if hasattr(model, "inputs"):
        found.append(Need("W_in", [n, d]))
    if getattr(model, "weight", "zero") == "random":
        found += [Need("W*", [n, n]), *(Need("W* Z", [n, count], copies) for count in samples)]
    if gate:
        block = min(engine.sample_block or _LEAST_BLOCK, task.n_train + task.n_test)
        found.append(Need("the gates", [each, runs, n, ("engine.sample_block", block)]))
    return found
