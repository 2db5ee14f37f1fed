"""What the engine's runs cost, by the config alone: how much of one core's time.

    python -m experiments.landscape.cost     # measures and fits the constants below anew

At width n and rank r on N samples a run and step costs c · (1, n r, n N, n N r, max(0, n N − C)),
whatever the optimizer; C = 2^20 features are what a core's caches hold.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import registry
from experiments.registry import ModelConfig

if TYPE_CHECKING:
    from experiments.landscape.experiment import TaskConfig

_CACHED = 2**20  # Floats; as `train.devices` has it.


class Size(NamedTuple):
    """Of a run.

    Attributes:
        width: n.
        rank: r; 1 of a model without one.
        samples: N, training and test samples.
    """

    width: int
    rank: int
    samples: int

    @property
    def terms(self) -> tuple[float, ...]:
        """What the constants multiply.

        >>> Size(10, 4, 5).terms, Size(2**11, 1, 2**10).terms[-1] == 2**20
        ((1.0, 40.0, 50.0, 200.0, 0.0), True)
        """
        weights, features = float(self.width * self.rank), float(self.width * self.samples)
        return 1.0, weights, features, self.rank * features, max(0.0, features - _CACHED)


# Seconds of one core a run and step, with a gate and without (see `registry.Model`). Measured as
# above on two cores of a virtual machine, AMD EPYC: with a gate within 0.8 and 1.3 times what was
# measured, without one within 0.6 and 1.5.
COSTS = {
    True: (2.3e-6, 0.0, 1.6e-10, 1.4e-10, 1.3e-10),
    False: (2.2e-7, 2.3e-9, 5.0e-11, 1.3e-12, 6.9e-11),
}
# Of the steps that are asked for, the share that is run, as a run that diverges ends: measured, 0.4
# on the grid of Figure 2, 0.4 to 0.8 on those of the width sweeps. Adam and signs do not diverge.
RAN = {"gd": 0.5}


def of_one(costs: Sequence[float], size: Size) -> float:
    """Core-seconds of a run and step."""
    return sum(cost * term for cost, term in zip(costs, size.terms, strict=True))


def run_and_step(model: ModelConfig, task: "TaskConfig") -> float:
    """Core-seconds of a run and step of a model on a task."""
    size = Size(model.width, getattr(model, "rank", 1), task.n_train + task.n_test)
    return of_one(COSTS[registry.MODELS[model.name].gate], size)


def core_seconds(
    model: ModelConfig, task: "TaskConfig", optimizer: str, runs: int, steps: int
) -> float:
    """What runs take of one core's time.

    Args:
        model, task: of all of them.
        optimizer: a name of the registry.
        runs: how many.
        steps: T; losses are taken at T + 1 of them.
    """
    return run_and_step(model, task) * runs * (steps + 1) * RAN.get(optimizer, 1.0)


def fitted(sizes: Sequence[Size], seconds: Sequence[float]) -> tuple[float, ...]:
    """The constants, none below 0, that leave the least relative errors.

    >>> sizes = [Size(n, r, N) for n in (64, 512, 4096) for r in (1, 4) for N in (9, 999)]
    >>> seconds = [2 * n * N + n * N * r for n, r, N in sizes]
    >>> [round(cost, 6) for cost in fitted(sizes, seconds)]
    [0.0, 0.0, 2.0, 1.0, 0.0]
    """
    from scipy.optimize import nnls

    measured = np.array(seconds)
    costs, _ = nnls(np.array([size.terms for size in sizes]) / measured[:, None], measured**0)
    return tuple(map(float, costs))


def timed(model: str, optimizer: str, size: Size, seconds: float = 1.0, repeats: int = 3) -> float:
    """Measured core-seconds of a run and step: of runs that stay finite, once compiled.

    Args:
        model, optimizer: names of the registry.
        size: of a run.
        seconds: about how long to measure for, by the constants above.
        repeats: of which the least counts.
    """
    import jax

    from lora_theory.keys import seed_key
    from lora_theory.train.devices import resolve_policy, start_devices
    from lora_theory.train.sweep import sweep_cells

    devices, gate = start_devices(), registry.MODELS[model].gate
    policy = resolve_policy(size.width, size.samples, gate=gate)
    config = registry.model_config(model, width=size.width, rank=size.rank)
    tests = max(1, size.samples // 10)
    options = {"n_train": size.samples - tests, "n_test": tests}
    problem = jax.jit(registry.draw(config, "sine", options))(seed_key(0))
    runs = 4 * policy.micro_batch * len(devices)
    steps = max(2, min(200, int(seconds / runs / of_one(COSTS[gate], size))))
    spent = []
    for _ in range(1 + repeats):
        begin = time.process_time()
        sweep_cells(
            problem,
            np.full((runs, 2), 1e-6),
            optimizer=registry.optimizer(optimizer),
            loss="mse",
            steps=steps,
            policy=policy,
            devices=devices,
        )
        spent.append(time.process_time() - begin)
    return min(spent[1:]) / (runs * (steps + 1))  # The first time compiles.


def measure(
    widths: Iterable[int] = (64, 256, 1024, 4096),
    others: Iterable[tuple[int, int]] = ((4, 1100), (4, 256), (1, 1100), (16, 1100)),
    seconds: float = 1.0,
) -> Iterable[str]:
    """Lines: each size that was measured beside what the fit says, and the constants.

    Args:
        widths: n.
        others: r and N.
        seconds: about how long each is measured for.
    """
    sizes = [Size(n, r, N) for (r, N), n in itertools.product(others, widths)]
    for model in ("two_layer", "feature_layer"):
        runs = list(itertools.product(("gd", "adam"), sizes))
        found = [timed(model, optimizer, size, seconds) for optimizer, size in runs]
        costs = fitted([size for _, size in runs], found)
        for (optimizer, size), took in zip(runs, found, strict=True):
            said = of_one(costs, size)
            yield (
                f"{model}, {optimizer}, n = {size.width}, r = {size.rank}, N = {size.samples}: "
                f"{1e6 * took:.1f} µs, fit {said / took:.2f} ×"
            )
        shown = ", ".join(f"{cost:.2g}" for cost in costs)
        yield f"{registry.MODELS[model].gate}: ({shown})"


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
