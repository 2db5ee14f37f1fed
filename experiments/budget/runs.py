"""Scores of an arm at all its rates: of the transformer, and of a toy."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import finetuning, registry
from experiments.budget.config import TRANSFORMER, BudgetConfig, ToyConfig
from experiments.budget.ways import FULL, PLUS, Arm, finetuning_optimizer, transformation

if TYPE_CHECKING:
    import jax

    from lora_theory.arrays import PRNGKey
    from lora_theory.train.sweep import Problem


class Scores(NamedTuple):
    """Of all rates, (G,): the score, and the test loss, NaN where a run diverged."""

    score: np.ndarray
    test_loss: np.ndarray


def scores(
    task: str, arm: Arm, seed: int, ratio: float, rates: np.ndarray, cfg: BudgetConfig, device: Any
) -> Scores:
    """Train at all rates, on one device."""
    if task == TRANSFORMER:
        return _transformer(arm, seed, ratio, rates, cfg, device)
    return _toy(task, cfg.toys[task], arm, seed, ratio, rates, device)


def suggested(task: str, seed: int, cfg: BudgetConfig, device: Any) -> tuple[float, float]:
    """η_A and λ that `suggest_rates` finds on a seed's own model, with its first training batches.

    Of the transformer at rates that neither rise nor fall.
    """
    import jax

    from lora_theory.train.suggest import suggest_rates

    probed = _probed_transformer(seed, cfg) if task == TRANSFORMER else _probed_toy(task, seed, cfg)
    asked = cfg.suggest[task]
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        found = suggest_rates(**probed, kappa=asked.kappa, step=asked.step, steps=cfg.probing)
    return found.eta_a, found.ratio


def _probed_transformer(seed: int, cfg: BudgetConfig) -> dict[str, Any]:
    import optax

    from lora_theory.adapters.groups import ParamGroup
    from lora_theory.keys import seed_key
    from lora_theory.train.finetune import TRAINED

    key = seed_key(seed)
    tokens, answers, _ = finetuning.sequences(cfg.task, cfg.training, key)
    clip = optax.clip_by_global_norm(cfg.training.clip)
    head = {"head": ParamGroup(match="head")}
    return {
        "model": finetuning.network(cfg.task, cfg.model, key),
        "batches": list(zip(tokens, answers, strict=True))[: cfg.probing],
        "loss": _cross_entropy,
        "optimizer": lambda a, b: optax.chain(clip, transformation(PLUS, "adamw", head, a, b)),
        "trainable": TRAINED,
    }


def _cross_entropy(f: Any, y: Any) -> Any:
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(f, y).mean()


def _probed_toy(name: str, seed: int, cfg: BudgetConfig) -> dict[str, Any]:
    from lora_theory.keys import seed_key

    toy = cfg.toys[name]
    model, data = _drawn(name, toy, False)(seed_key(seed))
    return {
        "model": model,
        "batches": [(data.x_train, data.y_train)] * cfg.probing,
        "optimizer": functools.partial(transformation, PLUS, toy.base, None),
        "init": toy.init,
    }


def _transformer(
    arm: Arm, seed: int, ratio: float, rates: np.ndarray, cfg: BudgetConfig, device: "jax.Device"
) -> Scores:
    """The score is the test accuracy, 0 of a run that diverged."""
    import jax

    from lora_theory.keys import seed_key

    made = finetuning_optimizer(arm.optimizer)
    given = seed_key(seed), rates.astype(np.float32), np.float32(ratio)
    with jax.default_matmul_precision("highest"):
        program = finetuning.program(cfg.task, cfg.model, cfg.training, made)
        score, loss = program(*jax.device_put(given, device))
    return Scores(np.asarray(score), np.asarray(loss))


def _toy(
    name: str,
    toy: ToyConfig,
    arm: Arm,
    seed: int,
    ratio: float,
    rates: np.ndarray,
    device: "jax.Device",
) -> Scores:
    """The score is log10 of (the test loss at the start / at the end).

    At least 0: what diverged, or is worse than it began, has learned nothing.
    """
    from flax import nnx

    from lora_theory.keys import seed_key
    from lora_theory.train.devices import resolve_policy
    from lora_theory.train.sweep import sweep_cells

    whole, samples = arm.optimizer == FULL, toy.n_train + toy.n_test
    curves = sweep_cells(
        _drawn(name, toy, whole)(seed_key(seed)),
        np.stack([rates, ratio * rates], axis=1),
        optimizer=functools.partial(transformation, arm.optimizer, toy.base, None),
        loss="mse",
        steps=toy.steps,
        # One run at a time, as it would be alone: seconds compare, and so small decompositions do
        # not wait for one another's threads.
        policy=resolve_policy(toy.width, samples, micro_batch=1, sample_block=samples),
        devices=[device],
        trainable=nnx.Param if whole else None,
    )
    start, end = curves.test_loss[:, 0], curves.test_loss[:, -1]
    diverged = curves.diverged_at >= 0
    learned = np.log10(start / np.where(diverged, start, end))
    return Scores(np.maximum(learned, 0), np.where(diverged, np.float32(np.nan), end))


@functools.cache
def _drawn(name: str, toy: ToyConfig, whole: bool) -> Any:
    """key -> problem, compiled; `whole` if its layer trains as a whole."""
    import jax

    from lora_theory.models.full import FullLayer

    sizes = {"inputs": toy.inputs, "width": toy.width, "rank": toy.rank, "init": toy.init}
    model = registry.model_config(name, **sizes)
    options = {"n_train": toy.n_train, "n_test": toy.n_test}
    draw = registry.draw(model, "sine", options)

    def problem(key: "PRNGKey") -> "Problem":
        drawn = draw(key)
        return drawn._replace(model=FullLayer(drawn.model)) if whole else drawn

    return jax.jit(problem)
