"""The coordinate check against plain NumPy; what it refuses; that it knows no prediction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import LinearToy, LoRA, TwoLayerToy, lora_plus
from lora_theory.adapters.layer import FactorB
from lora_theory.keys import data_key, model_key
from lora_theory.models.toys import LayerToy
from lora_theory.train.coordinates import coordinate_check, half_mse

# Each compiles networks of its own.
pytestmark = pytest.mark.slow


SGD = functools.partial(lora_plus, base=optax.sgd)
SIGN = functools.partial(lora_plus, base=optax.sign_sgd)


def adam(eta_a, eta_b, eps):
    return lora_plus(eta_a, eta_b, base=functools.partial(optax.adam, eps=eps))


# Tests keep to the same few setups and sizes: what is traced alike is compiled once.
def linear_setup(init):
    def setup(n, key):
        key_x, key_model = jax.random.split(key)
        x = jax.random.normal(key_x, (n, 1))
        return LinearToy(n, init=init, key=key_model), x, jnp.full((1,), 2.0, x.dtype)

    return setup


def layer_setup(init, samples=3):
    def setup(n, key):
        key_x, key_model = jax.random.split(key)
        x = jax.random.normal(key_x, (n, samples))
        return LayerToy(n, 2, init=init, key=key_model), x, jnp.full((samples,), 50.0, x.dtype)

    return setup


def two_layer_setup(n, key):
    key_x, key_model = jax.random.split(key)
    x = jax.random.normal(key_x, (5, 4))
    return TwoLayerToy(5, n, 3, key=key_model), x, jnp.sin(x.mean(axis=0))


def pretrained_setup(n, key):
    key_x, key_model = jax.random.split(key)
    x = jax.random.normal(key_x, (5, 4))
    model = TwoLayerToy(5, n, 3, init="A", weight="random", key=key_model)
    return model, x, jnp.sin(x.mean(axis=0))


def rms(v):
    return 0.5 * np.log2(np.mean(np.square(v)))


def drawn(setup, n, seed=0):
    with jax.enable_x64(True):
        return setup(n, jax.random.key(seed))


@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_linear_toy_is_the_formulas_of_the_paper(init):
    eta_a, eta_b = 0.01, 0.1
    table = coordinate_check(
        linear_setup(init), SGD, lambda n: (eta_a, eta_b), [8, 32], seeds=2, steps=3
    )
    for w, n in enumerate((8, 32)):
        model, x, y = drawn(linear_setup(init), n, seed=1)
        a, b = np.asarray(model.lora.lora_a[0]), float(model.lora.lora_b[0, 0])
        x, y = np.asarray(x)[:, 0], float(y[0])
        for t in range(3):
            s, square = a @ x, x @ x
            u = b * s - y
            formulas = {
                "delta1": -eta_a * b**2 * u * square,
                "delta2": -eta_b * s**2 * u,
                "delta3": eta_a * eta_b * u**2 * b * s * square,
            }
            a, b = a - eta_a * b * u * x, b - eta_b * s * u
            formulas |= {"f": b * (a @ x), "B": b, "Z_A": a @ x, "A": a}
            for name, value in formulas.items():
                found = table.logs[name][w, 1, t]
                if np.all(value == 0):
                    assert np.isneginf(found), (name, t)
                else:
                    assert found == pytest.approx(rms(value), abs=1e-8), (name, t)


@pytest.mark.parametrize(("base", "name"), [(SGD, "sgd"), (SIGN, "sign")])
def test_layer_sizes_are_those_of_numpy(base, name):
    eta_a, eta_b = 0.02, 0.3
    table = coordinate_check(
        layer_setup("A"), base, lambda n: (eta_a, eta_b), [16], seeds=2, steps=2
    )
    model, x, y = drawn(layer_setup("A"), 16)
    a, b = np.asarray(model.lora.lora_a[...]), np.asarray(model.lora.lora_b[...])
    w, x, y = np.asarray(model.w_out[...]), np.asarray(x), np.asarray(y)
    for t in range(2):
        g = (w @ b @ a @ x - y) / y.size
        db, da = np.outer(w, g) @ (a @ x).T, b.T @ np.outer(w, g) @ x.T
        if name == "sign":
            da, db = np.sign(da), np.sign(db)
        da, db = -eta_a * da, -eta_b * db
        expected = {
            "delta1_Z_B": b @ da @ x,
            "delta2_Z_B": db @ a @ x,
            "delta3_Z_B": db @ da @ x,
            "dZ_A": da @ x,
            "dB": db,
            "dZ_B": (b + db) @ (a + da) @ x - b @ a @ x,
            "Z_B": (b + db) @ (a + da) @ x,
        }
        for quantity, value in expected.items():
            found = table.logs[quantity][0, 0, t]
            if np.all(value == 0):
                assert np.isneginf(found)
            else:
                assert found == pytest.approx(rms(value), abs=1e-7), (quantity, t)
        a, b = a + da, b + db


def test_below_a_pretrained_weight_the_layers_input_is_z_alone():
    """The toy's features are Z above W* Z; what the layer reads is Z (n, N)."""
    table = coordinate_check(
        pretrained_setup, SGD, lambda n: (0.1 / n, 0.1), [32], seeds=1, steps=2
    )
    model, x, y = drawn(pretrained_setup, 32)
    a, b, w_star, w_in, w = (
        np.asarray(v[...])
        for v in (model.lora.lora_a, model.lora.lora_b, model.lora.weight, model.w_in, model.w_out)
    )
    z, y = np.maximum(w_in @ np.asarray(x), 0), np.asarray(y)
    for t in range(2):
        p = (w_star + b @ a) @ z
        dp = np.outer(w, (w @ np.maximum(p, 0) - y) / y.size) * (p > 0)
        da, db = -0.1 / 32 * b.T @ dp @ z.T, -0.1 * dp @ (a @ z).T
        expected = {"delta1_Z_B": b @ da @ z, "delta2_Z_B": db @ a @ z, "dZ_A": da @ z, "dB": db}
        a, b = a + da, b + db
        expected |= {"Z_A": a @ z, "Z_B": b @ a @ z, "f": w @ np.maximum((w_star + b @ a) @ z, 0)}
        for name, value in expected.items():
            found = table.logs[name][0, 0, t]
            if np.all(value == 0):
                assert np.isneginf(found), (name, t)
            else:
                assert found == pytest.approx(rms(value), abs=1e-7), (name, t)


def test_same_seed_alone_or_among_many():
    few, many, listed = (
        coordinate_check(linear_setup("A"), SGD, lambda n: (0.1 / n, 0.1), [32], seeds=seeds)
        for seeds in (2, 40, [39, 1])
    )
    for name in few.logs:
        np.testing.assert_allclose(few.logs[name], many.logs[name][:, :2], rtol=1e-9, atol=1e-9)
        found = many.logs[name][:, [39, 1]]
        np.testing.assert_allclose(listed.logs[name], found, rtol=1e-9, atol=1e-9)
    assert not np.allclose(many.logs["f"][0, 0], many.logs["f"][0, 1])


class TwoLayers(nnx.Module):
    """Two LoRA layers in a row, the first called twice."""

    def __init__(self, n, key):
        keys = jax.random.split(key)
        self.first = LoRA(n, n, 2, init="both", key=keys[0])
        self.second = LoRA(n, 1, 1, init="both", key=keys[1])

    def __call__(self, x):
        return self.second(self.first(x) + self.first(-2 * x))[0]


def test_several_layers_and_several_calls():
    def setup(n, key):
        x = jax.random.normal(key, (n, 3))
        return TwoLayers(n, key), x, jnp.ones(3, x.dtype)

    table = coordinate_check(setup, SGD, lambda n: (1e-6 / n, 1e-6), [16], seeds=2, steps=1)
    assert {"first.Z_A", "second.Z_A", "first.delta1_Z_B", "f"} <= set(table.logs)
    model, x, _ = drawn(setup, 16)
    both = np.asarray(x) @ np.hstack([np.eye(3), -2 * np.eye(3)])
    z_a = np.asarray(model.first.lora_a[...]) @ both
    assert table.logs["first.Z_A"][0, 0, 0] == pytest.approx(rms(z_a), abs=1e-4)


@pytest.mark.parametrize(("eps", "refused"), [(1e-30, False), (10.0, True)])
def test_epsilon_that_is_too_large_is_said(eps, refused):
    def run():
        coordinate_check(
            layer_setup("B"), adam, lambda n: (0.1 / n, 0.1, eps), [256], seeds=3, steps=2
        )

    if refused:
        with pytest.raises(ValueError, match=r"ε is too large for the gradients at n = 256"):
            run()
    else:
        run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [16, 8, 32]}, "widths: must be ascending"),
        ({"seeds": 0}, "seeds: must be at least 1"),
        ({"dtype": "float16"}, "dtype: must be float32 or float64"),
        ({"steps": 0}, "steps: must be an integer of at least 1"),
        ({"trainable": nnx.BatchStat}, "trainable: must name something of the model"),
        ({"loss": lambda f, y: f - y}, r"loss: must give a scalar .got shape \(4,\)"),
        ({"predicted": {"delta_1": 0}}, "predicted: must be of A, B, Z_A"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"widths": [8, 16, 32], "seeds": 2, "steps": 1} | options
    with pytest.raises(ValueError, match=message):
        coordinate_check(two_layer_setup, SGD, lambda n: (0.1, 0.1), **arguments)


def test_two_widths_can_be_looked_at_but_not_fitted():
    table = coordinate_check(linear_setup("A"), SGD, lambda n: (0.1 / n, 0.1), [8, 32], seeds=2)
    assert len(table.successive("f", 1)) == 1
    with pytest.raises(ValueError, match="at least three"):
        table.slope("f", 1)


def test_tiny_is_not_zero():
    table = coordinate_check(linear_setup("A"), SGD, lambda n: (1e-200, 1e-200), [32], seeds=2)
    logs = table.logs["dB"][..., 0]
    assert np.isfinite(logs).all()
    assert (logs < -600).all()
    assert np.isneginf(table.logs["delta1"][..., 0]).all()


class Rows(nnx.Module):
    """A LoRA layer on samples that come first, under a head that may train."""

    def __init__(self, n, key, axis):
        self.lora = LoRA(n, 4, 2, init="both", axis=axis, key=key)
        self.head = nnx.Param(jnp.ones(4))

    def __call__(self, x):
        return (
            self.lora(x) @ self.head[...] if self.lora.axis == -1 else self.head[...] @ self.lora(x)
        )


def head_labels(params):
    return nnx.map_state(lambda path, _: "A" if "lora_a" in path else "B", params)


HEADED = functools.partial(lora_plus, base=optax.sgd, labels=head_labels)


def rows_setup(axis):
    def setup(n, key):
        key_x, key_model = jax.random.split(key)
        x = jax.random.normal(key_x, (n, 3))
        return Rows(n, key_model, axis), x if axis == 0 else x.T, jnp.ones(3, x.dtype)

    return setup


def check_rows(axis, trainable):
    return coordinate_check(
        rows_setup(axis), HEADED, lambda n: (0.1 / n, 0.1), [16], seeds=2, trainable=trainable
    )


def test_samples_first_have_the_sizes_of_samples_as_columns():
    columns, rows = (check_rows(axis, nnx.LoRAParam) for axis in (0, -1))
    for name, logs in columns.logs.items():
        np.testing.assert_allclose(rows.logs[name], logs, atol=1e-9, err_msg=name)


def test_a_head_that_trains_too_changes_what_follows_its_first_step():
    alone, headed = (check_rows(-1, trainable) for trainable in (nnx.LoRAParam, nnx.Param))
    np.testing.assert_allclose(headed.logs["dB"][..., 0], alone.logs["dB"][..., 0], atol=1e-9)
    assert not np.allclose(headed.logs["dB"][..., 1], alone.logs["dB"][..., 1], atol=1e-3)


def test_what_does_not_train_does_not_move():
    """LoRA-FA: of A there is no move, nor of what it would add."""
    table = coordinate_check(
        linear_setup("both"), SGD, lambda n: (0.1 / n, 0.1), [16], seeds=2, trainable=FactorB
    )
    for name in ("dA", "dZ_A", "delta1", "delta3", "delta1_Z_B", "delta3_Z_B"):
        assert np.isneginf(table.logs[name]).all(), name
    for name in ("dB", "delta2", "delta2_Z_B", "A"):
        assert np.isfinite(table.logs[name]).all(), name


# What a notebook does: the same call after something that it reads has changed.


class Notebook:
    """Cells that read what other cells set."""

    init, base, loss_scale = "A", staticmethod(optax.sgd), 1.0

    def setup(self, n, key):
        return linear_setup(self.init)(n, key)

    def optimizer(self, a, b):
        return lora_plus(a, b, base=self.base)

    def loss(self, f, y):
        return self.loss_scale * half_mse(f, y)

    def check(self, setup=None, optimizer=SGD, loss=half_mse):
        return coordinate_check(
            setup or linear_setup("A"), optimizer, lambda n: (0.1 / n, 0.1), [16], seeds=2, steps=2,
            loss=loss,
        ).logs  # fmt: skip


def test_a_setup_that_reads_what_has_changed_is_traced_anew():
    book = Notebook()
    first = book.check(setup=book.setup)
    assert np.isneginf(first["delta1"][..., 0]).all()
    book.init = "B"
    second = book.check(setup=book.setup)
    assert np.isneginf(second["delta2"][..., 0]).all()
    assert np.isfinite(second["delta1"][..., 0]).all()
    init = "A"
    closed = lambda n, key: linear_setup(init)(n, key)  # noqa: E731 (what a notebook writes)
    np.testing.assert_array_equal(book.check(setup=closed)["delta2"], first["delta2"])
    init = "B"
    np.testing.assert_array_equal(book.check(setup=closed)["delta1"], second["delta1"])


def test_an_optimizer_or_a_loss_that_reads_what_has_changed_is_traced_anew():
    book, base = Notebook(), {"b": optax.sgd}
    closed = lambda a, b: lora_plus(a, b, base=base["b"])  # noqa: E731
    first = book.check(optimizer=closed)
    base["b"] = optax.sign_sgd
    assert not np.allclose(book.check(optimizer=closed)["dB"], first["dB"])
    np.testing.assert_array_equal(book.check(optimizer=book.optimizer)["dB"], first["dB"])
    book.base = optax.sign_sgd
    assert not np.allclose(book.check(optimizer=book.optimizer)["dB"], first["dB"])
    book.loss_scale = 4.0
    np.testing.assert_allclose(
        book.check(loss=book.loss)["dB"][..., 0], first["dB"][..., 0] + 2, atol=1e-9
    )


# Rounding.


def of_type(*dtypes, kind=LinearToy):
    """The linear toy with factors and data cast to one type after the other."""

    def setup(n, key):
        def cast(v):
            return functools.reduce(lambda u, dtype: u.astype(dtype), dtypes, v)

        model, x = kind(n, init="A", key=key), jax.random.normal(data_key(key), (n, 1))
        parts = nnx.split(model)
        return nnx.merge(parts[0], jax.tree.map(cast, parts[1])), cast(x), cast(jnp.full((1,), 2.0))

    return setup


def test_factors_and_data_of_another_type_are_measured_in_the_one_that_was_asked_for():
    """δ³ came out as the rounding of float32: an exponent of −1.257 ± .077 in place of −2."""
    narrow, wide = (
        coordinate_check(of_type(*dtypes), SGD, lambda n: (1e-3 / n, 1e-3), [64], seeds=4, steps=2)
        for dtypes in (("float32",), ("float32", "float64"))
    )
    for name, logs in wide.logs.items():
        np.testing.assert_allclose(narrow.logs[name], logs, atol=1e-9, err_msg=name)
    assert np.isfinite(wide.logs["delta3"][..., 1]).all()


def test_what_is_as_small_as_rounding_is_not_measured():
    logs = coordinate_check(
        of_type("float32"), SGD, lambda n: (1e-3 / n, 1e-3), [64], seeds=4, steps=2, dtype="float32"
    ).logs
    for name in ("delta1", "delta3"):
        assert np.isneginf(logs[name][..., 0]).all()
        assert np.isnan(logs[name][..., 1]).all()
    for name in ("delta2", "delta1_Z_B", "delta3_Z_B"):
        assert np.isfinite(logs[name][..., 1]).all()


class RoundedInside(LinearToy):
    """A residual branch hides that a part computes in float32."""

    def __call__(self, x):
        return super().__call__(x) + super().__call__(x.astype("float32")).astype(x.dtype)


def test_what_a_part_rounds_is_not_measured_either():
    logs = coordinate_check(
        of_type("float64", kind=RoundedInside), SGD, lambda n: (1e-4 / n, 1e-4), [64], seeds=2,
        steps=2,
    ).logs  # fmt: skip
    assert np.isnan(logs["delta3"][..., 1]).all()
    assert np.isfinite(logs["delta2"]).all()


def test_a_run_that_overflows_says_so_where_nan_are_looked_for_too():
    with jax.debug_nans(True):
        table = coordinate_check(
            linear_setup("both"), SGD, lambda n: (1e200, 1e200), [8], seeds=2, steps=3
        )
    assert np.isposinf(table.logs["f"][..., 2]).all()


def test_predictions_reach_the_table_that_judges_them():
    predicted = {"f": 0, "delta1": [-np.inf, None]}
    table = coordinate_check(
        linear_setup("A"), SGD, lambda n: (0.1 / n, 0.1), [16], seeds=2, steps=2,
        predicted=predicted, margin=0.25, confidence=0.9,
    )  # fmt: skip
    assert (table.predicted, table.margin, table.confidence) == (predicted, 0.25, 0.9)


class OfFlax(nnx.Module):
    """The function of `Rows` with axis −1 and no scale, by Flax's layer and its names."""

    def __init__(self, n, key):
        rows = Rows(n, key, -1)
        self.lora = nnx.LoRA(n, 2, 4, param_dtype=rows.head.dtype, rngs=nnx.Rngs(0))
        self.lora.lora_a[...] = rows.lora.lora_a[...].T
        self.lora.lora_b[...] = rows.lora.lora_b[...].T
        self.head = nnx.Param(rows.head[...])

    def __call__(self, x):
        return self.lora(x) @ self.head[...]


def test_flaxs_layers_have_the_sizes_of_this_librarys():
    def setup(n, key):
        _, x, y = rows_setup(-1)(n, key)
        return OfFlax(n, jax.random.split(key)[1]), x, y

    table = coordinate_check(setup, SGD, lambda n: (0.1 / n, 0.1), [16], seeds=2)
    for name, logs in check_rows(-1, nnx.LoRAParam).logs.items():
        np.testing.assert_allclose(table.logs[name], logs, atol=1e-9, err_msg=name)


class Mixed(nnx.Module):
    """A layer of each kind, one within Flax's `LoRALinear`, on batches of sequences."""

    def __init__(self, n, key):
        self.first = nnx.LoRALinear(5, n, lora_rank=2, rngs=nnx.Rngs(key))
        self.second = LoRA(n, n, 2, init="both", axis=-1, key=key)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x))).mean(axis=(1, 2))


def test_networks_may_mix_both_kinds():
    def setup(n, key):
        x = jax.random.normal(data_key(key), (3, 7, 5))
        return Mixed(n, model_key(key)), x, jnp.ones(3)

    table = coordinate_check(setup, SGD, lambda n: (0.1 / n, 0.1), [16], seeds=2, steps=2)
    assert {"first.lora.dB", "second.dB", "second.Z_A"} <= set(table.logs)
    assert np.isfinite(table.logs["delta2"]).all()
    model, x, _ = drawn(setup, 16)
    with jax.enable_x64(True):
        z = jnp.tanh(model.first(x)).reshape(-1, 16).astype("float64")
        first = np.asarray(z @ model.second.lora_a[...].T)
    np.testing.assert_allclose(table.logs["second.Z_A"][0, 0, 0], rms(first), atol=0.05)


class Acting(nnx.Module):
    """A model with a function and a number among its attributes, of equal draws whatever these."""

    def __init__(self, n, key, act=None, factor=1.0):
        self.layer = nnx.LoRALinear(
            n, n, lora_rank=2, b_initializer=nnx.initializers.normal(1.0), rngs=nnx.Rngs(key)
        )
        self.act, self.factor = act, factor

    def __call__(self, x):
        z = self.layer(x)
        return SCALE["global"] * self.factor * (z if self.act is None else self.act(z)).mean(axis=1)


SCALE = {"global": 1.0}


def f_of(**options):
    """log2 of f, which hardly moves."""

    def setup(n, key):
        x = jax.random.normal(data_key(key), (6, n))
        return Acting(n, model_key(key), **options), x, jnp.ones(6)

    rates = lambda n: (1e-9, 1e-9)  # noqa: E731
    return coordinate_check(setup, SGD, rates, [8], seeds=1, steps=1).logs["f"].item()


def test_models_of_equal_draws_are_measured_as_what_they_are():
    plain = f_of()
    assert f_of(factor=16.0) == pytest.approx(plain + 4, abs=1e-3)
    assert f_of(act=lambda z: 4 * z) == pytest.approx(plain + 2, abs=1e-3)
    assert f_of(act=lambda z: 8 * z) == pytest.approx(plain + 3, abs=1e-3)


def test_what_a_model_reads_when_it_is_called_is_read_anew(monkeypatch):
    plain = f_of()
    monkeypatch.setitem(SCALE, "global", 16.0)
    assert f_of() == pytest.approx(plain + 4, abs=1e-3)
    call = Acting.__call__
    monkeypatch.setattr(Acting, "__call__", lambda self, x: 2 * call(self, x))
    assert f_of() == pytest.approx(plain + 5, abs=1e-3)


def test_a_width_that_is_an_attribute_alone_is_that_of_each_width():
    def setup(n, key):
        x = jax.random.normal(data_key(key), (6, 8))
        return Acting(8, model_key(key), factor=1 / n), x, jnp.ones(6)

    logs = coordinate_check(setup, SGD, lambda n: (1e-9, 1e-9), [8, 16], seeds=1, steps=1).logs
    assert np.diff(logs["f"][:, 0, 0]).item() == pytest.approx(-1, abs=1e-6)
