"""LoRA+ as an optax transformation: A and B train at different rates, over any optax base."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import serialization

from lora_theory.adapters.groups import Part
from lora_theory.adapters.names import leaves
from lora_theory.adapters.plan import Plan, record_of
from lora_theory.adapters.recipe import Recipe


@jax.tree_util.register_pytree_with_keys_class
class Rates(dict[str, Any]):
    """The rates of the last step, by name; a report, which nothing reads, so it can not be set.

    >>> Rates({"learning_rate": 0.1})["learning_rate"]
    0.1
    """

    def _refuse(self, *given: Any, **named: Any) -> Any:
        name = next(iter(named), given[0] if given and isinstance(given[0], str) else "rates")
        raise TypeError(
            f"{name}: can not be set here, where the rates of the last step stand; to change rates "
            "in training give a schedule, or optax.inject_hyperparams(lora_plus)(…)"
        )

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def tree_flatten_with_keys(self) -> Any:
        """As a dictionary's, in the order of names."""
        names = sorted(self)
        return [(jax.tree_util.DictKey(name), self[name]) for name in names], tuple(names)

    @classmethod
    def tree_unflatten(cls, names: Any, rates: Any) -> "Rates":
        """As a dictionary's."""
        return cls(zip(names, rates, strict=True))


class LoRAPlusState(NamedTuple):
    """State of `lora_plus`; its structure does not depend on the rates.

    `nnx.Optimizer` passes parameters with their variable types at `init` and bare arrays at
    `update`; the plan travels with the state so that both see the same groups.
    """

    plan: Plan
    count: Any
    hyperparams: Rates
    inner: dict[str, Any]


def _restored(plan: Plan, saved: Any) -> Plan:
    if int(saved["groups"]) != int(plan.digest):
        raise ValueError("state: must be of the leaves and groups that it was saved with")
    return plan


serialization.register_serialization_state(
    Rates,
    lambda rates: serialization.to_state_dict(dict(rates)),
    lambda rates, state: Rates(serialization.from_state_dict(dict(rates), state)),
)
serialization.register_serialization_state(Plan, lambda plan: {"groups": plan.digest}, _restored)


def lora_plus(
    eta_a: Any,
    eta_b: Any = None,
    *,
    ratio: Any = None,
    base: Any = "adamw",
    eta_embedding: Any = 1e-6,
    labels: Any = None,
    groups: Any = None,
    reference_fan_in: Any = None,
    equal_decay: bool = False,
    shared: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """LoRA+ (Hayou, Ghosh, Yu 2024): A at rate η_A, B and 1-d parameters at η_B = λ η_A.

    ============================  ===================================  =========================
    group                         leaves                               transformation
    ============================  ===================================  =========================
    A                             factors A                            base(η_A)
    B                             factors B                            base(η_B)
    no_decay                      biases, norms, all else that is 1-d  base(η_B), weight decay 0
    magnitude                     magnitudes of DoRA                   base(η_B), weight decay 0
    embedding                     factors of adapted embeddings        base(η_embedding)
    head, and groups of your own  what you say                         base(η_A)
    frozen                        what is not trained                  no update, no state
    ============================  ===================================  =========================

    Theorem 1: efficient feature learning needs η_A = Θ(1/n) and η_B = Θ(1), so λ = Θ(n).
    At λ = 1 this is an optimizer of optax itself, bit for bit (of a base with weight decay: on
    trees without 1-d parameters). A base is run group by group, unless it is `shared`: one that
    clips by a norm over leaves clips each group by itself, at every λ. Clip all of them before:
    `optax.chain(optax.clip_by_global_norm(1.0), lora_plus(…))`.

    Args:
        eta_a: η_A (or "the rate", with `ratio`); a number, a traced scalar, or a schedule.
        eta_b: η_B, the same kinds. Give either `eta_b` or `ratio`.
        ratio: λ = η_B / η_A, at every step of a schedule.
        base: an optimizer of optax by name, or any function `rate -> GradientTransformation`:
            `optax.sgd`, `optax.contrib.muon`, a `functools.partial`. Where it takes
            `weight_decay`, the groups no_decay and magnitude get 0.
        eta_embedding: the rate of adapted embeddings, 1e-6 in the official optimizer.
        labels: how leaves are grouped: None for `lora_labels`, a preset's name, a function from
            the parameters to labels, or a tree (or prefix of one) of names of groups.
        groups: what a group does otherwise, and groups of your own: a mapping of names to
            `ParamGroup`.
        reference_fan_in: n₀ of layers that train A at η_A; another A, of n inputs, trains at
            η_A n₀ / n. Without it all train at η_A.
        equal_decay: whether rate times weight decay is that of A in every group that decays and
            has no `weight_decay` of its own. AdamW multiplies its decay by the rate, so that at
            λ = 16 it decays B 16 × as fast as A; so does the official optimizer, and so does this
            one by default.
        shared: whether groups share their base: it runs once, at η_A, over the leaves of all
            groups that have it, and each group's update is multiplied with η / η_A. For bases
            that look at all leaves at once, as Prodigy, and move in proportion to their rate.

    Returns:
        An optax transformation for any pytree of parameters: the state of an NNX module, nested
        or flat dictionaries, lists. Its state shows the rates of the last step, as
        `state.hyperparams["learning_rate"]` (η_A) and `["learning_rate_B"]`.

    Raises:
        ValueError: a rate, a group or a base that is none; at `init` a leaf without a group, or
            factors that their kernel shows to be exchanged, by name; at `update` gradients of
            another tree.

    >>> import jax, jax.numpy as jnp, optax
    >>> from flax import nnx
    >>> model = nnx.LoRALinear(64, 32, lora_rank=4, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, lora_plus(1e-4, ratio=16), wrt=nnx.LoRAParam)

    >>> from lora_theory import ParamGroup
    >>> params = {"lora_A": jnp.ones((2, 3)), "lora_B": jnp.ones((3, 2)), "head": jnp.ones((3, 3))}
    >>> tx = lora_plus(0.1, 0.4, base="sgd", groups={"head": ParamGroup(match="head", ratio=2)})
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> [f"{updates[name].ravel()[0]:.1f}" for name in params]
    ['-0.1', '-0.4', '-0.2']
    """
    recipe = Recipe(
        eta_a=eta_a,
        eta_b=eta_b,
        ratio=ratio,
        base=base,
        eta_embedding=eta_embedding,
        labels=labels,
        groups=groups,
        reference_fan_in=reference_fan_in,
        equal_decay=equal_decay,
        shared=shared,
    )

    known: list[Plan] = []

    def init(params: Any) -> LoRAPlusState:
        if type(params).__name__ == "_ParamsPlaceholder":
            # optax.tree.map_params asks where in the state parameters are: of the last ones.
            if not known:
                raise ValueError(
                    "params: must have been given to init before optax.tree.map_params; under "
                    "optax.inject_hyperparams it does not work"
                )
            plan = known[-1]
        else:
            plan = Plan.of(recipe, params)
            known[:] = [plan]
        inner = {
            family[0].name: _over(family, recipe, plan, params).init(params)
            for family in _kept(recipe, plan)
        }
        count = jnp.zeros([], jnp.int32)
        return LoRAPlusState(plan, count, _rates(recipe, plan, count), inner)

    def update(
        updates: Any, state: LoRAPlusState, params: Any = None, **extra: Any
    ) -> tuple[Any, LoRAPlusState]:
        _check_state(updates, state, recipe)
        plan, inner = state.plan, dict(state.inner)
        for family in recipe.families(plan.used):
            names = [part.name for part in family if part.name in inner]
            old = [inner[name] for name in names]
            tx = _over(family, recipe, plan, updates)
            updates, new = tx.update(updates, _union(old), params, **extra)
            updates = _scaled(updates, {part: recipe.scale(part) for part in family}, plan)
            inner |= {name: _share(mine, new) for name, mine in zip(names, old, strict=True)}
        rates = _rates(recipe, plan, state.count)
        return updates, LoRAPlusState(plan, optax.safe_increment(state.count), rates, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _kept(recipe: Recipe, plan: Plan) -> list[list[Part]]:
    """Parts that have one state: those that share an optimizer; else each has its own, so that
    the structure does not depend on which rates happen to be equal.
    """
    return recipe.families(plan.used) if recipe.shared else [[part] for part in plan.used]


def _over(
    family: list[Part], recipe: Recipe, plan: Plan, tree: Any
) -> optax.GradientTransformationExtraArgs:
    """The transformation of parts that train alike, on their leaves alone."""
    structure, mine = jax.tree.structure(tree), [part in family for part in plan.parts]

    # As a function: optax would call a tree that can be called, as a module of Equinox is.
    def mask(_: Any) -> Any:
        return jax.tree.unflatten(structure, mine)

    return optax.masked(recipe.transform(family[0]), mask)


def _scaled(updates: Any, scales: dict[Part, Any], plan: Plan) -> Any:
    if all(isinstance(scale, float) and scale == 1.0 for scale in scales.values()):
        return updates
    flat, tree = jax.tree.flatten(updates)
    scaled = [
        (scales[part] * update).astype(update.dtype) if part in scales else update
        for part, update in zip(plan.parts, flat, strict=True)
    ]
    return jax.tree.unflatten(tree, scaled)


def _masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _union(states: list[Any]) -> Any:
    """One state over the leaves of several: each leaf from the state that has it."""
    if len(states) == 1:
        return states[0]
    return jax.tree.map(
        lambda *nodes: next((node for node in nodes if not _masked(node)), nodes[0]),
        *states,
        is_leaf=_masked,
    )


def _share(mine: Any, union: Any) -> Any:
    """What of a state over several parts belongs to one, whose old state is `mine`."""
    return jax.tree.map(lambda old, new: old if _masked(old) else new, mine, union, is_leaf=_masked)


def _rates(recipe: Recipe, plan: Plan, count: Any) -> Rates:
    rates = {"learning_rate": recipe.eta_a} | {
        f"learning_rate_{part.name}": recipe.rate(part)
        for part in plan.used
        if part.name != "A" and part.group != "frozen"
    }
    now = {name: rate(count) if callable(rate) else rate for name, rate in rates.items()}
    # Copies: a state may be donated, and a rate that is an array belongs to the user.
    return Rates({name: jnp.array(rate, jnp.result_type(float)) for name, rate in now.items()})


def _check_state(updates: Any, state: Any, recipe: Recipe) -> None:
    if not isinstance(state, LoRAPlusState):
        raise ValueError(
            "state: must be as init gives it; restore a checkpoint into jax.eval_shape(tx.init, "
            f"params) (got a {type(state).__name__})"
        )
    if state.plan.record != record_of(recipe):
        raise ValueError("state: must be of the labels, groups and reference_fan_in of its init")
    paths, wanted = tuple(leaf.path for leaf in leaves(updates)), state.plan.paths
    if paths != wanted:
        other = sorted(set(paths) ^ set(wanted)) or ["the same names in another order"]
        raise ValueError(
            f"updates: must have the {len(wanted)} leaves of the parameters at init "
            f"(got {len(paths)}; {other[0]} is not in both)"
        )
