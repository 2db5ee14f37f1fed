"""Which leaves are the factors of one layer, which axis is the rank, and a factor's inverse."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from jax.extend.core import jaxprs_in_params

from lora_theory import LoRA
from lora_theory.adapters.factors import (
    Direction,
    Layout,
    Place,
    one_by_one,
    over_pairs,
    spectrum,
)
from lora_theory.adapters.recipe import Recipe
from lora_theory.adapters.rivals import lora_rite, scaled_gd

RNG = np.random.default_rng(0)


def recipe(**told):
    return Recipe(eta_a=0.1, eta_b=0.1, **told)


def zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("params", "labels", "turned"),
    [
        (zeros(lora_A=(4, 64), lora_B=(32, 4)), None, [False]),
        (zeros(lora_a=(64, 4), lora_b=(4, 32)), None, [True]),
        (zeros(lora_A=(4, 64), lora_B=(64, 4)), None, [False]),
        (zeros(lora_a=(64, 4), lora_b=(4, 64)), None, [True]),
        (zeros(lora_A=(1, 9), lora_B=(1, 1)), None, [False]),
        (zeros(kernel_lora_a=(7, 64, 4), kernel_lora_b=(7, 4, 32)), None, [True]),
        (zeros(w=(64, 32), b=(64, 4), a=(4, 32)), "lorax", [True]),
        ({"q": zeros(lora_a=(8, 2), lora_b=(2, 5)), "v": zeros(lora_A=(2, 8), lora_B=(5, 2))}, None,
         [True, False]),
    ],
)  # fmt: skip
def test_layouts_of_other_libraries(params, labels, turned):
    layout = Layout.of(recipe(labels=labels), params)
    assert [place.turned for place in layout.places] == turned


def test_variable_types_tell_where_all_sizes_are_equal():
    flax = nnx.LoRA(4, 4, 4, rngs=nnx.Rngs(0))
    own = LoRA(4, 4, 4, key=jax.random.key(0))
    for model, turned in ((flax, True), (own, False)):
        layout = Layout.of(recipe(), nnx.state(model, nnx.LoRAParam))
        assert layout.places == (Place(0, 1, turned),)
    with pytest.raises(ValueError, match=r"^lora_a \(4, 4\): must show by its shape which axis"):
        Layout.of(recipe(), zeros(lora_a=(4, 4), lora_b=(4, 4)))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (zeros(lora_a=(8, 2)), r"lora_a \(8, 2\): must have a partner beside it"),
        (
            zeros(lora_a=(8, 2), lora_b=(3, 5)),
            r"lora_a \(8, 2\): must be a matrix of the rank of l",
        ),
        (zeros(lora_a=(3, 4, 2), lora_b=(2, 10)), r"lora_a \(3, 4, 2\): must be a matrix of the"),
        (zeros(bias=(3,)), r"params: must have factors A and B, as lora_a and lora_b \(got bias\)"),
        ({}, r"params: must have factors A and B, as lora_a and lora_b \(got no leaves\)"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(params, words):
    with pytest.raises(ValueError, match="^" + words) as refused:
        Layout.of(recipe(), params)
    assert "\n" not in str(refused.value)


def doubled_a(a, b, g_a, g_b, state):
    """2 A in place of g_A, g_B as it is: what arrives, arrives in the paper's layout."""
    assert a.shape[-2] == b.shape[-1]
    return 2 * a, g_b, state + 1


DOUBLED = over_pairs(Direction(lambda a, b: jnp.zeros(()), doubled_a), recipe())
PARAMS = {
    name: jnp.asarray(RNG.normal(size=shape), "float32")
    for name, shape in {"lora_a": (5, 2), "lora_b": (2, 3), "bias": (3,)}.items()
}


def test_pairs_are_given_in_the_papers_layout_and_put_back():
    grads = jax.tree.map(jnp.cos, PARAMS)
    updates, state = jax.jit(DOUBLED.update)(grads, DOUBLED.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["lora_a"], 2 * PARAMS["lora_a"])
    for name in ("lora_b", "bias"):
        np.testing.assert_array_equal(updates[name], grads[name])
    assert float(state.inner[0]) == 1


def test_narrow_types_are_worked_on_in_single_precision_and_given_back():
    def wide(a, b, g_a, g_b, state):
        assert {x.dtype for x in (a, b, g_a, g_b)} == {jnp.dtype("float32")}
        return g_a, g_b, state

    tx = over_pairs(Direction(lambda a, b: (), wide), recipe())
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    updates, _ = tx.update(params, tx.init(params), params)
    assert {u.dtype for u in updates.values()} == {jnp.dtype(jnp.bfloat16)}


def test_updates_of_another_tree_and_none_without_parameters_are_refused():
    state = DOUBLED.init(PARAMS)
    with pytest.raises(ValueError, match=r"^params: must be given to update"):
        DOUBLED.update(PARAMS, state)
    with pytest.raises(ValueError, match=r"^updates: must have the leaves of the parameters at in"):
        DOUBLED.update({"lora_a": PARAMS["lora_a"]}, state, PARAMS)
    with pytest.raises(
        ValueError, match=r"^params: must have the leaves of the parameters at init"
    ):
        DOUBLED.update(PARAMS, state, PARAMS | {"other": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"^state: must be as init gives it \(got a tuple\)"):
        DOUBLED.update(PARAMS, (), PARAMS)


def test_a_state_is_saved_with_its_pairs():
    state = DOUBLED.init(PARAMS)
    _, state = DOUBLED.update(PARAMS, state, PARAMS)
    saved = serialization.to_bytes(state)
    restored = serialization.from_bytes(DOUBLED.init(PARAMS), saved)
    assert float(restored.inner[0]) == 1
    for made in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert jax.tree.structure(made) == jax.tree.structure(state)
    turned = DOUBLED.init({name: value.T for name, value in PARAMS.items()})
    with pytest.raises(ValueError, match=r"^state: must be of the leaves and pairs"):
        serialization.from_bytes(turned, saved)


def test_optax_finds_no_parameters_in_its_state():
    state = DOUBLED.init(PARAMS)
    mapped = optax.tree.map_params(DOUBLED, lambda _: None, state, transform_non_params=jnp.cos)
    assert float(mapped.inner[0]) == 1.0
    assert mapped.layout == state.layout


@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (2, 3), (4, 7, 3)])
@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_inverses_are_those_of_numpy(shape, damping):
    y = RNG.normal(size=shape)
    with jax.enable_x64(True):
        split = spectrum(jnp.asarray(y))
        root, gram = split.inverse(), split.gram_inverse(damping)
        product = split.basis @ jnp.linalg.pinv(root)
    wanted = np.linalg.pinv(np.swapaxes(y, -1, -2) @ y + damping * np.eye(3))
    np.testing.assert_allclose(gram, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    np.testing.assert_allclose(product[..., : shape[-2], :], y, atol=1e-12)  # Y = U R.


def test_what_has_not_full_rank_has_a_pseudo_inverse():
    """Two equal columns, to rounding: an inverse would be of the order of 1/ε."""
    y = RNG.normal(size=(6, 1)) * np.ones((1, 2)) * np.array([1.0, 1 / 3])
    with jax.enable_x64(True):
        split = spectrum(jnp.asarray(y))
        assert split.held.tolist() == [True, False]
        wanted = np.linalg.pinv(y) @ np.linalg.pinv(y).T
        np.testing.assert_allclose(split.gram_inverse(0.0), wanted, rtol=1e-9)
        assert float(split.gram_inverse(1e-9).max()) > 1e8  # Damped, it is an inverse.
        assert not split.basis[:, 1].any()


def test_zero_is_inverted_to_zero_without_damping():
    split = spectrum(jnp.zeros((5, 3)))
    for value in (split.inverse(), split.gram_inverse(0.0), split.basis):
        np.testing.assert_array_equal(value, jnp.zeros_like(value))
    np.testing.assert_allclose(split.gram_inverse(0.5), 2 * np.eye(3), atol=1e-6)


# --- Matrices one by one ---


def stacked_solvers(jaxpr):
    """The solvers of LAPACK in a program that are given several matrices."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("svd", "eigh") and eqn.invars[0].aval.ndim > 2:
            found.append(eqn.primitive.name)
        for inner in jaxprs_in_params(eqn.params):
            found += stacked_solvers(inner)
    return found


@pytest.mark.parametrize("make", [scaled_gd, lora_rite])
def test_on_a_cpu_matrices_that_are_mapped_over_or_stacked_are_solved_one_by_one(make):
    """JAX's own batches wait for threads, of which a sweep on several devices leaves none."""

    def moved(rate, params):
        tx = make(rate)
        return tx.update(params, tx.init(params), params)[0]

    params = {"lora_A": jnp.ones((3, 4, 64)), "lora_B": jnp.ones((3, 32, 4))}
    mapped = jax.make_jaxpr(jax.vmap(moved, in_axes=(0, None)))(jnp.ones(5), params)
    assert "svd" in str(mapped)
    assert stacked_solvers(mapped.jaxpr) == []
    control = jax.make_jaxpr(jax.vmap(jnp.linalg.svd))(jnp.ones((5, 4, 3)))
    assert stacked_solvers(control.jaxpr) == ["svd"]


def test_one_by_one_is_the_same_as_together():
    matrices = jnp.asarray(RNG.normal(size=(2, 3, 5, 4)))
    found = jax.jit(jax.vmap(one_by_one(jnp.linalg.qr)))(matrices)
    for one, other in zip(found, jnp.linalg.qr(matrices), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
