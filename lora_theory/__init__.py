"""lora_theory: LoRA+ for JAX, and what verifies its theory.

==============================  ===================================================================
package                         what is in it
==============================  ===================================================================
`terms`, `arrays`, `arguments`  the words, the symbols, and what is said of arguments
`keys`                          from a seed to everything random
`theory`                        what is said: exponents, update rules, claims, regions
`exact`                         models that are solved rather than trained: the scalar map of eq. 2
`adapters`                      the LoRA layer, `lora_plus`, which leaf is A and which is B
`models`, `data`                the toy models and their tasks
`train`                         devices, the sweep engine, the coordinate check
`stats`                         intervals, slopes, equivalence, landscapes
`store`                         files, pieces, data sets, provenance
`plots`                         figures
==============================  ===================================================================

The public names are those of `__init__.pyi`; each is loaded on first use, so that importing the
package starts neither JAX nor Flax.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.2.0"

_HOME = {
    name.name: statement.module
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text()).body
    if isinstance(statement, ast.ImportFrom)
    for name in statement.names
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(str(_HOME[name])), name)
    raise AttributeError(f"module 'lora_theory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
