"""What probing steps do: against a layer written out in numpy, and what can not be probed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import LayerToy, LoRA, ParamGroup, lora_plus, seed_key
from lora_theory.data.synthetic import signs_task
from lora_theory.models.toys import TwoLayerToy
from lora_theory.train.coordinates import half_mse
from lora_theory.train.probing import Probe, _check_takes_two, checked_batches

WIDTH, RANK, STEPS = 16, 3, 5
sgd = functools.partial(lora_plus, base=optax.sgd)


def probe(init, batches, optimizer=sgd):
    model = LayerToy(WIDTH, RANK, init=init, key=seed_key(0))
    return model, Probe(model, batches, half_mse, optimizer, nnx.LoRAParam, None)


def data(samples, steps=STEPS):
    drawn = [signs_task(WIDTH, samples, 1, target=3.0, key=seed_key(k)) for k in range(steps)]
    return [(one.x_train, one.y_train) for one in drawn]


def by_hand(model, batches, eta_a, eta_b):
    """κ_A, κ_B and the steps, of f = w B A x and ½ mean (f − y)² under gradient descent."""
    a0, b0 = (np.asarray(f[...], np.float64) for f in (model.lora.lora_a, model.lora.lora_b))
    w = np.asarray(model.w_out[...], np.float64)
    batches = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in batches]

    def residual(a, b, x, y):
        return (w @ b @ a @ x - y) / y.size

    def of_a(a, b, x, u):
        return np.outer(b.T @ w, x @ u)

    def of_b(a, b, x, u):
        return np.outer(w, a @ x @ u)

    a, b = a0, b0
    for x, y in batches:
        u = residual(a, b, x, y)
        a, b = a - eta_a * of_a(a, b, x, u), b - eta_b * of_b(a, b, x, u)

    def total(of, a, b):
        return sum(of(a, b, x, residual(a0, b0, x, y)) for x, y in batches) / len(batches)

    def change(of, a, b):
        before, after = total(of, a0, b0), total(of, a, b)
        size = np.linalg.norm(before)
        return np.linalg.norm(after - before) / size if size else np.nan

    loss = np.mean([0.5 * np.mean((w @ b0 @ a0 @ x - y) ** 2) for x, y in batches])
    step_a, step_b = ((total(of, a0, b0) * (start - end)).sum() / loss
                      for of, start, end in ((of_a, a0, a), (of_b, b0, b)))  # fmt: skip
    return change(of_b, a, b0), change(of_a, a0, b), step_a, step_b


@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("rates", [(0.1, 1.0), (0.02, 8.0), (0.0, 1.0), (0.1, 0.0)])
def test_it_is_the_layer_written_out(init, rates):
    batches = data(samples=6)
    model, probing = probe(init, batches)
    found = probing(range(STEPS), *rates)
    wanted = by_hand(model, batches, *rates)
    np.testing.assert_allclose(found.moved_a[0], wanted[0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.moved_b[0], wanted[1], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose([found.step_a, found.step_b], wanted[2:], rtol=1e-4, atol=1e-7)


def test_of_one_sample_it_is_the_change_of_z_a():
    """One sample, given twice: κ_A = ‖ΔZ_A‖ / ‖Z_A‖."""
    (x, y), *_ = data(samples=1)
    batches = [(jnp.repeat(x, 2, axis=1), jnp.repeat(y, 2))] * STEPS
    model, probing = probe("A", batches)
    found = probing(range(STEPS), 0.3, 8.0)
    start, b = (np.asarray(f[...]) for f in (model.lora.lora_a, model.lora.lora_b))
    a, w = start, np.asarray(model.w_out[...])
    for x, y in batches:
        of_z = np.outer(w, x @ ((w @ b @ a @ x - y) / y.size))  # ∂L/∂(B A)
        a, b = a - 0.3 * b.T @ of_z, b - 8.0 * of_z @ a.T
    z = x[:, :1]
    wanted = np.linalg.norm((a - start) @ z) / np.linalg.norm(start @ z)
    assert wanted > 0.1
    np.testing.assert_allclose(found.moved_a[0], wanted, rtol=1e-4)


@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_it_sees_which_factor_is_random(init):
    assert probe(init, data(2))[1].init() == init


def test_a_question_is_asked_once():
    _, probing = probe("A", data(2))
    first = probing(range(STEPS), 0.1, 0.1)
    assert probing(range(STEPS), 0.1, 0.1) is first
    assert probing.steps == STEPS
    probing(range(2), 0.1, 0.1)
    assert probing.steps == STEPS + 2


def test_a_pair_of_parameters_and_a_function_is_probed_like_the_network():
    model, probing = probe("A", data(4))
    params = {"lora_A": model.lora.lora_a[...], "lora_B": model.lora.lora_b[...]}
    w = model.w_out[...]
    pair = (params, lambda p, x: w @ p["lora_B"] @ p["lora_A"] @ x)
    other = Probe(pair, data(4), half_mse, sgd, None, None)
    for one, two in zip(probing(range(3), 0.1, 2.0), other(range(3), 0.1, 2.0), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-7)


def test_all_else_stays_as_at_the_start():
    """A head that trains fast leaves what the factors change as it is measured."""

    class Net(nnx.Module):
        def __init__(self):
            self.layer = LoRA(WIDTH, WIDTH, RANK, key=seed_key(0))
            self.head = nnx.Param(jnp.ones(WIDTH) / WIDTH)

        def __call__(self, x):
            return self.head[...] @ (x + self.layer(x))

    trainable = nnx.Any(nnx.LoRAParam, nnx.PathContains("head"))
    fast = {"head": ParamGroup(match="head", rate=5.0)}
    optimizer = functools.partial(sgd, groups=fast)
    probing = Probe(Net(), data(4), half_mse, optimizer, trainable, None)
    found = probing([0], 0.1, 1.0)
    np.testing.assert_allclose(found.moved_a, [0.0], atol=1e-6)
    assert found.step_b > 0


ZEROS = jnp.zeros((4, 2))
ONES = jnp.ones((4, 2))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"lora_a": ZEROS, "lora_b": ZEROS.T}, "must have a random factor in each layer"),
        (
            {"x": {"lora_a": ONES, "lora_b": 0 * ONES.T}, "y": {"lora_a": ZEROS, "lora_b": ONES.T}},
            "must start alike in all layers",
        ),
    ],
)
def test_starts_that_are_none(params, words):
    probing = Probe((params, lambda p, x: x), data(2), half_mse, sgd, None, None)
    with pytest.raises(ValueError, match=f"^model: {words}"):
        probing.init()


@pytest.mark.parametrize("params", [{}, {"bias": jnp.ones(3)}, {"lora_a": ONES}])
def test_a_model_without_adapters(params):
    with pytest.raises(ValueError, match=r"^model: must have adapters, factors A and B that train"):
        Probe((params, lambda p, x: x), data(2), half_mse, sgd, None, None)


def test_a_model_that_is_none():
    with pytest.raises(ValueError, match=r"^model: must be an nnx.Module, or a pair"):
        Probe({"lora_a": ONES}, data(2), half_mse, sgd, None, None)


X, Y = jnp.ones((4, 3)), jnp.ones(3)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (3, "must be pairs"),
        ([X, Y, X], "must be pairs"),
        ([(X, Y), (X[:, :2], Y[:2])], "must have one shape"),
        ([(X, Y), (X, Y * jnp.nan)], r"must be finite \(got NaN or ∞ in batch 1\)"),
        ([(X[:, :1], Y[:1])], r"must have several samples each \(got 1\)"),
        ([(X, Y), ((X,), Y)], "must be alike"),
        ([("text", Y)], r"must be pairs \(x, y\) of arrays of numbers \(got 'text'\)"),
        ([(X, None)], r"must be pairs \(x, y\) with an array y, .* \(got None\)"),
        ([(X, [1.0, 2.0, 3.0])], r"must be pairs \(x, y\) with an array y"),
    ],
)
def test_batches_that_are_none(batches, words):
    with pytest.raises(ValueError, match=f"^batches: {words}"):
        checked_batches(batches)


def test_batches_may_hold_keys_tokens_and_half_precision():
    x = {"key": jax.random.key(0), "tokens": jnp.ones((2, 3), int), "half": X.astype(jnp.bfloat16)}
    assert len(checked_batches([(x, Y)] * 2)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": lambda f, y, z: f}, r"loss: must be \(f, y\) -> a number"),
        ({"loss": lambda f, y: f - y}, r"loss: must give one real number \(got float32 of shape"),
        ({"loss": lambda f, y: (f.mean(), f)}, "loss: must be .* without more beside it"),
        ({"loss": lambda f, y: 1j * f.mean()}, "loss: must give one real number .got complex64"),
        ({"optimizer": lambda eta: optax.sgd(eta)}, r"optimizer: must be \(η_A, η_B\) -> an"),
        ({"optimizer": lambda a, b: None}, r"optimizer: must be \(η_A, η_B\) -> an .*got None"),
        ({"optimizer": lambda a, b: sgd(float(a), b)}, "optimizer: must take rates that jax.jit"),
        ({"trainable": 3}, r"trainable: must be an NNX filter, as nnx.LoRAParam \(got 3\)"),
        ({"model": ({"lora_a": ONES, "lora_b": ONES}, lambda p: p)}, r"model: must be a pair"),
    ],
)
def test_functions_that_are_none(given, words):
    whole = {"model": LayerToy(4, 2, init="A", key=seed_key(0)), "loss": half_mse}
    whole |= {"optimizer": sgd, "trainable": nnx.LoRAParam} | given
    with pytest.raises(ValueError, match=f"^{words}"):
        Probe(**whole, batches=[(X, Y)], labels=None)([0], 0.1, 0.1)


def test_what_is_no_function():
    """Past the annotations, which only tests check."""
    with pytest.raises(ValueError, match=r"^loss: must be a function \(got None\)"):
        _check_takes_two("loss", "a function", None)


def test_weights_of_nan():
    for bad in (ONES * jnp.nan, jax.ShapeDtypeStruct((4, 2), float)):
        pair = {"lora_a": bad, "lora_b": ZEROS.T}, lambda p, x: x
        with pytest.raises(ValueError, match=r"^model: must be (finite .* lora_a|of arrays)"):
            Probe(pair, data(2), half_mse, sgd, None, None).init()


def test_a_network_in_training_mode():
    class Net(nnx.Module):
        def __init__(self, **options):
            self.lora = nnx.LoRALinear(4, 3, lora_rank=2, rngs=nnx.Rngs(0))
            self.drop = nnx.Dropout(rngs=nnx.Rngs(0), **options)
            self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.drop(self.norm(self.lora(x.T))).mean(1)

    def probed(model):
        return Probe(model, [(X, Y)], half_mse, sgd, nnx.LoRAParam, None)([0], 0.1, 0.1)

    model = Net(rate=0.5)
    words = r"^model: must be in evaluation mode \(got Dropout drop in training mode\); call model"
    with pytest.raises(ValueError, match=words):
        probed(model)
    model.eval()
    np.testing.assert_array_equal(probed(model).moved_b, probed(Net(rate=0.0)).moved_b)
    model.norm.use_running_average = False
    with pytest.raises(ValueError, match="got BatchNorm norm in training mode"):
        probed(model)


def test_nan_is_an_answer_when_jax_looks_for_it():
    """Of a layer without a gradient, as A's of B = 0, and of a rate that is too large."""
    with jax.debug_nans(True):
        _, probing = probe("A", data(2))
        assert np.isnan(probing(range(STEPS), 0.1, 0.1).moved_b).all()
        assert not probing(range(STEPS), 1e30, 1e30).grew < 1


def test_a_batch_of_two_parts_of_which_a_function_reads_one():
    """Programs that differ in nothing but which of two equal shapes they read."""
    params = {"lora_a": jnp.ones((2, 4)), "lora_b": jnp.zeros((1, 2))}

    def found(part):
        pair = params, lambda p, x: (p["lora_b"] @ p["lora_a"] @ x[part])[0]
        return Probe(pair, [((X, 3 * X), Y)], half_mse, sgd, None, None)([0], 0.1, 0.1).step_b

    assert found(1) == pytest.approx(9 * found(0))


def test_a_loss_of_nan_or_zero():
    key = seed_key(0)
    model = TwoLayerToy(4, 8, 2, init="both", key=key)
    for loss, words in ((lambda f, y: jnp.nan * f.mean(), "nan"), (lambda f, y: 0 * f.mean(), "0")):
        probing = Probe(model, [(X, Y)], loss, sgd, nnx.LoRAParam, None)
        with pytest.raises(ValueError, match=rf"^loss: must be a positive number .*got {words}"):
            probing([0], 0.1, 0.1)
