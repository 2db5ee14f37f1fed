"""Ways to train: what is tuned, and the arms it is tuned over.

An arm is one grid of rates, under one optimizer and one λ; a way is one arm or several. A new way
is a line in each of the two tables, and its rates in conf/budget.yaml.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.registry import OPTIMIZERS, resolve

if TYPE_CHECKING:
    import optax
    from flax import nnx

PLUS, FULL = "lora_plus", "full"  # Of optimizers; all others are those of the registry.


class Arm(NamedTuple):
    """Rates under one optimizer and one λ.

    Attributes:
        optimizer: `PLUS`, `FULL` or a name of the registry's `OPTIMIZERS`.
        ratio: λ of `PLUS`; None for rates that `suggest_rates` finds on each seed's own model, the
            grid holding multiples of them.
        rates: the arm whose grid of rates it has; None for one of its own.
        aside: whether it runs on seeds that no other arm has.
    """

    optimizer: str
    ratio: float | None = 1.0
    rates: str | None = None
    aside: bool = False


class Way(NamedTuple):
    """A row of the table.

    Attributes:
        label: of it.
        arms: over which it is tuned.
        untuned: log2 of the multiple of the suggested rates that it takes, a single setting; None
            of a way that is tuned.
        control: what it must be where it can show that comparisons tell, "worse" or "not better".
    """

    label: str
    arms: tuple[str, ...]
    untuned: int | None = None
    control: str = ""


ARMS: dict[str, Arm] = {
    "lora": Arm(PLUS),
    "plus_4": Arm(PLUS, 4.0),
    "plus_16": Arm(PLUS, 16.0),
    "plus_64": Arm(PLUS, 64.0),
    "suggested": Arm(PLUS, None),
    "scaled_gd": Arm("scaled_gd"),
    "scaled_adamw": Arm("scaled_adamw"),
    "lora_rite": Arm("lora_rite"),
    "lora_fa": Arm("lora_fa"),
    "full": Arm(FULL),
    "b_rests": Arm(PLUS, 0.0),
    "aside": Arm(PLUS, rates="lora", aside=True),
}
# The first is what all others are compared with.
WAYS: tuple[Way, ...] = (
    Way("LoRA, λ = 1", ("lora",)),
    Way("LoRA+, λ tuned too", ("lora", "plus_4", "plus_16", "plus_64")),
    Way("LoRA+, λ = 16", ("plus_16",)),
    Way("LoRA+, suggested λ", ("suggested",)),
    Way("LoRA+, suggested rates", ("suggested",), untuned=0),
    # Added after the run on seeds 0 to 23; seeds 24 to 47 judge it.
    Way("LoRA+, half of these rates", ("suggested",), untuned=-1),
    Way("scaled GD", ("scaled_gd",)),
    Way("scaled AdamW", ("scaled_adamw",)),
    Way("LoRA-RITE", ("lora_rite",)),
    Way("LoRA-FA", ("lora_fa",)),
    Way("full fine-tuning", ("full",)),
    Way("B rests (λ = 0)", ("b_rests",), control="worse"),
    Way("LoRA, λ = 1, other seeds", ("aside",), control="not better"),
)


def grid_of(name: str) -> str:
    """The name under which the config has an arm's rates.

    >>> grid_of("aside"), grid_of("full")
    ('lora', 'full')
    """
    return ARMS[name].rates or name


def transformation(
    optimizer: str, base: str, groups: Any, eta_a: Any, eta_b: Any
) -> "optax.GradientTransformationExtraArgs":
    """What makes updates of gradients; all but `PLUS` have one rate, η_A.

    Args:
        optimizer: of an `Arm`.
        base: optax's name of what LoRA+, LoRA-FA and full fine-tuning run.
        groups: of `lora_plus`, or None.
        eta_a, eta_b: the rates, or their schedules.
    """
    import optax

    from lora_theory.adapters.lora_plus import lora_plus

    if optimizer == FULL:
        return getattr(optax, base)(eta_a)
    if optimizer == PLUS:
        return lora_plus(eta_a, eta_b, base=base, groups=groups)
    more = {"base": base} if optimizer == "lora_fa" else {}
    return resolve(OPTIMIZERS[optimizer])(eta_a, groups=groups, **more)


@functools.cache
def finetuning_optimizer(optimizer: str) -> Any:
    """What makes the optimizer of a transformer in place of `finetune.lora_optimizer`.

    As there: gradients of what trains are clipped together, the rate rises and falls, the head is
    trained at η. The base is AdamW.
    """
    import optax
    from flax import nnx

    from lora_theory.adapters.groups import ParamGroup

    def make(
        model: "nnx.Module", rate: Any, ratio: Any, *, steps: int, warmup: int, clip: Any
    ) -> "nnx.Optimizer":
        shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps)
        head = {"head": ParamGroup(match="head")}
        rates = (lambda t: rate * shape(t)), (lambda t: ratio * rate * shape(t))
        tx = transformation(optimizer, "adamw", head, *rates)
        trained = _trained(optimizer)
        return nnx.Optimizer(model, optax.chain(optax.clip_by_global_norm(clip), tx), wrt=trained)

    return make


def _trained(optimizer: str) -> Any:
    """What of a transformer trains: under `FULL` every weight but the factors, W* among them."""
    from flax import nnx

    from lora_theory.adapters.layer import FactorB, Frozen
    from lora_theory.train.finetune import TRAINED

    if optimizer == FULL:
        return nnx.Any(Frozen, nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam)))
    if optimizer == "lora_fa":  # A's gradient is none, also where gradients are clipped.
        return nnx.Any(FactorB, nnx.PathContains("head"))
    return TRAINED
