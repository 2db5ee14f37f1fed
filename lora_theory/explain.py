"""`python -m lora_theory.explain CHECKPOINT`: how `lora_plus` would train what is saved there.

Imported, it is the function itself: the command and `lora_theory.explain` share one name.
"""

import argparse
import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# No header of names is larger; a longer one is another kind of file.
_LARGEST_HEADER = 100 * 2**20


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
    parser.add_argument("--match", help="only leaves whose name holds this text, as lora")
    return parser


def _main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    from lora_theory.adapters.explain import explain

    if given.eta_b is None and given.ratio is None:
        given.ratio = 16.0
    try:
        params = _shapes(given.checkpoint)
        if given.match is not None:
            params = {name: leaf for name, leaf in params.items() if given.match in name}
            if not params:
                raise ValueError(f"match: must be in the name of a leaf (got {given.match!r})")
        rates = {"eta_b": given.eta_b, "ratio": given.ratio}
        print(explain(params, given.eta_a, **rates, labels=given.labels))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _shapes(path: Path) -> dict[str, Any]:
    """Names, shapes and types of what a checkpoint holds, without its arrays."""
    if not path.exists():
        raise ValueError(f"checkpoint: must exist (got {path})")
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if files:
        return {name: leaf for file in files for name, leaf in _safetensors(file).items()}
    return _orbax(path)


def _safetensors(path: Path) -> dict[str, Any]:
    """The header: its length in 8 bytes, then JSON of names, types and shapes."""
    import jax
    import jax.numpy as jnp

    types = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("no header")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {
            name: jax.ShapeDtypeStruct(tuple(map(int, entry["shape"])), _type(entry, types, jnp))
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"checkpoint: must be a safetensors file (got {path})") from error


def _type(entry: Any, types: Any, jnp: Any) -> Any:
    # Quantised and integer kinds do not train; which of them it is does not matter here.
    return jnp.dtype(types.get(entry["dtype"], "int8"))


def _orbax(path: Path) -> dict[str, Any]:
    """The newest step of a manager's folder, its only item, or the folder itself."""
    import jax
    import orbax.checkpoint as ocp

    steps = [child for child in path.iterdir() if child.name.isdigit()]
    place = max(steps, key=lambda child: int(child.name)) if steps else path
    while not (place / "_METADATA").exists():
        items = [child for child in place.iterdir() if (child / "_METADATA").exists()]
        if len(items) != 1:
            names = ", ".join(child.name for child in items) or "none"
            raise ValueError(
                f"checkpoint: must be an orbax checkpoint, or hold one (got {place}: {names})"
            )
        place = items[0]
    metadata = ocp.StandardCheckpointer().metadata(place.resolve())
    tree = getattr(metadata, "item_metadata", metadata)
    tree = getattr(tree, "tree", tree)
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        ".".join(_name(key) for key in keys): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for keys, leaf in flat
    }


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


if __name__ == "__main__":
    sys.exit(_main())

from lora_theory.adapters import explain as _module  # noqa: E402

sys.modules[__name__] = _module.explain  # type: ignore[assignment]
