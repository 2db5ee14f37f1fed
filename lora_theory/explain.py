"""`python -m lora_theory.explain CHECKPOINT`: how `lora_plus` would train what is saved there.

Imported, it is the function itself: the command and `lora_theory.explain` share one name.
"""

import argparse
import io
import json
import operator
import os
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# No header of names is larger; a longer one is another kind of file.
_LARGEST_HEADER = 100 * 2**20
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What is raised of files that are none of their kind.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_STEP = re.compile(r"(?:.*_)?([0-9]+)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lora_theory.explain",
        description="Show group, rate and weight decay of every leaf of a checkpoint.",
    )
    parser.add_argument("checkpoint", type=Path, help="an orbax folder, or safetensors")
    parser.add_argument(
        "--eta-a", type=float, default=1.0, help="rate of A (1: rates in its units)"
    )
    parser.add_argument("--eta-b", type=float, help="rate of B")
    parser.add_argument("--ratio", type=float, help="or rate of B in units of A's (16)")
    parser.add_argument("--labels", help="a preset, as lorax")
    parser.add_argument("--match", help="a pattern of leaf names, as *lora* or params")
    return parser


def _main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    from lora_theory.adapters.explain import explain
    from lora_theory.adapters.groups import matches

    if given.eta_b is None and given.ratio is None:
        given.ratio = 16.0
    # Signs that a terminal does not have are shown as codes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        params = _shapes(given.checkpoint)
        if given.match is not None:
            params = {name: leaf for name, leaf in params.items() if matches(given.match, name)}
            if not params:
                raise ValueError(f"match: must match a leaf, as *lora* (got {given.match!r})")
        if not params:
            raise ValueError(f"checkpoint: must hold arrays (got {given.checkpoint})")
        rates = {"eta_b": given.eta_b, "ratio": given.ratio}
        told = explain(params, given.eta_a, **rates, labels=given.labels)
        units = "\nrates are in units of A's" if given.eta_a == 1.0 else ""
        print(f"{told}{units}", flush=True)
    except BrokenPipeError:  # Who reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _shapes(path: Path) -> dict[str, Any]:
    """Names, shapes and types of what a checkpoint holds, without its arrays."""
    if not path.exists():
        raise ValueError(f"checkpoint: must exist (got {path})")
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        return _orbax(path)
    found: dict[str, Any] = {}
    for file in files:
        more = _safetensors(file)
        if both := sorted(found.keys() & more.keys()):
            raise ValueError(f"checkpoint: must have each leaf once (got {both[0]} in {file} too)")
        found |= more
    return found


def _safetensors(path: Path) -> dict[str, Any]:
    """The header: its length in 8 bytes, then JSON of names, types and shapes."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("no header")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _shaped(entry["shape"], entry["dtype"]) for name, entry in header.items()}
    except (*_DAMAGED, struct.error) as error:
        raise ValueError(f"checkpoint: must be a safetensors file (got {path})") from error


def _shaped(shape: Any, dtype: str) -> Any:
    import jax
    import jax.numpy as jnp

    sizes = [operator.index(size) for size in shape if not isinstance(shape, str)]
    if isinstance(shape, str) or min(sizes, default=0) < 0:
        raise ValueError("no shape")
    # Quantised and integer kinds do not train; which of them it is does not matter here.
    return jax.ShapeDtypeStruct(tuple(sizes), jnp.dtype(_TYPES.get(dtype, "int8")))


def _orbax(path: Path) -> dict[str, Any]:
    """The newest whole step of a manager's folder, its only item, or the folder itself."""
    import jax
    import orbax.checkpoint as ocp

    found, several = _item(path)
    if found is None:
        of = f", as one of {', '.join(several)}" if several else ""
        raise ValueError(f"checkpoint: must be an orbax checkpoint, or hold one{of} (got {path})")
    try:
        metadata = ocp.StandardCheckpointer().metadata(found.resolve())
        tree = getattr(metadata, "item_metadata", metadata)
        flat, _ = jax.tree_util.tree_flatten_with_path(getattr(tree, "tree", tree))
    except _DAMAGED as error:
        raise ValueError(f"checkpoint: must be an orbax checkpoint (got {found})") from error
    shaped = {}
    for keys, leaf in flat:
        names = [_name(key) for key in keys]
        # Flax saves a variable under the name "value"; texts and the like have no shape.
        own = names[:-1] if names[-1:] == ["value"] else names
        if hasattr(leaf, "shape"):
            shaped[".".join(own)] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return shaped


def _item(path: Path) -> tuple[Path | None, list[str]]:
    """The folder below `path` that has a tree: itself, of the newest step, or the only one; else
    those among which there is a choice.
    """
    if (path / "_METADATA").is_file():
        return path, []
    inside = [child for child in path.iterdir() if child.is_dir()]
    steps = {int(at[1]): child for child in inside if (at := _STEP.fullmatch(child.name))}
    for step in sorted(steps, reverse=True):
        found, several = _item(steps[step])
        if found or several:
            return found, several
    items = sorted(str(child) for child in inside if (child / "_METADATA").is_file())
    return (Path(items[0]), []) if len(items) == 1 else (None, items)


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


if __name__ == "__main__":
    sys.exit(_main())

from lora_theory.adapters.explain import explain  # noqa: E402

explain.explain = explain  # type: ignore[attr-defined]
explain.__spec__ = __spec__  # type: ignore[attr-defined]
sys.modules[__name__] = explain  # type: ignore[assignment]
