"""Is the λ that `suggest_rates` finds worth having? Toys over widths, against λ = 1 and λ tuned.

python -m experiments.ratio                 # as `make ratio`
python -m experiments.ratio seeds=200..223  # elsewhere: runs/ratio/seeds=200..223
python -m experiments.ratio replot=true     # only judge and draw
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.command_line import main
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import Need, cores
from experiments.lab.schema import ConfigError, drawing, integer, number, one_of, positive, science
from experiments.landscape import cost
from experiments.landscape.experiment import (
    EngineConfig,
    TaskConfig,
    batch_bytes_of,
    devices_of,
    drawn,
    halved,
    policy_of,
)
from experiments.registry import ModelConfig
from lora_theory.stats.intervals import Interval, quantile
from lora_theory.stats.slopes import Slope, fit
from lora_theory.stats.tuning import better, gain, tuned
from lora_theory.store.dataset import Layout
from lora_theory.terms import INIT_NAMES, INITS, PRETRAINED

if TYPE_CHECKING:
    from xarray import Dataset

_TITLE = "# The suggested λ on toys, over widths"
_NAMES = {"gd": "gradient descent", "sign": "sign updates", "adam": "Adam", "adamw": "AdamW"}
_LAYERS = {"feature_layer": "one layer", "two_layer": "two layers"}
# Core-seconds of a suggestion, most of which is tracing; measured on a virtual machine, AMD EPYC.
_PROBED = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """A model, what trains it, how it is probed, and its rates."""

    model: str = science(one_of(*_LAYERS))
    init: str = science(one_of(*INITS))
    weight: str = science(one_of(*PRETRAINED))
    optimizer: str = science(one_of(*_NAMES))
    kappa: float = science(positive())
    step: float = science(positive())
    log2_rates: tuple[int, ...] = science(schema.interval(-60, 60))


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What decides; see conf/ratio.yaml."""

    margin: float = drawing(positive())
    control: int = drawing(integer(4, 4**20))
    confidence: float = drawing(number(0.5, 0.999))
    resamples: int = drawing(integer(100, 10**5))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatioConfig(schema.Common):
    """Everything that decides the comparison."""

    widths: tuple[int, ...] = science(schema.ascending(1))
    rank: int = science(integer(1, 10**4))
    task: TaskConfig
    steps: int = science(integer(1, 10**6))
    seeds: schema.Seeds = science(schema.seeds(2))
    probing: int = science(integer(2, 10**4))
    toys: dict[str, ToyConfig] = science()
    log4_ratios: tuple[int, ...] = science(schema.interval(-15, 15))
    engine: EngineConfig
    judge: JudgeConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if len(self.widths) < 3:
            raise ConfigError("widths", "must be at least three, for a slope", list(self.widths))
        if self.rank > self.widths[0]:
            at_most = f"must be at most the least width = {self.widths[0]}"
            raise ConfigError("rank", at_most, self.rank)
        if len({toy.log2_rates[1] - toy.log2_rates[0] for toy in self.toys.values()}) != 1:
            ends = [list(toy.log2_rates) for toy in self.toys.values()]
            raise ConfigError("toys", "must have log2_rates of one length", ends)
        low, high = self.log4_ratios
        if not low <= 0 <= high:
            raise ConfigError("log4_ratios", "must have 0, λ = 1, within", list(self.log4_ratios))

    @property
    def ratios(self) -> np.ndarray:
        """λ of the grid."""
        low, high = self.log4_ratios
        return np.asarray(4.0 ** np.arange(low, high + 1))

    def log2_rates(self, toy: str) -> np.ndarray:
        """log2 (η_A η_B)^1/2."""
        low, high = self.toys[toy].log2_rates
        return np.arange(low, high + 1)

    def model(self, toy: str, width: int) -> ModelConfig:
        """The config of a toy's model at a width."""
        at = self.toys[toy]
        sizes = {"width": width, "rank": self.rank}
        return registry.model_config(at.model, init=at.init, weight=at.weight, **sizes)


class Piece(NamedTuple):
    """One seed of a toy at a width."""

    toy: str
    width: int
    seed: int


class Ratio(Experiment[RatioConfig, Piece, "Dataset"]):
    """A piece is what is suggested for a seed, and all λ at all rates."""

    name = "ratio"
    schema = RatioConfig

    def plan(self, cfg: RatioConfig) -> list[Part[Piece]]:
        """Seeds of a toy and width one after another, which share compilations."""
        pieces = {
            f"{toy}, n={width}, seed={seed}": Piece(toy, width, seed)
            for toy in cfg.toys
            for width in cfg.widths
            for seed in cfg.seeds
        }
        return [Part(self.name, pieces)]

    def memory(self, cfg: RatioConfig) -> list[Need]:
        """What the engine holds for the largest piece."""
        from experiments.landscape.memory import needs

        devices = cfg.engine.devices or cores()
        each = [
            needs(
                cfg.model(toy, cfg.widths[-1]), cfg.task, cfg.engine, cfg.steps, _runs(cfg), devices
            )
            for toy in cfg.toys
        ]
        return max(each, key=lambda needs: sum(need.bytes for need in needs))

    def tables(self, part: Part[Piece], cfg: RatioConfig) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        models = {toy.model for toy in cfg.toys.values()}
        used = {
            "MODELS": models,
            "TASKS": {cfg.task.name or registry.MODELS[model].task for model in models},
            "LOSSES": ["mse"],
            "OPTIMIZERS": {toy.optimizer for toy in cfg.toys.values()},
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: RatioConfig) -> dict[str, Any]:
        """The devices, and which policy the engine has there."""
        devices_of(cfg.engine)
        model = next(iter(cfg.toys.values())).model
        policy = policy_of(cfg.engine, model, cfg.widths[-1], cfg.task)
        return {"engine": {"policy": policy.name, **batch_bytes_of(cfg.engine, policy.name)}}

    def run(self, piece: Piece, cfg: RatioConfig) -> Arrays:
        """Scores of the grid, beside what is suggested, and of that as it is."""
        from lora_theory.keys import seed_key
        from lora_theory.train.sweep import sweep_cells

        toy = cfg.toys[piece.toy]
        problem = drawn(cfg.model(piece.toy, piece.width), cfg.task)(seed_key(piece.seed))
        eta_a, eta_b = suggested(problem, toy, cfg)
        units = np.exp2(cfg.log2_rates(piece.toy).astype(float))
        beside = eta_b / eta_a * _beside(cfg)
        cells = np.concatenate(
            [_cells(np.concatenate([cfg.ratios, beside]), units), [[eta_a, eta_b]]]
        )
        curves = sweep_cells(
            problem,
            cells,
            optimizer=registry.optimizer(toy.optimizer),
            loss=registry.resolve(registry.LOSSES["mse"]),
            steps=cfg.steps,
            policy=policy_of(cfg.engine, toy.model, piece.width, cfg.task),
            devices=devices_of(cfg.engine),
        )
        fell = _fell(curves.test_loss[:, 0], curves.test_loss[:, -1])
        lines = fell[:-1].reshape(-1, len(units))
        arrays = {
            "score": lines[: len(cfg.ratios)],
            "beside": lines[len(cfg.ratios) :],
            "untuned": fell[-1],
            "log2_rate": np.log2([eta_a, eta_b]),
        }
        return {name: np.asarray(value, np.float32)[None] for name, value in arrays.items()}

    def halved(self, piece: Piece, cfg: RatioConfig) -> RatioConfig | None:
        """With half as many cells that step together."""
        policy = policy_of(cfg.engine, cfg.toys[piece.toy].model, piece.width, cfg.task)
        engine = halved(cfg.engine, policy)
        return None if engine is None else dataclasses.replace(cfg, engine=engine)

    def core_seconds(self, piece: Piece, cfg: RatioConfig) -> float:
        """All its runs, and the probing."""
        model, optimizer = cfg.model(piece.toy, piece.width), cfg.toys[piece.toy].optimizer
        return _PROBED + cost.core_seconds(model, cfg.task, optimizer, _runs(cfg), cfg.steps)

    def group(self, piece: Piece) -> tuple[str, int]:
        """Seeds share a compilation."""
        return piece.toy, piece.width

    def layout(self, part: Part[Piece], cfg: RatioConfig) -> Layout:
        """Scores over toys, widths, seeds, λ and rates."""
        coords: dict[str, Any] = {
            "toy": list(cfg.toys),
            "n": list(cfg.widths),
            "seed": list(cfg.seeds),
            "ratio": list(cfg.ratios),
            "times": list(_beside(cfg)),
            "place": range(len(cfg.log2_rates(next(iter(cfg.toys))))),
            "factor": ["A", "B"],
        }
        each = ("toy", "n", "seed")
        dims: dict[str, tuple[str, ...]] = {
            "score": (*each, "ratio", "place"),
            "beside": (*each, "times", "place"),
            "untuned": each,
            "log2_rate": (*each, "factor"),
        }
        variables = {name: (along, "float32") for name, along in dims.items()}
        return Layout(coords, variables, each)

    def check(
        self, part: Part[Piece], arrays: Arrays, cfg: RatioConfig, piece: Piece | None = None
    ) -> None:
        """Scores of at least 0, and finite rates."""
        for name in ("score", "beside", "untuned"):
            if not (np.isfinite(arrays[name]) & (arrays[name] >= 0)).all():
                raise ValueError(f"{name}: must be finite and at least 0")
        if not np.isfinite(arrays["log2_rate"]).all():
            raise ValueError("log2_rate: must be finite")

    def report(self, part: Part[Piece], results: "Dataset", cfg: RatioConfig) -> Report:
        """The table, the slopes and the picture."""
        from lora_theory.plots.ratio import Line, Panel, ratio_figure

        found = {toy: [judged(results, toy, n, cfg) for n in cfg.widths] for toy in cfg.toys}
        said = lines(found, results, cfg)
        panels = [
            Panel(
                _name(toy, cfg).replace(", Init", ",\nInit").replace(", both", ",\nboth"),
                [Line(n, at.medians, at.suggested) for n, at in zip(cfg.widths, row, strict=True)],
            )
            for toy, row in found.items()
        ]
        figure = ratio_figure(panels, cfg.ratios, what="decades that the test loss fell")
        page = "\n".join([_TITLE, "", *said]) + "\n"
        return Report(said, {self.name: figure}, kept={f"{self.name}.md": page})


def suggested(problem: Any, toy: ToyConfig, cfg: RatioConfig) -> tuple[float, float]:
    """η_A and η_B, probed on the training set."""
    import jax

    from lora_theory.train.suggest import suggest_rates

    model, data = problem
    with jax.default_matmul_precision("highest"):
        found = suggest_rates(
            model,
            [(data.x_train, data.y_train)] * cfg.probing,
            optimizer=registry.optimizer(toy.optimizer),
            kappa=toy.kappa,
            step=toy.step,
            steps=cfg.probing,
            init=toy.init,
        )
    return found.eta_a, found.eta_b


def _beside(cfg: RatioConfig) -> np.ndarray:
    """In units of the suggested λ: itself, and the controls."""
    return np.array([1.0, 1 / cfg.judge.control, cfg.judge.control])


def _cells(ratios: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(η_A, η_B) of all λ, and of all η = (η_A η_B)^1/2 of each."""
    root = np.sqrt(ratios)[:, None]
    return np.stack([units / root, units * root], axis=-1).reshape(-1, 2)


def _fell(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Decades that a loss fell; 0 of a run that diverged or ended above its start."""
    with np.errstate(invalid="ignore", divide="ignore"):
        fell = np.log10(start / end)
    return np.where(np.isfinite(fell), np.maximum(fell, 0), 0)


def _runs(cfg: RatioConfig) -> int:
    rates = len(cfg.log2_rates(next(iter(cfg.toys))))
    return (len(cfg.ratios) + len(_beside(cfg))) * rates + 1


# --- What is said ---


class Found(NamedTuple):
    """What was found of a toy at a width.

    Attributes:
        suggested: (S,) log2 of the suggested λ.
        best: λ with the highest median over seeds at its best rate.
        medians: (R,) of each λ at its best rate, chosen and valued on all seeds.
        over_one: what the suggested λ gains over λ = 1, each with its rate tuned.
        over_tuned: over λ tuned too.
        untuned: what the suggested rates as they are gain over λ = 1 with its rate tuned.
        medians_of: the medians over seeds of these three.
        border: which of λ = 1 and the suggested λ have their best rate at the border of the grid.
        controls: what λ far below and far above the suggested one gain over it.
    """

    suggested: np.ndarray
    best: float
    medians: np.ndarray
    over_one: Interval
    over_tuned: Interval
    untuned: Interval
    medians_of: tuple[Interval, Interval, Interval]
    border: tuple[str, ...]
    controls: tuple[Interval, Interval]

    def caught(self, margin: float) -> bool:
        """Whether the judge sees that one of the controls is worse."""
        return "worse" in [better(control, margin) for control in self.controls]


def judged(results: "Dataset", toy: str, width: int, cfg: RatioConfig) -> Found:
    """The statistics of a toy at a width."""
    data = results.sel(toy=toy, n=width)
    dims = ("seed", ..., "place")
    score = data.score.transpose(*dims).values.astype(float)
    beside = data.beside.transpose(*dims).values.astype(float)
    logs = data.log2_rate.transpose("seed", "factor").values.astype(float)
    options: Any = {"resamples": cfg.judge.resamples, "confidence": _confidence(cfg)}
    one = score[:, list(cfg.ratios).index(1.0)]
    medians = np.array([tuned(score[:, i]).score.value for i in range(score.shape[1])])
    suggested, untuned = beside[:, 0], data.untuned.values.astype(float)[:, None]
    compared = (suggested, one), (suggested, score.reshape(len(score), -1)), (untuned, one)
    over_one, over_tuned, as_it_is = (gain(*pair, **options) for pair in compared)
    of_one, of_tuned, of_untuned = (gain(*pair, median=True, **options) for pair in compared)
    return Found(
        logs[:, 1] - logs[:, 0],
        float(cfg.ratios[np.argmax(medians)]),
        medians,
        over_one,
        over_tuned,
        as_it_is,
        (of_one, of_tuned, of_untuned),
        tuple(
            name
            for name, scores in (("λ = 1", one), ("the suggested λ", suggested))
            if tuned(scores).border
        ),
        (gain(beside[:, 1], beside[:, 0], **options), gain(beside[:, 2], beside[:, 0], **options)),
    )


def _confidence(cfg: RatioConfig) -> float:
    """Of each comparison, such that all of one kind together have the config's (Bonferroni)."""
    return 1 - (1 - cfg.judge.confidence) / (len(cfg.toys) * len(cfg.widths))


def lines(found: Mapping[str, list[Found]], results: "Dataset", cfg: RatioConfig) -> list[str]:
    """All that is said, as Markdown."""
    margin = cfg.judge.margin
    said = [
        f"λ that `suggest_rates` finds with T = {cfg.probing}, against λ = 1 and against the best "
        f"of {len(cfg.ratios)} λ from {cfg.ratios[0]:g} to {cfg.ratios[-1]:g}, each with its rate "
        f"tuned; {len(cfg.seeds)} seeds from {cfg.seeds[0]} on, {cfg.steps} steps, rank "
        f"{cfg.rank}. The score is how many decades the test loss fell; differences are means over "
        "seeds that did not choose the setting, with the interval of "
        f"{100 * cfg.judge.confidence:g} % of a whole column (Bonferroni).",
        "",
        "Medians over seeds stand beside the means, which a few seeds that diverge at the rate "
        "of the others move by half a decade; they were added after the run and decide nothing.",
        "",
        "| toy | n | λ suggested, median (from, to) | λ best | less λ = 1: mean | verdict | median "
        "| less λ tuned: mean | median | rates as suggested, less λ = 1: mean | median |",
        "|---" * 11 + "|",
    ]
    for toy, row in found.items():
        for width, at in zip(cfg.widths, row, strict=True):
            said.append(_row(_name(toy, cfg), width, at, cfg))
    said += ["", "Exponents in n of what is suggested, ± standard errors:", ""]
    for toy in cfg.toys:
        a, b, ratio = slopes(results, toy, cfg)
        values = f"η_A {a}, η_B {b}, λ {ratio}".replace("-", "−")
        said.append(f"- {_name(toy, cfg)}: {values}")
    said += ["", "What it says:", ""]
    for verdict in ("better", "worse", "no difference beyond the margin", "undecided"):
        which = [
            f"{_name(toy, cfg)}, n = {width}"
            for toy, row in found.items()
            for width, at in zip(cfg.widths, row, strict=True)
            if better(at.over_one, margin) == verdict
        ]
        if which:
            said.append(f"- the suggested λ against λ = 1: **{verdict}** on {'; '.join(which)}.")
    blind = [
        f"{_name(toy, cfg)}, n = {width}"
        for toy, row in found.items()
        for width, at in zip(cfg.widths, row, strict=True)
        if not at.caught(margin)
    ]
    edges = [
        f"{which} ({_name(toy, cfg)}, n = {width})"
        for toy, row in found.items()
        for width, at in zip(cfg.widths, row, strict=True)
        for which in at.border
    ]
    if edges:
        said.append(f"- A better rate may lie beyond the grid of {'; '.join(edges)}.")
    control = f"λ {cfg.judge.control} times the suggested one, or so many times smaller"
    said.append(
        f"- Control: {control}, must be worse. "
        + (f"**Not seen** on {'; '.join(blind)}: λ hardly matters there." if blind else "It is.")
    )
    return said


def slopes(results: "Dataset", toy: str, cfg: RatioConfig) -> tuple[Slope, Slope, Slope]:
    """Exponents in n of the suggested η_A, η_B and λ."""
    logs = results.log2_rate.sel(toy=toy).transpose("factor", "n", "seed").values.astype(float)
    widths = np.log2(np.array(cfg.widths, float))
    a, b = logs
    return fit(widths, a), fit(widths, b), fit(widths, b - a)


def _row(name: str, width: int, at: Found, cfg: RatioConfig) -> str:
    middle, low, high = (2 ** float(v) for v in (quantile(at.suggested), *_ends(at.suggested)))
    cells = [
        name, str(width), f"{middle:.3g} ({low:.2g}, {high:.2g})", f"{at.best:g}",
        _shown(at.over_one), f"**{better(at.over_one, cfg.judge.margin)}**",
        _shown(at.medians_of[0]), _shown(at.over_tuned), _shown(at.medians_of[1]),
        _shown(at.untuned), _shown(at.medians_of[2]),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _shown(found: Interval) -> str:
    value, low, high = map(float, found)
    words = f"{value:+.2f} " + (f"[{low:+.2f}, {high:+.2f}]" if low == low else "(no interval)")
    return words.replace("-", "−")


def _name(toy: str, cfg: RatioConfig) -> str:
    at = cfg.toys[toy]
    frozen = "" if at.weight == "zero" else ", W* random"
    return f"{_LAYERS[at.model]}, {_NAMES[at.optimizer]}, {INIT_NAMES[at.init]}{frozen}"


if __name__ == "__main__":
    main(Ratio())
