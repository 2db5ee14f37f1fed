"""What the pieces of the claims take of one core's time, as measured."""

from typing import TYPE_CHECKING

from experiments import registry
from experiments.claims.landscapes import Window
from experiments.claims.settings import Approach, Diagram, Group, Piece, Symmetries
from experiments.landscape import cost

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

# Core-seconds, on a virtual machine, AMD EPYC: compiling one size; a setting, seed and step for
# each n r N; compiling a landscape.
_COMPILING = 3.7
_SIZE = 1e-8
_COMPILING_WINDOW = 3.0
# A setting and seed of the scalar map; a symmetry; a point and seed of a phase diagram; a curve.
_MAP = 5e-5
_SYMMETRY = 0.65
_POINT = 2e-5
_CURVE = 0.005


def core_seconds(piece: Piece, cfg: "ClaimsConfig") -> float:
    """What a piece takes, compiling included, which is most of it."""
    if isinstance(piece, Window):
        return _of_window(piece, cfg)
    if isinstance(piece, Diagram):
        return _POINT * len(piece.points) * len(cfg.seeds["lattice"])
    if isinstance(piece, Approach):
        return _CURVE
    if isinstance(piece, Symmetries):
        return _SYMMETRY * len(piece.cases)
    runs = len(piece.settings) * len(cfg.seeds[piece.model])
    return _MAP * runs if piece.model == "map" else _of_group(piece, runs, cfg)


def _of_window(piece: Window, cfg: "ClaimsConfig") -> float:
    """Nearly no run diverges within so few steps."""
    model, at = registry.MODELS[piece.family.model], cfg.landscapes[piece.family.model]
    config = model.schema(name=piece.family.model, width=piece.width, init=piece.family.init)
    size = cost.Size(piece.width, getattr(config, "rank", 1), at.n_train + 1)
    eta_a, eta_b, eta = (len(rates) for rates in at.rates)
    runs = len(at.seeds) * (eta_a * eta_b + eta)
    return _COMPILING_WINDOW + runs * (at.steps + 1) * cost.of_one(cost.COSTS[model.gate], size)


def _of_group(piece: Group, runs: int, cfg: "ClaimsConfig") -> float:
    probe = registry.PROBES[piece.model]
    varied, sizes = probe.varies[0], getattr(cfg, probe.varies[1])
    samples = probe.task_options["n_train"] + probe.task_options["n_test"]
    fields = {"width": cfg.rank_width, **probe.options}
    configs = [registry.model_config(probe.model, **fields | {varied: size}) for size in sizes]
    weights = sum(config.width * getattr(config, "rank", 1) for config in configs)
    return _COMPILING * len(sizes) + _SIZE * runs * cfg.steps * samples * weights
