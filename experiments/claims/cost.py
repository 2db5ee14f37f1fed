"""What the pieces of the claims take of one core's time, as measured."""

from typing import TYPE_CHECKING

from experiments import registry
from experiments.claims import exact, reduction
from experiments.claims.landscapes import Window
from experiments.claims.settings import (
    Approach,
    Diagram,
    Escapes,
    Group,
    Limits,
    Piece,
    Splits,
    Symmetries,
)
from experiments.landscape import cost
from lora_theory.theory.claims import Reduction

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

# Core-seconds, on a virtual machine, AMD EPYC: compiling one width; a setting, seed and step for
# each n r N; compiling a landscape.
_COMPILING = 3.7
_SIZE = 1e-8
_COMPILING_WINDOW = 3.0
# A run (a seed, width, pair of constants) of an exact model, by step; by what a run is dearer whose
# rates are asked for.
_RUN = {"map": 3e-6, "layer_map": 2e-5, "rank_map": 2e-4, "two_layer_limit": 2e-4}
_ASKED = 8.0
# A symmetry; a model under an optimizer, however split; a point, seed and pair of constants of a
# phase diagram; a curve; a run of a reduction.
_SYMMETRY = 0.65
_SPLIT = 1.0
_POINT = {"map": 3e-5, "layer_map": 1.6e-4, "two_layer_limit": 2e-3}
_CURVE = 0.005
_ESCAPE = 2.0
_REDUCTION = 2e-4
_LIMIT_RUN = 1e-3


def core_seconds(piece: Piece, cfg: "ClaimsConfig") -> float:
    """What a piece takes, compiling included."""
    constants = len(cfg.constants.pairs)
    if isinstance(piece, Window):
        return _of_window(piece, cfg)
    if isinstance(piece, Diagram):
        return _POINT[piece.model] * len(piece.points) * len(cfg.seeds["lattice"]) * constants
    if isinstance(piece, Approach):
        return _CURVE
    if isinstance(piece, Escapes):
        return _ESCAPE
    if isinstance(piece, Symmetries):
        return _SYMMETRY * len(piece.cases)
    if isinstance(piece, Splits):
        return _SPLIT * len({case.model for case in piece.cases})
    if isinstance(piece, Limits):
        compared = len(reduction.lazy_pairs(cfg)) * len(cfg.seeds["limit"])
        return _COMPILING + _LIMIT_RUN * compared * max(piece.cases[0].steps)
    if isinstance(piece, Reduction):
        runs = len(piece.inits) * len(piece.rates) * constants * reduction.SEEDS
        return (_COMPILING + _REDUCTION * runs) * len(reduction.WIDTHS)
    return _of_exact(piece, cfg) if piece.model in exact.MODELS else _of_vectors(piece, cfg)


def _of_window(piece: Window, cfg: "ClaimsConfig") -> float:
    """Nearly no run diverges within so few steps."""
    model, at = registry.MODELS[piece.family.model], cfg.landscapes[piece.family.model]
    config = model.schema(name=piece.family.model, width=piece.width, init=piece.family.init)
    size = cost.Size(piece.width, getattr(config, "rank", 1), at.n_train + 1)
    eta_a, eta_b, eta = (len(rates) for rates in at.rates)
    runs = len(at.seeds) * (eta_a * eta_b + eta)
    return _COMPILING_WINDOW + runs * (at.steps + 1) * cost.of_one(cost.COSTS[model.gate], size)


def _of_exact(piece: Group, cfg: "ClaimsConfig") -> float:
    setting = piece.settings[0]
    ranks = len(exact.ranks(setting, cfg)) if piece.model == "rank_map" else 1
    seeds = len(cfg.seeds[piece.model])
    decide = len(exact.decisive(setting, cfg)) * seeds
    on_the_way = len(exact.way(setting, cfg)) * min(seeds, cfg.way_seeds)
    runs = (decide + on_the_way) * ranks * len(cfg.constants.pairs) * len(piece.settings)
    times = _ASKED if setting.asked else exact.STEPS[piece.model]
    return _RUN[piece.model] * runs * times


def _of_vectors(piece: Group, cfg: "ClaimsConfig") -> float:
    probe = registry.PROBES[piece.model]
    samples = piece.settings[0].samples + probe.task_options["n_test"]
    fields = probe.options
    configs = [registry.model_config(probe.model, **fields, width=width) for width in cfg.widths]
    weights = sum(config.width * getattr(config, "rank", 1) for config in configs)
    runs = len(piece.settings) * len(cfg.seeds[piece.model]) * len(cfg.constants.pairs)
    return _COMPILING * len(cfg.widths) + _SIZE * runs * cfg.steps * samples * weights
