"""Whether the arrays of a piece are what measuring it gives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import registry
from experiments.claims import settings
from experiments.claims.landscapes import Window
from experiments.claims.settings import Approach, Diagram, Group, Piece, Symmetries
from lora_theory.terms import Verdict
from lora_theory.theory.claims import Case, Exponents

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

Arrays = Mapping[str, np.ndarray]


def check_measured(
    piece: Piece, arrays: Arrays, cfg: "ClaimsConfig", cases: Sequence[Case]
) -> None:
    """Refuse arrays that are not those of a piece.

    Args:
        piece: what was measured.
        arrays: what is said to come of it.
        cfg: widths and seeds.
        cases: which quantities are asked for, at which steps.

    Raises:
        ValueError: what is wrong, by name.
    """
    if isinstance(piece, Window):
        at = cfg.landscapes[piece.family.model]
        eta_a, eta_b, eta = (len(rates) for rates in at.rates)
        for name, shape in (("start", ()), ("plane", (eta_a, eta_b)), ("line", (eta,))):
            _check_shape(arrays, name, (len(at.seeds), *shape), "float32")
            if not (np.isnan(arrays[name]) | np.isfinite(arrays[name]) & (arrays[name] >= 0)).all():
                raise ValueError(f"{name}: negative or infinite")
    elif isinstance(piece, Diagram):
        for name, low, high in (("verdict", -1, len(Verdict) - 1), ("from_t", 0, 2**53)):
            _check_shape(arrays, name, (len(piece.points),), "int64")
            if not ((arrays[name] >= low) & (arrays[name] <= high)).all():
                raise ValueError(f"{name}: must be from {low} to {high}")
    elif isinstance(piece, Symmetries):
        _check_shape(arrays, "gaps", (len(piece.cases),), "float64")
        if (arrays["gaps"] < 0).any():
            raise ValueError("gaps: negative")
    else:
        _check_tables(piece, arrays, cfg, cases)


def _check_tables(
    piece: Group | Approach, arrays: Arrays, cfg: "ClaimsConfig", cases: Sequence[Case]
) -> None:
    widths, model = _widths(piece, cfg)
    _check_shape(arrays, "log2_widths", (len(widths),), "float64")
    if not np.allclose(arrays["log2_widths"], widths, 1e-9, 0):
        raise ValueError("log2_widths: not those of the config")
    if "steps" not in arrays or arrays["steps"].ndim != 1 or arrays["steps"].dtype != "int64":
        raise ValueError("steps: must be one row of integers")
    count = 1 if isinstance(piece, Approach) else len(piece.settings)
    shape = (count, len(widths), len(cfg.seeds[model]), len(arrays["steps"]))
    for name in arrays.keys() - {"log2_widths", "steps"}:
        _check_shape(arrays, name, shape, "float64")
    for name, t in _asked(piece, cases):
        if name not in arrays or t not in arrays["steps"]:
            raise ValueError(f"{name}: missing at t = {t}")


def _widths(piece: Group | Approach, cfg: "ClaimsConfig") -> tuple[np.ndarray, str]:
    """log2 of the sizes at which a piece is measured, and whose seeds it has."""
    if isinstance(piece, Approach):
        return settings.APPROACH_WIDTHS, "map"
    if piece.model == "map":
        return np.asarray(cfg.map_log2_widths), "map"
    return np.log2(getattr(cfg, registry.PROBES[piece.model].varies[1])), piece.model


def _asked(piece: Group | Approach, cases: Sequence[Case]) -> list[tuple[str, int]]:
    if isinstance(piece, Approach):
        return [(piece.quantity, piece.t)]
    mine = [c for c in cases if isinstance(c, Exponents) and c.setting in piece.settings]
    return [(name, case.t) for case in mine for name in case.predicted]


def _check_shape(arrays: Arrays, name: str, shape: tuple[int, ...], dtype: str) -> None:
    if name not in arrays:
        raise ValueError(f"{name}: missing")
    if arrays[name].shape != shape or arrays[name].dtype != dtype:
        got = f"{arrays[name].dtype} of shape {arrays[name].shape}"
        raise ValueError(f"{name}: must be {dtype} of shape {shape} (got {got})")
