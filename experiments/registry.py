"""What experiments can name: models, tasks, losses, optimizers, and how claims probe a model.

A new one is a line here and a file with the thing itself (docs/extending.md). What stands in
strings is loaded when it is used, so that `--help` starts no JAX.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_store import ConfigStore

from experiments.lab.schema import ConfigError, integer, number, one_of, optional, positive, science
from lora_theory.terms import INITS, PRETRAINED

if TYPE_CHECKING:
    from lora_theory.arrays import PRNGKey
    from lora_theory.train.sweep import Optimizer, Problem

_SIZE = integer(1, 10**6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every model has; its other fields are the arguments of its class."""

    name: str = science()
    width: int = science(_SIZE, default=100)
    init: str = science(one_of(*INITS), default="both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedConfig(ModelConfig):
    """A model with a LoRA layer of rank r and multiplier α r^−γ (without α 1, as in the paper).

    A random B starts with variance r^ρ.
    """

    rank: int = science(_SIZE, default=4)
    alpha: float | None = science(optional(positive()), default=None)
    gamma: float = science(number(-10, 10), default=1.0)
    rho: float = science(number(-10, 10), default=0.0)

    def __post_init__(self) -> None:
        if self.rank > self.width:
            at_most = f"must be at most model.width = {self.width}"
            raise ConfigError("model.rank", at_most, self.rank)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureLayerConfig(RankedConfig):
    """`models.toys.FeatureLayerToy`: a LoRA layer on features of d inputs."""

    inputs: int = science(_SIZE, default=5)
    init: str = science(one_of(*INITS), default="A")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoLayerConfig(RankedConfig):
    """Any model with the arguments of `models.toys.TwoLayerToy` (eq. 3)."""

    inputs: int = science(_SIZE, default=5)
    weight: str = science(one_of(*PRETRAINED), default="zero")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReluConfig(TwoLayerConfig):
    """`models.toys.TwoLayerToy` itself: its ReLU passes nothing on where W* + s B A = 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight == "zero" and self.init != "both":
            words = "must be both below a ReLU with W* = 0, where one random factor never moves; "
            raise ConfigError("model.init", words + "or set model.weight=random", self.init)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearConfig(ModelConfig):
    """`models.toys.LinearToy` (eq. 2)."""

    init: str = science(one_of(*INITS), default="A")


class Model(NamedTuple):
    """A model by name.

    Attributes:
        build: its class, called with the fields of its schema and a key.
        schema: its config, with defaults.
        task: what it trains on unless the config says otherwise.
        gate: whether a step makes anything of size (width, samples); see `resolve_policy`.
    """

    build: str
    schema: type[ModelConfig]
    task: str = "sine"
    gate: bool = True


class Probe(NamedTuple):
    """How claims measure a model at several sizes.

    Attributes:
        model: which model.
        task: what it trains on, and options of that task.
        options: fields of the model's config.
        seeds: runs at each width.
    """

    model: str
    task: str = "sine"
    task_options: Mapping[str, Any] = {"n_train": 8, "n_test": 1}
    options: Mapping[str, Any] = {}
    seeds: int = 1500


MODELS: dict[str, Model] = {
    "linear": Model("lora_theory.models.toys:LinearToy", LinearConfig, "linear", gate=False),
    "layer": Model("lora_theory.models.toys:LayerToy", RankedConfig, "linear", gate=False),
    "feature_layer": Model(
        "lora_theory.models.toys:FeatureLayerToy", FeatureLayerConfig, gate=False
    ),
    "two_layer": Model("lora_theory.models.toys:TwoLayerToy", ReluConfig),
}
TASKS: dict[str, str] = {
    "sine": "lora_theory.data.synthetic:sine_task",
    "linear": "lora_theory.data.synthetic:linear_task",
    "signs": "lora_theory.data.synthetic:signs_task",
}
LOSSES: dict[str, str] = {
    "mse": "lora_theory.data.synthetic:mse",
    "all_pairs": "lora_theory.data.synthetic:all_pairs",
}
# Functions of one rate, over which LoRA+ is built, or of (η_A, η_B), which are taken as they are.
OPTIMIZERS: dict[str, str] = {
    "gd": "optax:sgd",
    "sign": "optax:sign_sgd",
    "adam": "optax:adam",
    "adamw": "optax:adamw",
    "scaled_gd": "lora_theory.adapters.rivals:scaled_gd",
    "scaled_adamw": "lora_theory.adapters.rivals:scaled_adamw",
    "lora_rite": "lora_theory.adapters.rivals:lora_rite",
    "lora_fa": "lora_theory.adapters.rivals:lora_fa",
}
# Targets of the layer are far away (±100): its residual keeps its sign for the few steps that are
# taken, so that sign updates do not come back to where they started.
_FAR = {"n_train": 1, "n_test": 1, "target": 100.0}
PROBES: dict[str, Probe] = {
    **{name: Probe(name, model.task) for name, model in MODELS.items()},
    "linear": Probe("linear", "signs", {"n_train": 1, "n_test": 1, "target": 2.0}),
    "layer": Probe("layer", "signs", _FAR),
}


def schemas() -> dict[str, type[ModelConfig]]:
    """The schema of every model, by name."""
    return {name: model.schema for name, model in MODELS.items()}


def offer_models() -> None:
    """Make every model a choice of `model=` on the command line."""
    for name, model in MODELS.items():
        values = {"name": name, **_defaults(model.schema)}
        ConfigStore.instance().store(group="model", name=name, node=values)


def offer_probes() -> None:
    """Offer the seeds of every probe as a preset of `conf/claims.yaml`."""
    seeds = {name: probe.seeds for name, probe in PROBES.items()}
    ConfigStore.instance().store(name="probes", node={"seeds": seeds})


def used_by_probes(
    probes: Collection[str], optimizers: Collection[str]
) -> dict[str, Collection[str]]:
    """Which entries of which table some probes and optimizers need, for their provenance.

    Args:
        probes: names of `PROBES`; those of models without one here are left out.
        optimizers: names of `OPTIMIZERS`.

    >>> used_by_probes(["layer"], ["adam"])["experiments.registry:MODELS"]
    {'layer'}
    """
    found = [PROBES[name] for name in probes if name in PROBES]
    return {
        "experiments.registry:PROBES": probes,
        "experiments.registry:MODELS": {probe.model for probe in found},
        "experiments.registry:TASKS": {probe.task for probe in found},
        "experiments.registry:LOSSES": (),
        "experiments.registry:OPTIMIZERS": optimizers,
    }


def resolve(reference: str) -> Any:
    """What "package.module:name" says."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def model_config(name: str, **varied: Any) -> ModelConfig:
    """The config of a model: of what is varied, what its schema has.

    >>> model_config("linear", width=64, rank=4, init="A")
    LinearConfig(name='linear', width=64, init='A')
    """
    return MODELS[name].schema(name=name, **{k: v for k, v in varied.items() if k in knows(name)})


def knows(name: str) -> set[str]:
    """The fields of a model's config."""
    return {field.name for field in dataclasses.fields(MODELS[name].schema)}


def build_model(config: ModelConfig, key: "PRNGKey") -> Any:
    """The model of a config, drawn from a key."""
    fields = [field.name for field in dataclasses.fields(config) if field.name != "name"]
    options = {name: getattr(config, name) for name in fields}
    return resolve(MODELS[config.name].build)(**options, key=key)


def draw(
    config: ModelConfig, task: str | None, options: Mapping[str, Any]
) -> "Callable[[PRNGKey], Problem]":
    """key -> a model and its data; one key gives both.

    Args:
        config: of the model.
        task: a name of `TASKS`; None for the model's own.
        options: n_train, n_test and what else the task takes.
    """

    from lora_theory.train.sweep import Problem

    inputs = getattr(config, "inputs", config.width)
    drawn = functools.partial(resolve(TASKS[task or MODELS[config.name].task]), inputs, **options)

    def problem(key: "PRNGKey") -> "Problem":
        return Problem(build_model(config, key), drawn(key=key))

    return problem


@dataclasses.dataclass(frozen=True)
class Setup:
    """(size, key) -> (model, x, y): what a coordinate check takes, equal where all of it is.

    Attributes:
        build: the model's class.
        fields: of its config, but the one that varies.
        varied: the field that is the size.
        task: inputs, key -> the data.
    """

    build: Any
    fields: tuple[tuple[str, Any], ...]
    varied: str
    task: Any

    def __call__(self, size: int, key: "PRNGKey") -> tuple[Any, Any, Any]:
        """Model, inputs and targets of one size."""
        fields = {**dict(self.fields), self.varied: size}
        data = self.task(fields.get("inputs", fields["width"]), key=key)
        return self.build(**fields, key=key), data.x_train, data.y_train


def setup(config: ModelConfig, varied: str, task: str | None, options: Mapping[str, Any]) -> Setup:
    """The setup of a model whose width or rank varies; the other arguments are those of `draw`."""
    fields = {name: getattr(config, name) for name in knows(config.name) - {"name", varied}}
    drawn = functools.partial(resolve(TASKS[task or MODELS[config.name].task]), **options)
    return Setup(resolve(MODELS[config.name].build), tuple(sorted(fields.items())), varied, drawn)


@functools.cache
def optimizer(name: str, eps: float | None = None) -> "Optimizer":
    """(η_A, η_B) -> LoRA+ over a base, or a rival of it; one object a name, to share compilations.

    Args:
        name: of `OPTIMIZERS`.
        eps: ε, of a base that has one.
    """
    import inspect

    from lora_theory.adapters.lora_plus import lora_plus

    base = resolve(OPTIMIZERS[name])
    taken = inspect.signature(base).parameters
    if eps is not None and "eps" in taken:
        base = functools.partial(base, eps=eps)
    return base if "eta_a" in taken else functools.partial(lora_plus, base=base)


def _defaults(schema: type) -> dict[str, Any]:
    fields = dataclasses.fields(schema)
    return {field.name: field.default for field in fields if field.name != "name"}
