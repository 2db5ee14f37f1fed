"""What a coordinate check refuses, in words, before anything is measured."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import LinearToy, LoRA, lora_plus
from lora_theory.adapters.layer import EmbeddingFactor
from lora_theory.train.coordinates import coordinate_check, half_mse
from lora_theory.train.setups import (
    check_functions,
    checked_dtype,
    checked_rates,
    checked_seeds,
    checked_widths,
)

SGD = functools.partial(lora_plus, base=optax.sgd)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0.1, "rates: must give a tuple with a rate for each argument .*got 0.1 at n = 8"),
        ((-0.5 / 8, 0.5), "rates at n = 8: must be a finite number of at least 0 .got -0.0625"),
        (("0.5", 0.5), "rates at n = 8: must be a finite number of at least 0 .got '0.5'"),
        ((np.nan, 0.5), "rates at n = 8: must be a finite number of at least 0 .got nan"),
        ((0.5, np.inf), "rates at n = 8: must be a finite number of at least 0 .got inf"),
        ((True, 0.5), "rates at n = 8: must be a finite number of at least 0 .got True"),
        ((np.ones(2), 0.5), "rates at n = 8: must be a finite number of at least 0"),
        ((0.5,) * 9, "rates: must be as many as the optimizer takes .got 9"),
        ((), "rates: must be as many as the optimizer takes .got 0"),
    ],
)
def test_rates_that_are_none_are_refused(given, message):
    def optimizer(eta_a, eta_b):
        return lora_plus(eta_a, eta_b)

    with pytest.raises(ValueError, match=message):
        checked_rates(lambda n: given, optimizer, 8)


@pytest.mark.parametrize("name", ["setup", "optimizer", "loss", "rates"])
def test_what_is_no_function_is_refused(name):
    check_functions(**{name: SGD})
    with pytest.raises(ValueError, match=f"{name}: must be a function .got 3"):
        check_functions(**{name: 3})


@pytest.mark.parametrize("given", [(0, 0.5), [0.0, 1], (np.float32(0.5), jnp.ones(()))])
def test_rates_may_be_any_numbers(given):
    assert checked_rates(lambda n: given, SGD, 8) == tuple(map(float, given))


@pytest.mark.parametrize(
    ("check", "given", "message"),
    [
        (checked_widths, [16, 8, 32], "widths: must be ascending integers from 1"),
        (checked_widths, [], "widths: must be ascending"),
        (checked_widths, [8.0, 16], "widths: must be ascending integers"),
        (checked_widths, [0, 1], "widths: must be ascending integers from 1"),
        (checked_widths, 8, "widths: must be ascending"),
        (checked_seeds, 0, "seeds: must be at least 1"),
        (checked_seeds, [], "seeds: must be at least 1"),
        (checked_seeds, [0, -1], "seeds: must be at least 1, or different integers from 0"),
        (checked_seeds, [1, 1], "seeds: must be at least 1, or different"),
        (checked_seeds, [2**31], "seeds: must be at least 1, or different"),
        (checked_seeds, 2.0, "seeds: must be at least 1"),
        (checked_seeds, "3", "seeds: must be at least 1"),
        (checked_seeds, True, "seeds: must be at least 1"),
        (checked_dtype, "float16", "dtype: must be float32 or float64"),
        (checked_dtype, "half a float", "dtype: must be float32 or float64"),
    ],
)
def test_arguments_that_are_none_are_refused(check, given, message):
    with pytest.raises(ValueError, match=message):
        check(given)


@pytest.mark.parametrize(
    ("check", "given", "found"),
    [
        (checked_widths, np.array([8, 16]), [8, 16]),
        (checked_widths, range(2, 4), [2, 3]),
        (checked_seeds, np.int64(2), [0, 1]),
        (checked_seeds, (5, 3), [5, 3]),
        (checked_dtype, jnp.float32, jnp.dtype("float32")),
    ],
)
def test_numbers_may_be_numpys(check, given, found):
    assert check(given) == found


class Net(nnx.Module):
    """A LoRA layer among what networks have besides."""

    def __init__(self, n, call, **parts):
        self.lora = LoRA(n, n, 2, init="both", axis=-1, key=jax.random.key(0))
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, x):
        return self.call(self, x)


def net(call, **parts):
    def setup(n, key):
        made = {name: make() for name, make in parts.items()}
        return Net(n, call, **made), jnp.ones((3, n)), jnp.ones(3)

    return setup


class Twice(LoRA):
    def __call__(self, z):
        return 2 * super().__call__(z)


def columns():
    return LoRA(8, 8, 2, init="both", key=jax.random.key(1))


def rngs():
    return nnx.Rngs(0)


REFUSED = {
    "two things": (
        lambda n, key: (LinearToy(n, init="A", key=key), 1),
        r"setup: must give \(model, x, y\) .got tuple of 2",
    ),
    "one thing": (
        lambda n, key: LinearToy(n, init="A", key=key),
        r"setup: must give \(model, x, y\) .got LinearToy",
    ),
    "no module": (lambda n, key: (jnp.ones, 1, 1), "setup: the model must be an nnx.Module"),
    "no layer": (
        lambda n, key: (nnx.Linear(n, 1, rngs=rngs()), jnp.ones((1, n)), jnp.ones((1, 1))),
        "setup: the model must have a LoRA layer of this library or of Flax",
    ),
    "other factors": (
        net(lambda m, x: m.lora(x).sum(1), table=lambda: EmbeddingFactor(jnp.ones((2, 2)))),
        "model: table must be A or B of a LoRA layer",
    ),
    "a layer that is not used": (
        net(lambda m, x: x.sum(1)),
        "model: the LoRA layer lora must be called on an input",
    ),
    "a layer that is only merged": (
        net(lambda m, x: (x @ m.lora.merged().T).sum(1)),
        "model: the LoRA layer lora must be called on an input .* only its .merged.. is",
    ),
    "a layer under vmap": (
        net(lambda m, x: jax.vmap(m.lora)(x).sum(1)),
        "setup: LoRA layers must be called on whole arrays, outside of jax.vmap",
    ),
    "a layer under jit": (
        net(lambda m, x: jax.jit(lambda x: m.lora(x))(x).sum(1)),
        "setup: LoRA layers must be called on whole arrays, outside of jax.vmap, jax.jit",
    ),
    "several outputs": (
        net(lambda m, x: (m.lora(x),) * 4),
        "setup: the model must give one array of real outputs .got tuple",
    ),
    "a layer of another's call": (
        net(lambda m, x: m.lora(x).sum(1), more=lambda: Twice(8, 8, 2, key=jax.random.key(1))),
        "model: the LoRA layer more must compute as LoRA does",
    ),
    "Dropout": (
        net(lambda m, x: m.drop(m.lora(x)).sum(1), drop=lambda: nnx.Dropout(0.5, rngs=rngs())),
        "setup: the model must not change while it is called, as Dropout",
    ),
    "BatchNorm": (
        net(lambda m, x: m.norm(m.lora(x)).sum(1), norm=lambda: nnx.BatchNorm(8, rngs=rngs())),
        "setup: the model must not change while it is called",
    ),
    "targets as a column": (
        lambda n, key: (LinearToy(n, init="A", key=key), jnp.ones((n, 3)), jnp.ones((3, 1))),
        r"y: must have the shape of f, \(3,\) .got \(3, 1\)",
    ),
    "samples first where they are columns": (
        net(lambda m, x: m.lora(x.T).sum(0)),
        "z: must be of 8 features on axis -1",
    ),
    "three dimensions, as many samples as features": (
        net(lambda m, x: m.columns(x[None].T)[0, 0], columns=columns),
        "z: must be a matrix, its features on axis 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_measured_is_refused_in_words(name):
    setup, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refused:
        coordinate_check(setup, SGD, lambda n: (0.1, 0.1), [8], seeds=1, steps=1)
    assert "\n" not in str(refused.value).partition("\n---")[0]


def test_what_does_not_train_while_it_is_measured_may_draw_and_average():
    call = lambda m, x: m.norm(m.drop(m.lora(x))).sum(1)  # noqa: E731
    setup = net(
        call,
        drop=lambda: nnx.Dropout(0.5, deterministic=True, rngs=rngs()),
        norm=lambda: nnx.BatchNorm(8, use_running_average=True, rngs=rngs()),
    )
    table = coordinate_check(setup, SGD, lambda n: (0.1, 0.1), [8], seeds=1, steps=1)
    assert np.isfinite(table.logs["delta2"]).all()


@pytest.mark.parametrize("wrap", [nnx.jit, nnx.remat])
def test_other_parts_may_be_under_transformations_of_flax(wrap):
    def call(model, x):
        return model.lora(wrap(lambda linear, x: jnp.tanh(linear(x)))(model.linear, x)).sum(1)

    setup = net(call, linear=lambda: nnx.Linear(8, 8, rngs=rngs()))
    table = coordinate_check(setup, SGD, lambda n: (0.1, 0.1), [8], seeds=1, steps=1)
    assert np.isfinite(table.logs["delta2"]).all()


def test_rows_of_plain_numbers_are_arrays():
    def setup(n, key):
        return LinearToy(n, init="A", key=key), [[1.0]] * n, [2.0]

    table = coordinate_check(setup, SGD, lambda n: (0.1, 0.1), [8], seeds=1, steps=1)
    assert np.isfinite(table.logs["delta2"]).all()


def test_a_loss_of_pairs_is_not_taken_for_one_of_samples():
    with pytest.raises(ValueError, match=r"y: must have the shape of f"):
        half_mse(jnp.ones(3), jnp.ones((3, 1)))
