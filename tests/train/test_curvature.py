"""Curvature against dense Hessians in float64, of formulas written anew, and against algebra."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, Frozen
from lora_theory.data.synthetic import Data, objective
from lora_theory.models.toys import LayerToy, TwoLayerToy
from lora_theory.train import curvature as module
from lora_theory.train.curvature import Adam, curvature
from lora_theory.train.sweep import Problem

INITS = ("A", "B", "both")
# So few parameters that the default iterations see the whole of H: 2 · 6 · 4 and 2 · 6 · 3.
WIDTH = 6


@functools.cache
def problem(name, init="both", width=WIDTH, samples=40, seed=0, x64=True):
    """Drawn by NumPy into a model that is traced alone: JAX's draws would be compiled."""
    rng = np.random.default_rng(seed)
    inputs = 5 if name == "two_layer" else width
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32

        def normal(*shape, scale=1.0):
            return jnp.asarray(scale * rng.standard_normal(shape), dtype)

        model = nnx.eval_shape(lambda: built(name, width))
        lora, rank = model.lora, model.lora.lora_a.shape[0]
        lora.lora_a.set_value(normal(rank, width, scale=0.0 if init == "B" else width**-0.5))
        lora.lora_b.set_value(normal(width, rank, scale=0.0 if init == "A" else 1.0))
        model.w_out.set_value(normal(width, scale=width**-0.5))
        if name == "two_layer":
            model.w_in.set_value(normal(width, inputs, scale=inputs**-0.5))
        data = Data(normal(inputs, samples), normal(samples), normal(inputs, 8), normal(8))
        return Problem(model, data)


def built(name, width):
    if name == "two_layer":
        return TwoLayerToy(5, width, 4, init="both", key=jax.random.key(0))
    return LayerToy(width, 3, alpha=2.0, init="both", key=jax.random.key(0))


def measured(of, **options):
    with jax.enable_x64(of.data.x_train.dtype == jnp.float64):
        return curvature(of, **{"loss": "mse"} | options)


def loss_anew(flat, shapes, kind, loss, x, y, frozen):
    """L_train of (A, B), flat, without the library's layers and losses."""
    a, b = unflat(flat, shapes)
    if kind == "two_layer":
        f = frozen[1] @ jnp.maximum(b @ a @ jnp.maximum(frozen[0] @ x, 0), 0)
    else:  # The layer, α/r = 2/3.
        f = frozen[0] @ (b @ a @ x) * 2 / 3
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


@pytest.mark.parametrize(
    ("name", "init", "loss"),
    [
        ("two_layer", "both", "mse"),
        *(("layer", init, loss) for init in INITS for loss in ("mse", "all_pairs")),
    ],
)
def test_ends_equal_those_of_the_dense_hessian(name, init, loss):
    of = problem(name, init)
    found, expected = measured(of, loss=loss), dense_ends(name, init, loss=loss)
    # float64, at least as many iterations as parameters: rounding alone.
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
    assert max(errors(found, dense_ends(name, init, WIDTH, 40, 1, loss=loss))) > 1e-3


def of_one_sample(init):
    """The layer on one sample, as often as the others have samples; y = 10."""
    of = problem("layer", init)
    with jax.enable_x64(True):
        x = jnp.tile(of.data.x_train[:, :1], 40)
        return Problem(of.model, of.data._replace(x_train=x, y_train=jnp.full(40, 10.0)))


def sizes(of):
    """|s w|², |x|², |A x|² and |Bᵀ s w|² of the layer, s = 2/3."""
    lora = of.model.lora
    w, x, a, b = (
        np.asarray(value)
        for value in (
            of.model.w_out[...],
            of.data.x_train[:, 0],
            lora.lora_a[...],
            lora.lora_b[...],
        )
    )
    return tuple(float(v @ v) for v in (2 / 3 * w, x, a @ x, 2 / 3 * b.T @ w))


def test_one_sided_factors_have_the_pair_of_the_formula():
    """One sample, B = 0: along A x, H = [[0, c], [c, 2 q]] with q = |s w|² |A x|² and
    c = 2 y |s w| |x|, so λ = q ± √(q² + c²); in the other r − 1 directions λ = ± c.
    """
    of = of_one_sample("A")
    w, x, z_a, _ = sizes(of)
    q, c = w * z_a, 2 * 10 * math.sqrt(w * x)
    both, root = measured(of).both, math.hypot(q, c)
    np.testing.assert_allclose([both.low, both.high], [-c, q + root], rtol=1e-12)
    assert -0.8 > both.low / both.high > -1  # Almost a pair: power iteration would stall.


def test_blocks_of_one_sample_have_the_formula():
    """H_AA = 2 |Bᵀ s w|² x xᵀ on Bᵀw, H_BB = 2 |s w|² |A x|²; the ratio is that of the largest."""
    of = of_one_sample("both")
    w, x, z_a, v = sizes(of)
    found = measured(of)
    np.testing.assert_allclose(found.a.high, 2 * v * x, rtol=1e-12)
    np.testing.assert_allclose(found.b.high, 2 * w * z_a, rtol=1e-12)
    assert found.ratio == found.a.high / found.b.high
    assert math.isnan(measured(of_one_sample("A")).ratio)


def test_a_relu_without_input_has_no_curvature():
    """With W* = 0 and one factor 0 no gate is open: nothing depends on anything."""
    for init in ("A", "B"):
        found = measured(problem("two_layer", init))
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


def ritz(matrix, products):
    """The ends of a symmetric matrix in the Krylov space of so many products."""
    rows = np.random.default_rng(5).standard_normal((1, len(matrix)))
    while len(rows) < products:
        rows = np.vstack([rows, matrix @ rows[-1]])
        rows = np.linalg.qr(rows.T)[0].T
    return np.linalg.eigvalsh(rows @ matrix @ rows.T)[[0, -1]]


@pytest.mark.slow
def test_default_iterations_are_enough_in_float32_for_any_model_with_samples_first():
    """1e-5 of a block's larger |end|; an eighth of the products does not do."""
    which = "two_layer", "both", 32, 100, 0
    of = problem(*which, x64=False)
    rows = of.data._replace(x_train=of.data.x_train.T, x_test=of.data.x_test.T)
    found = measured(Problem(SamplesFirst(of.model), rows), axis=-1)
    # The same numbers: float32 holds fewer of them.
    with jax.enable_x64(True):
        given = arguments("two_layer", of)
        matrix = np.asarray(hessian(*given))
    expected = spectra(matrix, given[1])
    assert len(matrix) > 3 * module.ITERATIONS
    assert max(errors(found, expected)) < 1e-5
    low, high = ritz(matrix, module.ITERATIONS // 8)
    assert max(low - expected[2][0], expected[2][1] - high) > 1e-4 * abs(expected[2]).max()


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


@pytest.mark.parametrize("init", INITS)
def test_adam_equals_adam_by_hand(init):
    of, adam = problem("layer", init), Adam(1e-4, 1e-3, steps=3)
    found = measured(of, adam=adam)
    expected, unmoved = adam_anew("layer", of, adam)
    # Condition: where one gradient nearly vanishes P⁻¹ is large, and rounding with it.
    assert max(errors(found, expected)) < 1e-9
    assert [found.unmoved_a, found.unmoved_b] == unmoved
    # Controls: other rates, other ε, v̂ not corrected, and H itself.
    for wrong in (adam._replace(eta_a=1e-3), adam._replace(eps=1e-3), adam._replace(steps=2)):
        assert max(errors(found, adam_anew("layer", of, wrong)[0])) > 1e-4
    assert max(errors(found, adam_anew("layer", of, adam, correct=False)[0])) > 0.5
    assert max(errors(measured(of), expected)) > 0.5


@pytest.mark.parametrize("init", ["A", "B"])
def test_what_adam_has_not_moved_is_held_fixed_and_counted(init):
    """Of one-sided factors one has no gradient before the other moves: ε alone would divide it."""
    still, moved = ("a", "b") if init == "A" else ("b", "a")
    of, resting = problem("layer", init), {f"eta_{moved}": 0.0}
    first = measured(of, adam=Adam(1e-4, 1e-3, steps=3)._replace(**resting))
    assert getattr(first, still).zero
    assert getattr(first, f"unmoved_{still}") == 1
    assert getattr(first, f"unmoved_{moved}") == 0
    np.testing.assert_allclose(first.both.high, getattr(first, moved).high, rtol=1e-12)
    # So it is after one step, whatever the rates.
    assert adam_anew("layer", of, Adam(1e-4, 1e-3, steps=1))[1] == [
        first.unmoved_a,
        first.unmoved_b,
    ]
    later = measured(of, adam=Adam(1e-4, 1e-3, steps=3))
    assert not getattr(later, still).zero
    assert later.unmoved_a == later.unmoved_b == 0


@pytest.mark.parametrize("adam", [None, Adam(1e-3, 1e-2, steps=3)])
def test_one_compilation_serves_seeds_losses_and_rates(adam):
    model = problem("layer").model
    graph = nnx.split(model, FactorA, FactorB, ...)[0]
    fixed = adam and adam._replace(eta_a=0.0, eta_b=0.0)

    def of_parts(iterations):
        return module.program(module._ending, graph, iterations, fixed, 0, model=model)

    program = of_parts(module.ITERATIONS)
    measured(problem("layer"), adam=adam)
    before = program._cache_size()
    for seed, loss, init in ((0, "all_pairs", "A"), (1, "mse", "B")):
        of = problem("layer", init, seed=seed)
        measured(of, loss=loss, adam=adam and adam._replace(eta_a=0.1))
    assert program._cache_size() == before > 0
    # Control: what is no argument is another program.
    assert of_parts(module.ITERATIONS - 1) is not program
    assert of_parts(module.ITERATIONS) is program


def test_diverged_parameters_have_no_curvature():
    found = measured(problem("layer"), adam=Adam(1e200, 1e200, steps=3))
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
        measured(problem("layer"), **options)


def test_a_model_without_factors_is_refused():
    linear = nnx.eval_shape(lambda: nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="needs factors of both types"):
        measured(Problem(linear, problem("layer").data))


class InFeatures(LayerToy):
    def features(self, x):
        return self.lora(x)

    def readout(self, z):
        return self.w_out[...] @ z


def backwards(data):
    """A train loss of the test samples."""
    goal = objective(data, "mse")
    return goal._replace(weight=goal.weight[::-1])


def test_what_is_not_that_of_the_engine_has_no_curvature():
    of = problem("layer", x64=False)
    moved = InFeatures(WIDTH, 4, init="both", key=jax.random.key(0))
    with pytest.raises(ValueError, match="features must not use what is trained"):
        curvature(of._replace(model=moved), loss="mse")
    with pytest.raises(ValueError, match="loss: must weigh training samples alone"):
        curvature(of, loss=backwards)
