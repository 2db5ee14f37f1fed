"""Speed and memory of the engine against plain implementations of the same training runs.

    python -m experiments.bench              # as `make bench`
    python -m experiments.bench fig2=false repeats=3

Everything runs in one process, repeats are interleaved; medians are reported, beside the ratios the
least and the most of any repeat, and whether the machine was busy. A PyTorch loop is measured where
torch is installed (`.venv/bin/pip install torch`).
"""

import itertools
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from experiments import registry
from experiments.benchmarks.candidates import (
    BenchConfig,
    Candidate,
    batch,
    engine,
    loop,
    pytorch,
    whole_grid,
)
from experiments.benchmarks.spread import Times, load_average, times, warning
from experiments.lab.command_line import ROOT, load, run_command
from experiments.lab.folders import Folders, check_writable, shown
from experiments.landscape.experiment import Landscape, LandscapeConfig, cells, devices_of

PRODUCT = 2048  # Side of the square matrices whose product gives the machine's own rate.


def bench(cfg: BenchConfig, folders: Folders) -> None:
    """Time all candidates, print the table, save it as results/bench/bench.json."""
    from lora_theory.store.files import write_json
    from lora_theory.train.devices import pin_numerics, start_devices

    check_writable(folders)
    load_before = load_average()  # Before this command loads the machine itself.
    # First: a child inherits its parent's peak memory, and the whole-grid vmap takes gigabytes.
    whole_figure = fig2_run() if cfg.fig2 else None
    pin_numerics()
    devices = start_devices()
    width = cfg.widths[0]
    candidates = [engine(cfg, w) for w in cfg.widths]
    candidates += [batch(cfg, width), whole_grid(cfg, width), loop(cfg, width)]
    torch_loop = pytorch(cfg, width)
    candidates += [torch_loop] if torch_loop else []
    seconds, product_rate = measure(candidates, cfg.repeats)
    report: dict[str, Any] = {
        "devices": len(devices),
        "matrix_product_gflops": product_rate / 1e9,
        "microseconds_per_run_and_step": {
            c.name: 1e6 * float(np.median(seconds[c.name])) / (c.runs * c.steps) for c in candidates
        },
        "load_average_before": load_before,
    }
    each = {c.name: np.divide(seconds[c.name], c.runs * c.steps).tolist() for c in candidates}
    ratios = times(each, candidates[0].name)
    report["times_the_engine"] = {name: ratio._asdict() for name, ratio in ratios.items()}
    report["cost_exponents"] = growth(report["microseconds_per_run_and_step"], cfg.widths)
    print("\n".join(table(report, cfg, ratios)), flush=True)
    if line := warning(load_before, seconds[candidates[0].name]):
        print(line, flush=True)
    if torch_loop is None:
        print("PyTorch loop: not measured; .venv/bin/pip install torch adds it")
    if whole_figure is not None:
        report["fig2"] = whole_figure
        print("fig2, both losses, anew: {seconds:.0f} s, {gib:.2f} GiB peak".format(**whole_figure))
        report["live_share"] = live_share(load("fig2", LandscapeConfig, ["loss=mse", "seeds=1"]))
        print(f"of its steps, those of runs that live (mse, seed 0): {report['live_share']:.1%}")
    path = folders.results / "bench.json"
    write_json(path, report)
    print("files:", shown(path))


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


def live_share(cfg: LandscapeConfig) -> float:
    """Of all steps of all slots that a landscape takes, the share that live runs take."""
    from lora_theory.train.conveyor import rows_of

    landscape, (live, all_steps) = Landscape(), (0, 0)
    devices, policy = len(devices_of(cfg.engine)), landscape.start(cfg)["engine"]
    for part in landscape.plan(cfg):
        for piece in part.pieces.values():
            diverged_at = landscape.run(piece, cfg)["diverged_at"]
            lengths = np.where(diverged_at < 0, cfg.steps, diverged_at) + 1
            rates = cells(cfg)[piece.start : piece.stop]
            rows = rows_of(rates, lengths, policy["micro_batch"], devices)
            live += int(lengths.sum())
            all_steps += sum(rows) * policy["micro_batch"]
    return live / all_steps


def growth(costs: dict[str, float], widths: tuple[int, ...]) -> dict[str, float]:
    """The exponent in n of the engine's cost, between neighbouring widths and over all of them."""
    ordered = sorted(widths)
    logs = {n: float(np.log2(costs[f"engine, n = {n}"])) for n in ordered}
    spans = [*itertools.pairwise(ordered), (ordered[0], ordered[-1])]
    return {f"{a} to {b}": (logs[b] - logs[a]) / float(np.log2(b / a)) for a, b in spans if a < b}


def table(report: dict[str, Any], cfg: BenchConfig, ratios: dict[str, Times]) -> list[str]:
    """The report as text: µs per run and step, times the engine's, share of the product rate."""
    costs, rate = report["microseconds_per_run_and_step"], report["matrix_product_gflops"]
    lines = [
        f"{report['devices']} devices; float32 matrix products: {rate:.0f} GFLOP/s; "
        f"medians of {cfg.repeats} interleaved repeats (least to most of a repeat)",
        f"{'':<42}{'µs/run/step':>12}{'× engine':>22}{'share of product rate':>24}",
    ]
    for name, ratio in ratios.items():
        width = int(name.partition("n = ")[2] or cfg.widths[0])
        flops = 10 * width * cfg.n_train * cfg.model.rank
        share = flops / (costs[name] * 1e-6) / (rate * 1e9)
        lines.append(f"{name:<42}{costs[name]:>12.1f}{ratio!s:>22}{share:>24.0%}")
    if found := report["cost_exponents"]:
        spans = ", ".join(f"{span}: {exponent:.2f}" for span, exponent in found.items())
        lines.append(f"the engine's cost grows as n to the power of ({spans})")
    return lines


registry.offer_models()

if __name__ == "__main__":
    run_command("bench", BenchConfig, bench)
