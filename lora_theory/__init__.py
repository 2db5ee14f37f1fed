"""lora_theory: LoRA+ for JAX, and the experiments that verify its theory."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_theory.data import linear_task as linear_task
    from lora_theory.data import sine_task as sine_task
    from lora_theory.lora import LoRA as LoRA
    from lora_theory.models import LinearToy as LinearToy
    from lora_theory.models import TwoLayerToy as TwoLayerToy
    from lora_theory.optim import lora_labels as lora_labels
    from lora_theory.optim import lora_plus as lora_plus
    from lora_theory.results import Results as Results

__version__ = "0.1.0"

# Loaded on first use, so that `import lora_theory.config` starts neither JAX nor Flax.
_HOME = {
    "LinearToy": "models",
    "LoRA": "lora",
    "Results": "results",
    "TwoLayerToy": "models",
    "linear_task": "data",
    "lora_labels": "optim",
    "lora_plus": "optim",
    "sine_task": "data",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"lora_theory.{_HOME[name]}"), name)
    raise AttributeError(f"module 'lora_theory' has no attribute {name!r}")
