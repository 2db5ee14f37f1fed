"""The registry: whatever has a name can be drawn, and is offered on the command line."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hydra.core.config_store import ConfigStore

from experiments import registry
from experiments.lab.schema import ConfigError, Role, build, roles
from lora_theory.adapters.rivals import scaled_gd
from lora_theory.keys import seed_key


def small(name, **options):
    schema = registry.MODELS[name].schema
    return schema(name=name, **{"width": 8} | options)


@pytest.mark.parametrize("task", [None, *registry.TASKS])
@pytest.mark.parametrize("name", registry.MODELS)
def test_every_model_can_be_drawn_with_every_task(name, task):
    model, data = registry.draw(small(name), task, {"n_train": 6, "n_test": 4})(seed_key(0))
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert model(x).shape == y.shape
        assert jnp.isfinite(model(x)).all()


@pytest.mark.parametrize("name", registry.MODELS)
def test_one_key_gives_model_and_data_and_another_key_others(name):
    def drawn(seed):
        model, data = registry.draw(small(name), None, {"n_train": 6, "n_test": 4})(seed_key(seed))
        return np.asarray(data.x_train), np.asarray(model.lora.lora_a[...])

    one, same, other = drawn(3), drawn(3), drawn(4)
    for left, right, apart in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(left, right)
        assert not np.array_equal(left, apart) or not left.any()


ON_FEATURES = [name for name, m in registry.MODELS.items() if hasattr(m.schema, "inputs")]


def test_models_whose_inputs_do_not_depend_on_the_width():
    assert {"feature_layer", "two_layer"} <= set(ON_FEATURES)
    assert not {"layer", "linear"} & set(ON_FEATURES)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_seed_has_the_same_data_at_every_width(name):
    def drawn(width, seed=3):
        config = small(name, width=width)
        return registry.draw(config, None, {"n_train": 6, "n_test": 4})(seed_key(seed))

    (narrow, data), (wide, same), (_, other) = drawn(64), drawn(128), drawn(64, seed=4)
    for left, right, apart in zip(data, same, other, strict=True):
        np.testing.assert_array_equal(left, right)
        assert not np.array_equal(left, apart)
    assert narrow.lora.lora_a[...].shape != wide.lora.lora_a[...].shape  # Control.


@pytest.mark.parametrize("name", registry.MODELS)
def test_a_model_without_a_gate_trains_on_nothing_of_the_features_size(name):
    """What the policy is told: below a gate, a step of two runs makes two arrays (n, N)."""
    model, data = registry.draw(small(name), None, {"n_train": 6, "n_test": 5})(seed_key(0))
    z = model.features(data.x_train)
    graph, trained, frozen = nnx.split(model, nnx.LoRAParam, ...)

    def gradient(trained):
        return jax.grad(lambda p: nnx.merge(graph, p, frozen).readout(z).sum())(trained)

    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), trained)
    text = jax.jit(jax.vmap(gradient)).lower(runs).as_text()
    assert ("tensor<2x8x6xf32>" in text) == registry.MODELS[name].gate


@pytest.mark.parametrize("name", registry.MODELS)
def test_schemas_have_roles_and_their_defaults_are_allowed(name):
    schema = registry.MODELS[name].schema
    assert set(roles(schema).values()) == {Role.SCIENCE}
    registry.offer_models()
    node = ConfigStore.instance().load(f"model/{name}.yaml").node
    built = build(schema, dict(node))
    assert built == schema(name=name)
    assert dataclasses.asdict(built)["width"] == 100


def test_a_rank_above_the_width_is_refused_in_words():
    with pytest.raises(ConfigError, match=r"^model\.rank: must be at most model\.width = 8"):
        small("two_layer", rank=9)


@pytest.mark.parametrize("init", ["A", "B"])
def test_one_random_factor_below_a_relu_needs_a_pretrained_weight(init):
    allowed = r"must be both .* or set model\.weight=random \(got " + init
    with pytest.raises(ConfigError, match=r"^model\.init: " + allowed):
        small("two_layer", init=init)
    options = {"init": init, "weight": "random"}
    model, _ = registry.draw(small("two_layer", **options), None, {"n_train": 6, "n_test": 4})(
        seed_key(0)
    )
    assert model.lora.weight is not None
    registry.TwoLayerConfig(name="tanh", init=init)  # Of other activations, no matter.


@pytest.mark.parametrize("name", registry.OPTIMIZERS)
def test_every_optimizer_is_one_object_with_two_rates(name):
    make = registry.optimizer(name)
    assert registry.optimizer(name) is make  # So that compilations are shared.
    params = {"lora_a": jnp.ones((2, 3)), "lora_b": jnp.ones((3, 2))}
    grads = jax.tree.map(lambda p: 0.5 * jnp.ones_like(p), params)
    transform = make(0.1, 0.3)
    assert isinstance(transform, optax.GradientTransformation)
    updates, _ = transform.update(grads, transform.init(params), params)
    moves = {key: float(jnp.abs(value).mean()) for key, value in updates.items()}
    if name == "lora_fa":
        assert moves == {"lora_a": 0.0, "lora_b": pytest.approx(0.3, rel=1e-3)}
    else:
        assert moves["lora_b"] == pytest.approx(3 * moves["lora_a"], rel=1e-5)


def test_epsilon_reaches_those_that_have_one_and_no_other():
    adam = registry.optimizer("adam", 1e-30).keywords["base"]
    assert adam.keywords == {"eps": 1e-30}
    assert registry.optimizer("gd", 1e-30).keywords["base"] is optax.sgd
    assert registry.optimizer("lora_rite", 1e-30).keywords == {"eps": 1e-30}
    assert registry.optimizer("scaled_gd", 1e-30) is scaled_gd


@pytest.mark.parametrize("name", registry.LOSSES)
def test_every_loss_is_a_function_from_data_to_an_objective(name):
    _, data = registry.draw(small("two_layer"), None, {"n_train": 6, "n_test": 4})(seed_key(0))
    objective = registry.resolve(registry.LOSSES[name])(data)
    good, bad = objective.losses(objective.target), objective.losses(objective.target + 1)
    assert good.shape == (2,)
    assert (bad > good).all()


def test_what_is_not_registered_is_a_key_error():
    with pytest.raises(KeyError, match="newton"):
        registry.optimizer("newton")


def test_what_probes_use_of_the_registrys_tables():
    found = registry.used_by_probes({"map", "layer"}, {"gd"})
    assert found["experiments.registry:MODELS"] == {"layer"}
    assert found["experiments.registry:TASKS"] == {"signs"}
    for reference in found:
        module, _, name = reference.partition(":")
        assert isinstance(getattr(registry, name), dict)
        assert module == registry.__name__


def test_a_new_line_in_the_registry_does_not_move_what_the_claims_measured(tmp_path, monkeypatch):
    """What is not used does not count, and what is used does."""
    from experiments.claims.experiment import Claims, ClaimsConfig
    from experiments.lab import origin
    from experiments.lab.command_line import load
    from lora_theory.store import source

    cfg = load("claims", ClaimsConfig, ["only=[readout-not-mup]"])
    (part,) = Claims().plan(cfg)
    original = source.module
    text = Path(registry.__file__).read_text()

    def digest(old, new):
        assert old in text
        changed = tmp_path / "registry.py"
        changed.write_text(text.replace(old, new))
        original.cache_clear()
        ours = Path(registry.__file__)
        monkeypatch.setattr(source, "module", lambda p: original(changed if p == ours else p))
        return origin.code_of(Claims(), part, cfg, ("run",))

    now = digest("", "")
    assert digest('    "gd": ', '    "lion": "optax:lion",\n    "gd": ') == now
    assert digest('"optax:adamw"', '"optax:lion"') == now
    assert digest('"optax:sgd"', '"optax:lion"') == now
    assert digest('"optax:sign_sgd"', '"optax:lion"') != now
    assert digest("synthetic:sine_task", "synthetic:signs_task") != now
    assert digest("drawn(key=key)", "drawn(key=key)[:]") != now
