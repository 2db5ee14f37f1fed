"""Speed and memory of the engine against plain implementations of the same training runs.

    python -m experiments.bench              # as `make bench`
    python -m experiments.bench fig2=false repeats=3

Everything runs in one process, repeats are interleaved, medians are reported. A PyTorch loop is
measured where torch is installed (`.venv/bin/pip install torch`).
"""

import dataclasses
import functools
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.command_line import ROOT, run_command
from experiments.lab.folders import Folders, check_writable, shown
from experiments.lab.schema import ConfigError, Rule, integer, place, science
from experiments.registry import TwoLayerConfig

PRODUCT = 2048  # Side of the square matrices whose product gives the machine's own rate.
SINGLE_RUNS = 2  # Runs a repeat of the implementations that train one run at a time.
FEW_STEPS = 10  # Steps a repeat of the whole-grid vmap: each costs a second.


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


def bench(cfg: BenchConfig, folders: Folders) -> None:
    """Time all candidates, print the table, save it as results/bench/bench.json."""
    from lora_theory.store.files import write_json
    from lora_theory.train.devices import start_devices

    check_writable(folders)
    # First: a child inherits its parent's peak memory, and the whole-grid vmap takes gigabytes.
    whole_figure = fig2_run() if cfg.fig2 else None
    devices = start_devices()
    width = cfg.widths[0]
    candidates = [engine(cfg, w) for w in cfg.widths] + [whole_grid(cfg, width), loop(cfg, width)]
    torch_loop = pytorch(cfg, width)
    candidates += [torch_loop] if torch_loop else []
    seconds, product_rate = measure(candidates, cfg.repeats)
    report: dict[str, Any] = {
        "devices": len(devices),
        "matrix_product_gflops": product_rate / 1e9,
        "microseconds_per_run_and_step": {
            c.name: 1e6 * float(np.median(seconds[c.name])) / (c.runs * c.steps) for c in candidates
        },
    }
    report["cost_exponents"] = growth(report["microseconds_per_run_and_step"], cfg.widths)
    print("\n".join(table(report, cfg, [c.name for c in candidates])), flush=True)
    if torch_loop is None:
        print("PyTorch loop: not measured; .venv/bin/pip install torch adds it")
    if whole_figure is not None:
        report["fig2"] = whole_figure
        print("fig2, both losses, anew: {seconds:.0f} s, {gib:.2f} GiB peak".format(**whole_figure))
    path = folders.results / "bench.json"
    write_json(path, report)
    print("files:", shown(path))


def problem(cfg: BenchConfig, width: int) -> Any:
    """Seed 0 of the paper's setting at a width: model and data."""
    from lora_theory.keys import seed_key

    config = dataclasses.replace(cfg.model, width=width)
    options = {"n_train": cfg.n_train, "n_test": cfg.n_test}
    return registry.draw(config, None, options)(seed_key(0))


def engine(cfg: BenchConfig, width: int) -> Candidate:
    """(a) This library's engine, all devices, with its automatic policy."""
    from lora_theory.train.devices import resolve_policy, start_devices
    from lora_theory.train.sweep import sweep_cells

    runs = max(32, cfg.cells * cfg.widths[0] // width)
    run = functools.partial(
        sweep_cells,
        problem(cfg, width),
        np.full((runs, 2), cfg.rate),
        optimizer=registry.optimizer("gd"),
        loss="mse",
        steps=cfg.steps,
        policy=resolve_policy(width, cfg.n_train + cfg.n_test),
        devices=start_devices(),
    )
    return Candidate(f"engine, n = {width}", run, runs, cfg.steps + 1)


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


def measure(candidates: list[Candidate], repeats: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of every repeat by name, and the machine's rate of float32 matrix products, flop/s.

    The rate is that of NumPy's product or of XLA's, whichever is faster here.
    """
    import jax
    import jax.numpy as jnp

    square = np.ones((PRODUCT, PRODUCT), np.float32)
    on_device, product = jnp.asarray(square), jax.jit(lambda m: m @ m)
    products = [
        Candidate("XLA product", lambda: product(on_device).block_until_ready(), 1, 1),
        Candidate("NumPy product", lambda: square @ square, 1, 1),
    ]
    everything = [*candidates, *products]
    seconds: dict[str, list[float]] = {c.name: [] for c in everything}
    for repeat in range(repeats + 1):
        for candidate in everything:
            begin = time.perf_counter()
            candidate.run()
            if repeat > 0:  # The first time compiles.
                seconds[candidate.name].append(time.perf_counter() - begin)
    fastest = min(float(np.median(seconds[c.name])) for c in products)
    return seconds, 2 * PRODUCT**3 / fastest


def fig2_run() -> dict[str, float]:
    """Seconds and peak memory of `python -m experiments.fig2`, both losses, from nothing."""
    with tempfile.TemporaryDirectory() as out:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "experiments.fig2", f"out={out}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
    kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "gib": kib / 2**20}


def growth(costs: dict[str, float], widths: tuple[int, ...]) -> dict[str, float]:
    """The exponent in n of the engine's cost, between neighbouring widths and over all of them."""
    ordered = sorted(widths)
    logs = {n: float(np.log2(costs[f"engine, n = {n}"])) for n in ordered}
    spans = [*itertools.pairwise(ordered), (ordered[0], ordered[-1])]
    return {f"{a} to {b}": (logs[b] - logs[a]) / float(np.log2(b / a)) for a, b in spans if a < b}


def table(report: dict[str, Any], cfg: BenchConfig, names: list[str]) -> list[str]:
    """The report as text: µs per run and step, times the engine's, share of the product rate."""
    costs, rate = report["microseconds_per_run_and_step"], report["matrix_product_gflops"]
    lines = [
        f"{report['devices']} devices; float32 matrix products: {rate:.0f} GFLOP/s; "
        f"medians of {cfg.repeats} interleaved repeats",
        f"{'':<26}{'µs/run/step':>12}{'× engine':>10}{'share of product rate':>24}",
    ]
    for name in names:
        width = int(name.split("=")[1]) if name.startswith("engine") else cfg.widths[0]
        flops = 10 * width * cfg.n_train * cfg.model.rank
        share = flops / (costs[name] * 1e-6) / (rate * 1e9)
        times = costs[name] / costs[names[0]]
        lines.append(f"{name:<26}{costs[name]:>12.1f}{times:>10.1f}{share:>24.0%}")
    if found := report["cost_exponents"]:
        spans = ", ".join(f"{span}: {exponent:.2f}" for span, exponent in found.items())
        lines.append(f"the engine's cost grows as n to the power of ({spans})")
    return lines


registry.offer_models()

if __name__ == "__main__":
    run_command("bench", BenchConfig, bench)
