"""The worked example of `lora_plus`: a small transformer over rates η and ratios λ.

python -m experiments.transformer                         # as `make transformer`
python -m experiments.transformer model.width=128 seeds=8 # elsewhere: runs/transformer/…
python -m experiments.transformer replot=true             # only draw

What is trained, and how, stands in `lora_theory.train.finetune`, which is short enough to copy.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import finetuning
from experiments.finetuning import ModelConfig, TaskConfig, TrainingConfig
from experiments.lab import schema
from experiments.lab.command_line import main
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import Need
from experiments.lab.schema import ConfigError, Rule, drawing, integer, number, science
from lora_theory.stats.intervals import Interval, quantile
from lora_theory.stats.tuning import Tuned, gain, gains, tuned
from lora_theory.store.dataset import Layout

if TYPE_CHECKING:
    from xarray import Dataset

_VERDICTS = {"holds": "confirmed", "fails": "not confirmed", "undecided": "undecided"}
_TITLE = "# LoRA+ on a small transformer"
_CONTROL = "head alone"


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What decides; see conf/transformer.yaml."""

    small: int = drawing(integer(-60, 60))
    margin: float = drawing(number(0, 1))
    confidence: float = drawing(number(0.5, 0.999))
    resamples: int = drawing(integer(100, 10**5))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(schema.Common):
    """Everything that decides the example."""

    task: TaskConfig
    model: ModelConfig
    training: TrainingConfig
    log2_rates: tuple[int, ...] = science(schema.interval(-60, 60))
    ratios: tuple[float, ...] = science(
        Rule(
            "must be ascending numbers of which the first are 0 and 1, and at least one more",
            lambda v: len(v) > 2 and v[:2] == (0, 1) and list(v) == sorted({*v}) and v[-1] <= 1e6,
        )
    )
    seeds: schema.Seeds = science(schema.seeds(2))
    judge: JudgeConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if self.judge.small not in self.log2:
            low, high = self.log2_rates
            words = f"must be from {low} to {high}, as log2_rates"
            raise ConfigError("judge.small", words, self.judge.small)

    @property
    def log2(self) -> list[int]:
        """log2 η, of all rates."""
        low, high = self.log2_rates
        return list(range(low, high + 1))


class Piece(NamedTuple):
    """All rates of one seed and ratio."""

    seed: int
    ratio: float


class Transformer(Experiment[TransformerConfig, Piece, "Dataset"]):
    """A piece is all rates of a seed and a ratio; every piece runs the same program."""

    name = "transformer"
    schema = TransformerConfig

    def plan(self, cfg: TransformerConfig) -> list[Part[Piece]]:
        """Seeds, and ratios of each."""
        pieces = {
            f"seed={seed},ratio={ratio:g}": Piece(seed, ratio)
            for seed in cfg.seeds
            for ratio in cfg.ratios
        }
        return [Part(self.name, pieces)]

    def memory(self, cfg: TransformerConfig) -> list[Need]:
        """The sequences, and the largest activations of a step."""
        return finetuning.needs(cfg.task, cfg.model, cfg.training)

    def start(self, cfg: TransformerConfig) -> dict[str, Any]:
        """Devices; which of them runs a piece changes no bit."""
        finetuning.free_devices()
        return {}

    def workers(self) -> int:
        """One thread a device."""
        return finetuning.free_devices().qsize()

    def group(self, piece: Piece) -> int:
        """Seeds run side by side."""
        return piece.seed

    def core_seconds(self, piece: Piece, cfg: TransformerConfig) -> float:
        """All rates, step by step; compiling, some ten core-seconds a process, is left out."""
        return len(cfg.log2) * finetuning.core_seconds(cfg.task, cfg.model, cfg.training)

    def run(self, piece: Piece, cfg: TransformerConfig) -> Arrays:
        """Test accuracy and loss of every rate; 0 and NaN of a run that diverged."""
        import jax

        from lora_theory.keys import seed_key

        devices = finetuning.free_devices()
        device = devices.get()
        try:
            rates = np.exp2(np.array(cfg.log2, np.float32))
            given = seed_key(piece.seed), rates, np.float32(piece.ratio)
            with jax.default_matmul_precision("highest"):
                program = finetuning.program(cfg.task, cfg.model, cfg.training)
                score, loss = program(*jax.device_put(given, device))
            return {"accuracy": np.asarray(score)[None], "test_loss": np.asarray(loss)[None]}
        finally:
            devices.put(device)

    def layout(self, part: Part[Piece], cfg: TransformerConfig) -> Layout:
        """Accuracy and loss over seeds, ratios and rates."""
        coords: dict[str, Any] = {
            "seed": list(cfg.seeds),
            "ratio": list(cfg.ratios),
            "log2_rate": cfg.log2,
        }
        dims = ("seed", "ratio", "log2_rate")
        names = ("accuracy", "test_loss")
        return Layout(coords, dict.fromkeys(names, (dims, "float32")), ("seed", "ratio"))

    def check(
        self,
        part: Part[Piece],
        arrays: Arrays,
        cfg: TransformerConfig,
        piece: Piece | None = None,
    ) -> None:
        """Accuracies are shares of the test sequences, losses at least 0, or none and 0."""
        hits, loss = arrays["accuracy"] * cfg.task.n_test, arrays["test_loss"]
        whole = (arrays["accuracy"] >= 0) & (arrays["accuracy"] <= 1)
        if not (whole & (np.abs(hits - np.round(hits)) < 1e-2)).all():
            raise ValueError(f"accuracy: must be shares of {cfg.task.n_test} sequences")
        if not (np.isnan(loss) | (np.isfinite(loss) & (loss >= 0))).all():
            raise ValueError("test_loss: must be at least 0, NaN where a run diverged")
        if (arrays["accuracy"][np.isnan(loss)] != 0).any():
            raise ValueError("accuracy: must be 0 where a run diverged")

    def report(self, part: Part[Piece], results: "Dataset", cfg: TransformerConfig) -> Report:
        """The table, the two comparisons and the picture."""
        from lora_theory.plots.tuning import tuning_figure

        scores = results.accuracy.values.astype(float)
        title = (
            f"{_what(cfg)}; n = {cfg.model.width}, rank {cfg.model.rank}, {len(cfg.seeds)} seeds"
        )
        figure = tuning_figure(
            scores, cfg.log2, cfg.ratios, what="test accuracy", control=_CONTROL, title=title
        )
        said = lines(scores, int(np.isnan(results.test_loss.values).sum()), cfg)
        rows = ["seed,lambda,log2_eta,accuracy,test_loss"]
        for at in np.ndindex(scores.shape):
            where = cfg.seeds[at[0]], f"{cfg.ratios[at[1]]:g}", cfg.log2[at[2]]
            values = results.accuracy.values[at], results.test_loss.values[at]
            rows.append(",".join(map(str, (*where, *values))))
        return Report(
            said,
            {self.name: figure},
            {f"{self.name}.csv": "\n".join(rows) + "\n"},
            kept={f"{self.name}.md": "\n".join([_TITLE, "", *said]) + "\n"},
        )


# --- What is said ---


def lines(scores: np.ndarray, diverged: int, cfg: TransformerConfig) -> list[str]:
    """The table of medians, the best rate of each λ, and what was to be decided, as Markdown.

    Args:
        scores: (seeds, ratios, rates).
        diverged: runs.
        cfg: the config.
    """
    best = {ratio: tuned(scores[:, i]) for i, ratio in enumerate(cfg.ratios)}
    more = scores[:, 2:]
    k = cfg.log2.index(cfg.judge.small)
    of_all = _gain(more.reshape(len(scores), -1), scores[:, 1], cfg)
    small = _gain(more[:, :, k], scores[:, 1, [k]], cfg)
    return [
        f"{_what(cfg)}, median over {len(scores)} seeds; "
        f"{diverged} of {scores.size} runs diverged.",
        "",
        *_table(scores, best, cfg),
        "",
        "| λ | best η | accuracy there | against λ = 1, each tuned on other seeds |",
        "|---|---|---|---|",
        *(_row(i, best[ratio], scores, cfg) for i, ratio in enumerate(cfg.ratios)),
        "",
        f"- Each at its best rate, λ > 1 against λ = 1: {_decided(of_all, cfg)}.",
        f"- Both at one small rate, η = 2^{cfg.judge.small}: {_decided(small, cfg)}.",
        "",
        "The first is the fair comparison. At one small rate a larger λ trains B faster, which a "
        "larger rate does as well.",
    ]


def _what(cfg: TransformerConfig) -> str:
    return f"Accuracy on {cfg.task.n_test} test sequences after {cfg.training.steps} steps"


def _name(ratio: float) -> str:
    return f"{ratio:g}" if ratio else f"0 ({_CONTROL})"


def _table(scores: np.ndarray, best: Mapping[float, Tuned], cfg: TransformerConfig) -> list[str]:
    """Medians; the best of each λ in bold."""
    rows = [
        "| λ \\ η | " + " | ".join(f"2^{rate}" for rate in cfg.log2) + " |",
        "|---" * (1 + len(cfg.log2)) + "|",
    ]
    for ratio, medians in zip(cfg.ratios, quantile(scores), strict=True):
        cells = [f"{value:.3f}" for value in medians]
        cells[best[ratio].place] = f"**{cells[best[ratio].place]}**"
        rows.append(f"| {_name(ratio)} | " + " | ".join(cells) + " |")
    return rows


def _row(i: int, best: Tuned, scores: np.ndarray, cfg: TransformerConfig) -> str:
    where = f"2^{cfg.log2[best.place]}" + (", at the border of the grid" if best.border else "")
    value, low, high = (float(end) for end in best.score)
    there = f"{value:.3f} " + (f"[{low:.3f}, {high:.3f}]" if low == low else "(no interval)")
    beside = "" if cfg.ratios[i] == 1 else _shown(_gain(scores[:, i], scores[:, 1], cfg))
    return f"| {_name(cfg.ratios[i])} | {where} | {there} | {beside} |"


def _gain(scores: np.ndarray, others: np.ndarray, cfg: TransformerConfig) -> Interval:
    judge = cfg.judge
    return gain(scores, others, resamples=judge.resamples, confidence=judge.confidence)


def _shown(found: Interval) -> str:
    if not np.isfinite(found.low):  # Of a single seed in each half.
        return f"{float(found.mean):+.3f} (no interval)".replace("-", "−")
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*map(float, found)).replace("-", "−")


def _decided(found: Interval, cfg: TransformerConfig) -> str:
    verdict = _VERDICTS[gains(found, cfg.judge.margin)]
    return f"{_shown(found)}, a gain above {cfg.judge.margin:g} is **{verdict}**"


if __name__ == "__main__":
    main(Transformer())
