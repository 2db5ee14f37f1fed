"""What is timed: the engine, and plain implementations of the same training runs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.schema import ConfigError, Rule, integer, place, science
from experiments.registry import TwoLayerConfig

if TYPE_CHECKING:
    from lora_theory.train.devices import Policy

SINGLE_RUNS = 2  # Runs a repeat of the implementations that train one run at a time.
FEW_STEPS = 10  # Steps a repeat of what has the whole grid at once: each costs a second.


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What `make bench` measures."""

    model: TwoLayerConfig
    n_train: int = science(integer(1, 10**6))
    n_test: int = science(integer(1, 10**6))
    points: int = science(integer(1, 4096))
    repeats: int = science(integer(1, 1000))
    cells: int = science(integer(1, 10**6))
    steps: int = science(integer(1, 10**6))
    rate: float = science(schema.positive())
    widths: tuple[int, ...] = science(
        Rule(
            "must be a list of integers of at least 4 (the rank)",
            lambda v: len(v) > 0 and min(v) >= 4,
        )
    )
    fig2: bool = science()
    out: str | None = place(schema.folder())

    def __post_init__(self) -> None:
        if self.model.weight != "zero":
            words = "must be zero: the plain implementations have no W*"
            raise ConfigError("model.weight", words, self.model.weight)


class Candidate(NamedTuple):
    """Something to time: `run` does `runs` runs of `steps` steps each."""

    name: str
    run: Callable[[], Any]
    runs: int
    steps: int


def problem(cfg: BenchConfig, width: int) -> Any:
    """Seed 0 of the paper's setting at a width: model and data."""
    from lora_theory.keys import seed_key

    config = dataclasses.replace(cfg.model, width=width)
    options = {"n_train": cfg.n_train, "n_test": cfg.n_test}
    return registry.draw(config, None, options)(seed_key(0))


def engine(cfg: BenchConfig, width: int) -> Candidate:
    """(a) This library's engine, all devices, with its automatic policy."""
    from lora_theory.train.devices import resolve_policy, start_devices

    policy = resolve_policy(width, cfg.n_train + cfg.n_test)
    runs = max(32, cfg.cells * cfg.widths[0] // width)
    if policy.name == "batch":  # No slot is empty.
        runs = policy.micro_batch * len(start_devices())
    return _engine(f"engine, n = {width}", cfg, width, runs, cfg.steps, policy)


def batch(cfg: BenchConfig, width: int) -> Candidate:
    """The accelerators' policy: one large batch a device; on a CPU as many runs as the engine's."""
    from lora_theory.train.devices import resolve_policy, start_devices

    devices = start_devices()
    policy = resolve_policy(width, cfg.n_train + cfg.n_test, name="batch")
    name, steps = f"batch policy, n = {width}", cfg.steps
    if devices[0].platform == "cpu":
        name, steps = f"batch policy, forced on the CPU, n = {width}", FEW_STEPS
        slots = min(policy.micro_batch, max(1, cfg.cells // len(devices)))
        policy = policy._replace(micro_batch=slots)
    return _engine(name, cfg, width, policy.micro_batch * len(devices), steps, policy)


def _engine(
    name: str, cfg: BenchConfig, width: int, runs: int, steps: int, policy: "Policy"
) -> Candidate:
    from lora_theory.train.devices import start_devices
    from lora_theory.train.sweep import sweep_cells

    run = functools.partial(
        sweep_cells,
        problem(cfg, width),
        np.full((runs, 2), cfg.rate),
        optimizer=registry.optimizer("gd"),
        loss="mse",
        steps=steps,
        policy=policy,
        devices=start_devices(),
    )
    return Candidate(name, run, runs, steps + 1)


def plain_step(cfg: BenchConfig, width: int) -> tuple[Callable[..., Any], Any]:
    """One step as one would first write it, and the initial parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    model, data = problem(cfg, width)
    w_in, w_out = model.w_in[...], model.w_out[...]

    def loss(params: Any, x: Any, y: Any) -> Any:
        z = jax.nn.relu(w_in @ x)
        f = w_out @ jax.nn.relu(params["B"] @ (params["A"] @ z))
        return jnp.mean((f - y) ** 2)

    def step(params: Any, eta_a: Any, eta_b: Any) -> tuple[Any, tuple[Any, Any]]:
        tx = optax.multi_transform(
            {"A": optax.sgd(eta_a), "B": optax.sgd(eta_b)}, {"A": "A", "B": "B"}
        )
        train, grads = jax.value_and_grad(loss)(params, data.x_train, data.y_train)
        test = loss(params, data.x_test, data.y_test)
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(params, updates), (train, test)

    return step, {"A": model.lora.lora_a[...], "B": model.lora.lora_b[...]}


def whole_grid(cfg: BenchConfig, width: int) -> Candidate:
    """(b) The whole grid under one `vmap`, with optax."""
    import jax

    step, start = plain_step(cfg, width)
    rates = np.full(cfg.points**2, cfg.rate, np.float32)

    def train(eta_a: Any, eta_b: Any) -> Any:
        def body(params: Any, _: Any) -> Any:
            return step(params, eta_a, eta_b)

        return jax.lax.scan(body, start, None, length=FEW_STEPS)[1]

    compiled = jax.jit(jax.vmap(train))
    return Candidate(
        "whole-grid vmap",
        lambda: jax.block_until_ready(compiled(rates, rates)),
        rates.size,
        FEW_STEPS,
    )


def loop(cfg: BenchConfig, width: int) -> Candidate:
    """(c) A Python loop over runs and steps around a jitted step."""
    import jax

    step, start = plain_step(cfg, width)
    compiled = jax.jit(step)

    def run() -> None:
        for _ in range(SINGLE_RUNS):
            params = start
            for _ in range(cfg.steps):
                params, losses = compiled(params, cfg.rate, cfg.rate)
            jax.block_until_ready((params, losses))

    return Candidate("loop over a jitted step", run, SINGLE_RUNS, cfg.steps)


def pytorch(cfg: BenchConfig, width: int) -> Candidate | None:
    """(d) A PyTorch loop over runs and steps, or None without torch."""
    try:
        import torch
    except ImportError:
        return None
    model, data = problem(cfg, width)
    x, y, x_test, y_test, w_in, w_out, a, b = (
        torch.from_numpy(np.array(v))
        for v in (*data, *(v[...] for v in (model.w_in, model.w_out)),
                  model.lora.lora_a[...], model.lora.lora_b[...])
    )  # fmt: skip

    def forward(factors: Any, x: Any) -> Any:
        z = torch.relu(w_in @ x)
        return w_out @ torch.relu(factors[1] @ (factors[0] @ z))

    def run() -> None:
        for _ in range(SINGLE_RUNS):
            factors = [v.clone().requires_grad_() for v in (a, b)]
            groups = [{"params": [factor], "lr": cfg.rate} for factor in factors]
            optimizer = torch.optim.SGD(groups)
            for _ in range(cfg.steps):
                optimizer.zero_grad()
                loss = torch.mean((forward(factors, x) - y) ** 2)
                loss.backward()
                with torch.no_grad():
                    torch.mean((forward(factors, x_test) - y_test) ** 2).item()
                optimizer.step()

    return Candidate("PyTorch loop", run, SINGLE_RUNS, cfg.steps)
