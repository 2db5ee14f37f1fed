"""The machine: its devices, how cells are laid on them, and the settings of JAX that round."""

import contextlib
import functools
import math
import os
from typing import Any, NamedTuple

import jax

from lora_theory import arguments

# CPU devices beyond this would only take minutes to start.
_MOST_DEVICES = 1024
# Floats of one gate (micro-batch × width × samples) that keep a CPU core in its caches, from
# timings at n = 100 and n = 1000; more spills, less leaves matrix products too thin.
_CORE_FLOATS = 2**20
# Without a gate cells share all of size width × samples: each micro-batch reads it once.
_GATELESS_CELLS = 16
# Bytes of features and gates of one accelerator batch: this share of the memory that is free, or so
# many where the device does not say; and of each of its cells, bytes a feature of a sample.
_BATCH_SHARE = 0.5
_BATCH_BYTES = 2**31
_CELL_BYTES = 16
_BATCH_CELLS = 1024
# What the environment could change of the numbers; what XLA_FLAGS round is recorded instead.
_PINNED: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_default_matmul_precision": None,
    "jax_default_device": None,
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",  # JAX's word for XLA's own.
    "jax_exec_time_optimization_effort": 0.0,
    "jax_allow_f16_reductions": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_softmax_custom_jvp": False,
    "jax_debug_nans": False,  # Diverged runs are results.
    "jax_debug_infs": False,
    "jax_transfer_guard": "allow",
}
# On a GPU XLA times several kernels and takes the fastest, another in another process: two runs of
# one config then round otherwise, and near the edge of stability differ. Elsewhere it does nothing.
_ONE_KERNEL = "--xla_gpu_deterministic_ops"


class Policy(NamedTuple):
    """How cells are laid on devices; part of the recorded config, because it rounds.

    Attributes:
        name: "cores" (small micro-batches in cache, one device per core) or "batch" (one large
            batch per device, for accelerators).
        micro_batch: cells that step together.
        sample_block: samples per pass over the data; N for one pass.
        precision: precision of matrix products.
    """

    name: str
    micro_batch: int
    sample_block: int
    precision: str = "highest"


def start_devices(count: int | None = None) -> list[jax.Device]:
    """The devices to run on; on a CPU one XLA device per core, unless JAX has started already.

    Of a program on several hosts, those of this one.

    Args:
        count: how many devices; None for all (on a CPU: one per core).

    Raises:
        ValueError: `count` is below 1 or more than there are.

    >>> len(start_devices(1))
    1
    """
    if count is not None and count < 1:
        raise ValueError(f"devices: must be at least 1 (got {count})")
    if count is not None and count > _MOST_DEVICES:
        raise ValueError(f"devices: must be at most {_MOST_DEVICES} (got {count})")
    with contextlib.suppress(RuntimeError):  # The backend runs; its devices are what there is.
        jax.config.update("jax_num_cpu_devices", count or _cores())
    devices = jax.local_devices()
    if count is not None and count > len(devices):
        raise ValueError(f"devices: must be at most {len(devices)} here (got {count})")
    return devices[:count]


def resolve_policy(
    width: int,
    samples: int,
    *,
    name: str | None = None,
    micro_batch: int | None = None,
    sample_block: int | None = None,
    batch_bytes: int | None = None,
    gate: bool = True,
) -> Policy:
    """The policy for features of shape (width, samples), every None replaced by its default.

    The defaults depend on the model and the backend, never on the grid or the device count.

    Args:
        width: n.
        samples: N, training and test samples.
        name, micro_batch, sample_block: those of the `Policy`, where they are given.
        batch_bytes: of features and gates of one accelerator batch; None for `free_batch_bytes()`.
        gate: whether a step of a run makes anything of size (width, samples), as an activation
            above the layer does. Without, cells of a micro-batch share the features, and on a CPU
            a pass over all samples with more cells takes half the time at n = 4096.

    Raises:
        ValueError: a size below 1, or an unknown name.

    >>> resolve_policy(100, 1100, name="cores")
    Policy(name='cores', micro_batch=8, sample_block=1100, precision='highest')
    >>> resolve_policy(1000, 1100, name="cores")
    Policy(name='cores', micro_batch=4, sample_block=220, precision='highest')
    >>> resolve_policy(1000, 1100, name="cores", gate=False)
    Policy(name='cores', micro_batch=16, sample_block=1100, precision='highest')
    >>> resolve_policy(1000, 1100, name="batch", batch_bytes=2**31)
    Policy(name='batch', micro_batch=122, sample_block=1100, precision='highest')
    """
    arguments.integer("width", width)
    arguments.integer("samples", samples)
    given = {"micro_batch": micro_batch, "sample_block": sample_block, "batch_bytes": batch_bytes}
    for field, size in given.items():
        if size is not None:
            arguments.integer(field, size)
    if name is None:
        name = "cores" if jax.default_backend() == "cpu" else "batch"
    arguments.one_of("name", name, ("cores", "batch"))
    if name == "batch":
        if micro_batch is None:
            fitting = (batch_bytes or free_batch_bytes()) // (_CELL_BYTES * width * samples)
            micro_batch = max(1, min(_BATCH_CELLS, fitting))
        return Policy(name, micro_batch, min(sample_block or samples, samples))
    if not gate:
        micro_batch, sample_block = micro_batch or _GATELESS_CELLS, sample_block or samples
    if micro_batch is None:
        micro_batch = 8 if 8 * width * samples <= _CORE_FLOATS else 4
    if sample_block is None:
        blocks = math.ceil(micro_batch * width * samples / _CORE_FLOATS)
        sample_block = max(math.ceil(samples / blocks), min(64, samples))
    return Policy(name, micro_batch, min(sample_block, samples))


@functools.cache
def free_batch_bytes() -> int:
    """Bytes for one batch of the first device: half of its free memory, 2^31 if it does not say.

    Rounded down to a power of 2, so that a little more or less in use chooses the same; and asked
    once, before this program fills the memory itself.

    >>> free_batch_bytes() == 2 ** (free_batch_bytes().bit_length() - 1)
    True
    """
    found = jax.local_devices()[0].memory_stats()
    if not found or "bytes_limit" not in found:
        return _BATCH_BYTES
    free = int(_BATCH_SHARE * (found["bytes_limit"] - found.get("bytes_in_use", 0)))
    return 2 ** (max(free, 1).bit_length() - 1)


def halved(policy: Policy) -> Policy | None:
    """The policy with half as many cells that step together, None where it is one already.

    >>> halved(Policy("batch", 9, 1100)), halved(Policy("batch", 1, 1100))
    (Policy(name='batch', micro_batch=4, sample_block=1100, precision='highest'), None)
    """
    half = policy.micro_batch // 2
    return policy._replace(micro_batch=half) if half else None


def pin_numerics() -> None:
    """Settings that change results are the project's, whatever the environment says of them."""
    for name, value in _PINNED.items():
        if name in jax.config.values:  # Not every version of JAX has all of them.
            jax.config.update(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    if _ONE_KERNEL not in flags:  # Read when the backend starts.
        os.environ["XLA_FLAGS"] = f"{flags} {_ONE_KERNEL}=true".strip()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
