"""A grid of runs as configured: from saved results, or computed, in chunks that survive a kill."""

import dataclasses
import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from experiments.cli import Folders
from lora_theory.config import ConfigError, Fig2Config, LinearConfig, TaskConfig, TwoLayerConfig
from lora_theory.results import ChunkStore, Results, ResultsError, exclusive

if TYPE_CHECKING:
    from lora_theory.arrays import PRNGKey
    from lora_theory.sweep import Optimizer, Policy, Problem

_CHUNK_BYTES = 2**26  # No chunk holds more, however many steps there are.


class Progress(Protocol):
    """Told how far the sweep is."""

    def __call__(self, runs: int, diverged: int) -> None:
        """`runs` more are done, `diverged` of them diverged."""
        ...


def results_of(cfg: Fig2Config, loss: str, path: Path) -> Results:
    """Results of one loss: those saved at `path` if their config is this one, else computed.

    Raises:
        ResultsError: the file is damaged or of another config, or `replot` finds none.
        OSError: the folder can not be written.
    """
    if path.exists() or cfg.replot:
        return _saved(cfg, loss, path)
    with exclusive(path):
        if not path.exists():  # Another run may have finished it while this one waited.
            _compute(cfg, loss, path)
        return _saved(cfg, loss, path)


def check_out(cfg: Fig2Config, folders: Folders) -> None:
    """Refuse folders that can not be written or have no room, before anything is computed.

    Raises:
        OSError: a folder can not be written.
        ConfigError: the disk is too full for the results.
    """
    check_writable(folders)
    if cfg.replot:
        return
    runs = cfg.seeds * cfg.grid.points**2 * len(cfg.loss)
    need = 2 * runs * (8 * (cfg.steps + 1) + 4)  # Chunks and the file they end in.
    free = shutil.disk_usage(folders.results).free
    if need > free:
        raise ConfigError(
            "out",
            f"must have {need / 2**30:.1f} GiB free",
            f"{free / 2**30:.1f} GiB in {folders.results}",
        )


def check_writable(folders: Folders) -> None:
    """Make the folders, or raise the OSError that would otherwise come after the work."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def rates(cfg: Fig2Config) -> np.ndarray:
    """The axis of rates: `points` from low to high, evenly spaced in log η."""
    return np.geomspace(cfg.grid.low, cfg.grid.high, cfg.grid.points)


def problem_of(cfg: Fig2Config, key: "PRNGKey") -> "Problem":
    """The model and the data of one seed."""
    return _drawn(cfg.model, cfg.task)(key)


@functools.cache
def _drawn(
    model: TwoLayerConfig | LinearConfig, task: TaskConfig
) -> "Callable[[PRNGKey], Problem]":
    """key -> problem, compiled: op by op, forty small compilations would take two seconds."""
    import jax

    from lora_theory.data import linear_task, sine_task
    from lora_theory.models import LinearToy, TwoLayerToy
    from lora_theory.sweep import Problem

    options = dataclasses.asdict(model)
    del options["name"]

    def draw(key: "PRNGKey") -> "Problem":
        key_data, key_model = jax.random.split(key)
        if isinstance(model, TwoLayerConfig):
            data = sine_task(model.inputs, task.n_train, task.n_test, key=key_data)
            return Problem(TwoLayerToy(**options, key=key_model), data)
        data = linear_task(model.width, task.n_train, task.n_test, key=key_data)
        return Problem(LinearToy(**options, key=key_model), data)

    return jax.jit(draw)


@functools.cache
def optimizer_of(name: str) -> "Optimizer":
    """(η_A, η_B) -> LoRA+ over a base; one object a name, so that compilations are shared."""
    from lora_theory.optim import BASES, lora_plus

    return functools.partial(lora_plus, base=BASES[name])


def policy_of(cfg: Fig2Config) -> "Policy":
    """The engine's policy, every null of the config resolved."""
    from lora_theory.sweep import resolve_policy

    engine, samples = cfg.engine, cfg.task.n_train + cfg.task.n_test
    return resolve_policy(
        cfg.model.width,
        samples,
        name=engine.policy,
        micro_batch=engine.micro_batch,
        sample_block=engine.sample_block,
    )


def _science(cfg: Fig2Config, loss: str) -> dict[str, Any]:
    """The part of the config that decides what is computed, as plain data."""
    data = dataclasses.asdict(cfg)
    kept = ("model", "task", "optimizer", "grid", "seeds", "steps")
    return {name: data[name] for name in kept} | {"loss": loss}


def _saved(cfg: Fig2Config, loss: str, path: Path) -> Results:
    results = Results.load(path)
    asked = _science(cfg, loss) | {
        "engine": {
            name: value
            for name in ("policy", "micro_batch", "sample_block")
            if (value := getattr(cfg.engine, name)) is not None
        }
    }
    difference = _difference(asked, results.config)
    if difference is not None:
        raise ResultsError(f"{path}: of another config ({difference}); delete it or change out")
    return results


def _difference(asked: dict[str, Any], saved: dict[str, Any], path: str = "") -> str | None:
    for key, value in asked.items():
        if key not in saved:
            return f"{path}{key} is missing"
        if isinstance(value, dict):
            if (inner := _difference(value, saved[key], f"{path}{key}.")) is not None:
                return inner
        elif saved[key] != value:
            return f"{path}{key} is {saved[key]}, not {value}"
    return None


def _compute(cfg: Fig2Config, loss: str, path: Path) -> None:
    from lora_theory import sweep

    pin_numerics()
    try:
        devices = sweep.start_devices(cfg.engine.devices)
    except ValueError as error:
        raise ConfigError("engine.devices", str(error), cfg.engine.devices) from None
    policy = policy_of(cfg)
    axis = rates(cfg)
    cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    size = max(1, min(cfg.engine.chunk, _CHUNK_BYTES // (8 * (cfg.steps + 1))))
    config = _science(cfg, loss) | {"engine": policy._asdict(), "versions": versions()}
    store = ChunkStore(path, config, {"chunk": str(size)})
    work = list(sweep.chunks(cfg.seeds, len(cells), size))
    seed, problem = -1, None
    with _progress(f"{path.parent.name} {loss}", cfg.seeds * len(cells)) as advance:
        for index, (chunk_seed, part) in enumerate(work):
            if store.has(index):
                diverged_at = store.get(index)["diverged_at"]
            else:
                if problem is None or seed != chunk_seed:
                    seed, problem = chunk_seed, problem_of(cfg, sweep.seed_key(chunk_seed))
                curves = sweep.sweep_cells(
                    problem,
                    cells[part],
                    optimizer=optimizer_of(cfg.optimizer.name),
                    loss=loss,  # type: ignore[arg-type]
                    steps=cfg.steps,
                    policy=policy,
                    devices=devices,
                )
                store.put(index, **curves._asdict())
                diverged_at = curves.diverged_at
            advance(part.stop - part.start, int((diverged_at >= 0).sum()))
    shape = (cfg.seeds, axis.size, axis.size, cfg.steps + 1)
    seeds, step = np.arange(cfg.seeds), np.arange(cfg.steps + 1)
    store.assemble(len(work), shape, eta_a=axis, eta_b=axis, seed=seeds, step=step)


def pin_numerics() -> None:
    """Settings that change results are the project's, whatever the environment says of them."""
    import jax

    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    jax.config.update("jax_threefry_partitionable", True)
    jax.config.update("jax_debug_nans", False)  # Diverged runs are results.


def versions() -> dict[str, str]:
    """What decides rounding: the libraries' versions and the backend."""
    import flax
    import jax
    import jaxlib
    import optax

    import lora_theory

    versions = {m.__name__: m.__version__ for m in (lora_theory, jax, jaxlib, flax, optax, np)}
    return versions | {"backend": jax.default_backend()}


@contextmanager
def _progress(title: str, runs: int) -> Iterator[Progress]:
    """A bar on stderr: runs done, time left, share diverged; nothing outside a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[share]:.0%} diverged"),
    )
    counts = np.zeros(2, int)  # Runs done, and how many of them diverged.
    with Bar(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=runs, share=0.0)

        def advance(runs: int, diverged: int) -> None:
            counts[:] += runs, diverged
            bar.update(task, advance=runs, share=counts[1] / counts[0])

        yield advance
