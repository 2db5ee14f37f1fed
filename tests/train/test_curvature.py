"""Curvature against dense Hessians in float64, of formulas written anew, and against algebra."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, Frozen
from lora_theory.data.synthetic import linear_task, signs_task, sine_task
from lora_theory.models.toys import LayerToy, LinearToy, TwoLayerToy
from lora_theory.train import curvature as module
from lora_theory.train.curvature import Adam, curvature
from lora_theory.train.sweep import Problem

INITS = ("A", "B", "both")


@functools.cache
def problem(name, init="both", width=16, samples=40, seed=0, x64=True):
    with jax.enable_x64(x64):
        model, data = drawn(name, width, samples, jax.random.key(seed))
        factors = {"A": model.lora.lora_b, "B": model.lora.lora_a}
        if init in factors:  # The other factor is 0.
            factors[init][...] = jnp.zeros_like(factors[init][...])
        return Problem(model, data)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))  # Op by op it would be forty compilations.
def drawn(name, width, samples, key):
    key_data, key_model = jax.random.split(key)
    if name == "two_layer":
        data = sine_task(5, samples, 8, key=key_data)
        return TwoLayerToy(5, width, 4, init="both", key=key_model), data
    if name == "layer":
        data = signs_task(width, samples, 8, key=key_data)
        return LayerToy(width, 3, alpha=2.0, init="both", key=key_model), data
    data = linear_task(width, samples, 8, key=key_data)
    return LinearToy(width, init="both", key=key_model), data


def measured(of, **options):
    with jax.enable_x64(of.data.x_train.dtype == jnp.float64):
        return curvature(of, **{"loss": "mse"} | options)


def loss_anew(flat, shapes, kind, loss, x, y, frozen):
    """L_train of (A, B), flat, without the library's layers and losses."""
    a, b = unflat(flat, shapes)
    if kind == "two_layer":
        f = frozen[1] @ jnp.maximum(b @ a @ jnp.maximum(frozen[0] @ x, 0), 0)
    elif kind == "layer":  # α/r = 2/3
        f = frozen[0] @ (b @ a @ x) * 2 / 3
    else:
        f = (b @ a @ x)[0]
    if loss == "mse":
        return jnp.mean((f - y) ** 2)
    return jnp.mean((f[:, None] - y[None, :]) ** 2)


gradient = jax.jit(jax.grad(loss_anew), static_argnums=(1, 2, 3))
hessian = jax.jit(jax.hessian(loss_anew), static_argnums=(1, 2, 3))


def unflat(flat, shapes):
    size = math.prod(shapes[0])
    return flat[:size].reshape(shapes[0]), flat[size:].reshape(shapes[1])


def arguments(kind, of, loss="mse"):
    """Those of `loss_anew`, in float64."""
    model, double = of.model, functools.partial(np.asarray, dtype=np.float64)
    factors = [double(model.lora.lora_a[...]), double(model.lora.lora_b[...])]
    frozen = [double(getattr(model, n)[...]) for n in ("w_in", "w_out") if hasattr(model, n)]
    flat = np.concatenate([factor.ravel() for factor in factors])
    shapes = tuple(factor.shape for factor in factors)
    return flat, shapes, kind, loss, double(of.data.x_train), double(of.data.y_train), frozen


def spectra(matrix, shapes):
    size = math.prod(shapes[0])
    blocks = matrix[:size, :size], matrix[size:, size:], matrix
    return [np.linalg.eigvalsh(block)[[0, -1]] for block in blocks]


@functools.cache
def dense_ends(*which, loss="mse"):
    """Of `problem(*which)`."""
    with jax.enable_x64(True):
        given = arguments(which[0], problem(*which), loss)
        return spectra(np.asarray(hessian(*given)), given[1])


def errors(found, expected):
    """Of each block's ends, relative to the block's larger |end|; of a zero block as it is."""
    return [
        max(abs(block.low - low), abs(block.high - high)) / (max(abs(low), abs(high)) or 1)
        for block, (low, high) in zip(found[:3], expected, strict=True)
    ]


@pytest.mark.parametrize("loss", ["mse", "all_pairs"])
@pytest.mark.parametrize(
    ("name", "init"),
    [("two_layer", "both"), *[(name, init) for name in ("linear", "layer") for init in INITS]],
)
def test_ends_equal_those_of_the_dense_hessian(name, init, loss):
    of = problem(name, init)
    found, expected = measured(of, loss=loss, iterations=1000), dense_ends(name, init, loss=loss)
    # float64, as many iterations as parameters: rounding alone.
    assert max(errors(found, expected)) < 1e-12
    for block, (low, high) in zip(found[:3], expected, strict=True):
        largest = max(abs(low), abs(high))
        assert max(block.low_residual, block.high_residual) <= 1e-12 * largest
    assert found.a.zero == (init == "A")
    assert found.b.zero == (init == "B")
    assert not found.both.zero
    # Controls: the other block, the other point.
    swapped = found._replace(a=found.b, b=found.a)
    assert max(errors(swapped, expected)) > 0.1
    assert max(errors(found, dense_ends(name, init, 16, 40, 1, loss=loss))) > 1e-3


def test_default_iterations_are_enough_in_float32():
    """1e-5 of a block's larger |end|; an eighth of the products does not do."""
    which = "two_layer", "both", 32, 100, 0, False
    found, expected = measured(problem(*which)), dense_ends(*which)
    assert max(errors(found, expected)) < 1e-5
    assert max(errors(measured(problem(*which), iterations=8), expected)) > 1e-4


def test_one_sided_factors_have_the_pair_of_the_formula():
    """One sample, b = 0: H = [[0, c x], [c xᵀ, 2 s²]], c = −2 y: λ = s² ± √(s⁴ + c² ‖x‖²)."""
    of = problem("linear", "A", 64, 1, x64=False)
    x, y = of.data.x_train[:, 0], of.data.y_train[0]
    s = float(of.model.lora.lora_a[0] @ x)
    root = math.sqrt(s**4 + 4 * float(y**2 * (x @ x)))
    both = measured(of).both
    np.testing.assert_allclose([both.low, both.high], [s**2 - root, s**2 + root], rtol=1e-5)
    assert -0.9 > both.low / both.high > -1  # Almost a pair: power iteration would stall.


def test_blocks_of_one_sample_have_the_formula():
    """H_aa = 2 b² x xᵀ and H_bb = 2 (aᵀx)²; the ratio of the largest is that of the rates."""
    of = problem("linear", "both", 64, 1, x64=False)
    x, lora = of.data.x_train[:, 0], of.model.lora
    a, b = lora.lora_a[0], lora.lora_b[0, 0]
    found = measured(of)
    np.testing.assert_allclose(found.a.high, 2 * b**2 * (x @ x), rtol=1e-5)
    np.testing.assert_allclose(found.b.high, 2 * (a @ x) ** 2, rtol=1e-5)
    assert found.ratio == found.a.high / found.b.high
    assert math.isnan(measured(problem("linear", "A", 64, 1, x64=False)).ratio)


def test_a_relu_without_input_has_no_curvature():
    """With W* = 0 and one factor 0 no gate is open: nothing depends on anything."""
    for init in ("A", "B"):
        found = measured(problem("two_layer", init), iterations=1000)
        assert found.a.zero
        assert found.b.zero
        assert found.both.zero


class SamplesFirst(nnx.Module):
    """The two-layer toy's function with samples first: x (N, d), Z (N, n)."""

    def __init__(self, columns):
        lora = columns.lora
        self.w_in, self.w_out = Frozen(columns.w_in[...].T), Frozen(columns.w_out[...])
        self.a, self.b = FactorA(lora.lora_a[...].T), FactorB(lora.lora_b[...].T)

    def features(self, x):
        return nnx.relu(x @ self.w_in[...])

    def readout(self, z):
        return nnx.relu(z @ self.a[...] @ self.b[...]) @ self.w_out[...]


def test_any_model_of_the_protocol_and_samples_first():
    of = problem("two_layer")
    rows = of.data._replace(x_train=of.data.x_train.T, x_test=of.data.x_test.T)
    found = measured(Problem(SamplesFirst(of.model), rows), axis=-1, iterations=1000)
    assert max(errors(found, dense_ends("two_layer"))) < 1e-12


def adam_anew(kind, of, adam, correct=True):
    """Adam by hand, then the ends of P^−1/2 H P^−1/2, and the shares of v = 0."""
    with jax.enable_x64(True):
        flat, shapes, *rest = arguments(kind, of)
        eta = np.repeat([adam.eta_a, adam.eta_b], [math.prod(shape) for shape in shapes])
        m = v = np.zeros_like(flat)
        for t in range(1, adam.steps + 1):
            g = np.asarray(gradient(flat, shapes, *rest))
            m = adam.b1 * m + (1 - adam.b1) * g
            v = adam.b2 * v + (1 - adam.b2) * g**2
            p = np.sqrt(v / (1 - adam.b2**t)) + adam.eps
            flat = flat - eta * m / (1 - adam.b1**t) / p
        p = p if correct else np.sqrt(v) + adam.eps
        scale = np.where(v > 0, p**-0.5, 0)
        matrix = scale[:, None] * np.asarray(hessian(flat, shapes, *rest)) * scale
        return spectra(matrix, shapes), [float((part == 0).mean()) for part in unflat(v, shapes)]


@pytest.mark.parametrize(("name", "init"), [("two_layer", "both"), ("layer", "A"), ("layer", "B")])
def test_adam_equals_adam_by_hand(name, init):
    of, adam = problem(name, init), Adam(1e-4, 1e-3, steps=3)
    found = measured(of, adam=adam, iterations=1000)
    expected, unmoved = adam_anew(name, of, adam)
    # Condition: where one gradient nearly vanishes P⁻¹ is large, and rounding with it.
    assert max(errors(found, expected)) < 1e-9
    assert [found.unmoved_a, found.unmoved_b] == unmoved
    # Controls: other rates, other ε, v̂ not corrected, and H itself.
    for wrong in (adam._replace(eta_a=1e-3), adam._replace(eps=1e-3), adam._replace(steps=2)):
        assert max(errors(found, adam_anew(name, of, wrong)[0])) > 1e-4
    assert max(errors(found, adam_anew(name, of, adam, correct=False)[0])) > 0.5
    assert max(errors(measured(of, iterations=1000), expected)) > 0.5


@pytest.mark.parametrize("init", ["A", "B"])
def test_what_adam_has_not_moved_is_held_fixed_and_counted(init):
    """Of one-sided factors one has no gradient at the first step: ε alone would divide it."""
    still, moved = ("a", "b") if init == "A" else ("b", "a")
    of = problem("layer", init)
    first = measured(of, adam=Adam(1e-4, 1e-3, steps=1), iterations=1000)
    assert getattr(first, still).zero
    assert getattr(first, f"unmoved_{still}") == 1
    assert getattr(first, f"unmoved_{moved}") == 0
    np.testing.assert_allclose(first.both.high, getattr(first, moved).high, rtol=1e-12)
    later = measured(of, adam=Adam(1e-4, 1e-3, steps=3), iterations=1000)
    assert not getattr(later, still).zero
    assert later.unmoved_a == later.unmoved_b == 0


@pytest.mark.parametrize("adam", [None, Adam(1e-3, 1e-2, steps=2)])
def test_one_compilation_serves_seeds_losses_and_rates(adam):
    def compiled():
        return module._compiled(graph, module.ITERATIONS, fixed, 0)._cache_size()

    small = functools.partial(problem, "linear", width=64, samples=1, x64=False)
    graph = nnx.split(small().model, FactorA, FactorB, ...)[0]
    fixed = adam and adam._replace(eta_a=0.0, eta_b=0.0)
    measured(small(), adam=adam)
    before = compiled()
    for seed, loss, init in ((0, "all_pairs", "A"), (1, "mse", "B")):
        measured(small(init=init, seed=seed), loss=loss, adam=adam and adam._replace(eta_a=0.1))
    assert compiled() == before > 0
    if adam is None:  # Control: another shape is another program.
        measured(problem("linear", width=8, samples=1, x64=False))
        assert compiled() == before + 1


def test_diverged_parameters_have_no_curvature():
    of = problem("linear", "both", 64, 1, x64=False)
    found = measured(of, adam=Adam(1e30, 1e30, steps=2))
    assert math.isnan(found.both.high)
    assert not found.both.zero


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations: must be at least 1"),
        ({"axis": 1}, "axis: must be 0 or -1"),
        ({"adam": Adam(-1.0, 1.0, 1)}, "rates must be finite and at least 0"),
        ({"adam": Adam(1.0, math.inf, 1)}, "rates must be finite and at least 0"),
        ({"adam": Adam(1.0, 1.0, 0)}, "steps must be at least 1"),
        ({"loss": "none"}, "loss: must be one of"),
    ],
)
def test_senseless_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measured(problem("linear"), **options)


def test_a_model_without_factors_is_refused():
    with pytest.raises(ValueError, match="needs factors of both types"):
        measured(Problem(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), problem("linear").data))
