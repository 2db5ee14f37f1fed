"""Whether the arrays of a piece are what measuring it gives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.claims import exact, reduction, settings
from experiments.claims.landscapes import Window
from experiments.claims.settings import (
    Approach,
    Diagram,
    Escapes,
    Limits,
    Piece,
    Splits,
    Symmetries,
)
from lora_theory.terms import Verdict
from lora_theory.theory.claims import Case, Exponents, Reduction

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
        points = (len(cfg.constants.pairs), len(piece.points))
        for name, low, high in (("verdict", -1, len(Verdict) - 1), ("from_t", 0, 2**53)):
            _check_shape(arrays, name, points, "int64")
            if not ((arrays[name] >= low) & (arrays[name] <= high)).all():
                raise ValueError(f"{name}: must be from {low} to {high}")
    elif isinstance(piece, Limits):
        for name in piece.cases[0].predicted:
            both = (1 + len(piece.cases), len(reduction.lazy_pairs(cfg)), len(cfg.seeds["limit"]))
            _check_shape(arrays, name, both, "float64")
    elif isinstance(piece, Escapes):
        for name in ("slopes", "product", "y"):
            runs = (len(cfg.constants.pairs), len(cfg.seeds["map"]))
            _check_shape(arrays, name, runs, "float64")
        if not ((arrays["product"] > 0) & np.isfinite(arrays["product"])).all():
            raise ValueError("product: must be positive and finite")
        if not (np.isfinite(arrays["y"]) & (arrays["y"] != 0)).all():
            raise ValueError("y: must be finite and not 0")
    elif isinstance(piece, Symmetries | Splits | Reduction):
        count = 1 if isinstance(piece, Reduction) else len(piece.cases)
        _check_shape(arrays, "gaps", (count,), "float64")
        if not (arrays["gaps"] >= 0).all():
            raise ValueError("gaps: negative")
    elif isinstance(piece, Approach):
        curve = (1, 1, len(settings.APPROACH_WIDTHS), len(cfg.seeds["map"]))
        _check_logs(arrays, curve, [(piece.quantity, piece.t)])
    else:
        runs = (len(piece.settings), len(cfg.constants.pairs))
        sizes = len(settings.log2_sizes(piece, cfg))
        asked = [
            (name, case.t)
            for case in cases
            if isinstance(case, Exponents) and case.setting in piece.settings
            for name in case.predicted
        ]
        _check_logs(arrays, (*runs, sizes, len(cfg.seeds[piece.model])), asked)
        if piece.model in exact.MODELS:
            windows = len(exact.starts_of_windows(piece.settings[0], cfg))
            for name in dict.fromkeys(name for name, _ in asked):
                steps = arrays[name].shape[-1]
                _check_shape(arrays, f"way {name}", (*runs, windows, steps), "float64")


def _check_logs(arrays: Arrays, shape: tuple[int, ...], asked: Sequence[tuple[str, int]]) -> None:
    """Every size that is asked for, at its t, and all of one shape but for the steps."""
    for name, t in asked:
        if name not in arrays or arrays[name].ndim != len(shape) + 1 or arrays[name].shape[-1] < t:
            raise ValueError(f"{name}: missing at t = {t}")
    steps = arrays[asked[0][0]].shape[-1:]
    for name in arrays:
        if not name.startswith("way "):
            _check_shape(arrays, name, (*shape, *steps), "float64")


def _check_shape(arrays: Arrays, name: str, shape: tuple[int, ...], dtype: str) -> None:
    if name not in arrays:
        raise ValueError(f"{name}: missing")
    if arrays[name].shape != shape or arrays[name].dtype != dtype:
        got = f"{arrays[name].dtype} of shape {arrays[name].shape}"
        raise ValueError(f"{name}: must be {dtype} of shape {shape} (got {got})")
