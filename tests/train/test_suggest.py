"""`suggest_rates`: conditions are met and scale as they should; what can not be met is said."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import FeatureLayerToy, LayerToy, ParamGroup, lora_fa, lora_plus, seed_key
from lora_theory.data.synthetic import signs_task, sine_task
from lora_theory.models.toys import TwoLayerToy
from lora_theory.train.coordinates import half_mse
from lora_theory.train.probing import Probe
from lora_theory.train.suggest import suggest_rates

T = 6
adam = functools.partial(lora_plus, base=functools.partial(optax.adam, eps=1e-17))
sgd = functools.partial(lora_plus, base=optax.sgd)


def layer(init="A", width=64, rank=4, seed=0, **options):
    return FeatureLayerToy(5, width, rank, init=init, key=seed_key(seed), **options)


def data(steps=T, samples=16, seed=0):
    drawn = (sine_task(5, samples, 1, key=seed_key(100 * seed + k)) for k in range(steps))
    return [(one.x_train, one.y_train) for one in drawn]


def suggest(model, batches=None, **given):
    told = {"optimizer": adam, "steps": T} | given
    return suggest_rates(model, data() if batches is None else batches, **told)


def kept(model, batches, found, optimizer=adam):
    """What training at the suggested rates does, in a probe of its own."""
    probe = Probe(model, batches, half_mse, optimizer, nnx.LoRAParam, None)
    both = probe(range(T), found.eta_a, found.eta_b)
    a, b = probe(range(T), found.eta_a, 0.0), probe(range(T), 0.0, found.eta_b)
    return both, a, b


@pytest.mark.parametrize(("kappa", "step"), [(4.0, 0.05), (1.0, 0.2)])
def test_both_conditions_are_met(kappa, step):
    """To the 1/20 of an octave that is asked for, and another twentieth of what is between."""
    near = {"rtol": 0.075}
    found = suggest(layer("A"), kappa=kappa, step=step)
    both, _, b = kept(layer("A"), data(), found)
    np.testing.assert_allclose([both.moved_a[0], b.step_b], [kappa, step], **near)
    found = suggest(layer("B"), kappa=kappa, step=step)
    both, a, _ = kept(layer("B"), data(), found)
    np.testing.assert_allclose([both.moved_b[0], a.step_a], [kappa, step], **near)


def test_with_both_factors_random_there_is_no_step():
    model = TwoLayerToy(5, 64, 4, init="both", key=seed_key(0))
    found = suggest(model, optimizer=sgd, kappa=0.3, init="both")
    _, a, b = kept(model, data(), found, sgd)
    np.testing.assert_allclose([a.moved_a[0], b.moved_b[0]], [0.3, 0.3], rtol=0.075)
    assert found.step is None
    assert "of the loss off" not in str(found)


@pytest.mark.slow
def test_rates_at_which_both_factors_together_diverge_are_told():
    """Each rate is measured with the other factor at rest."""
    model = TwoLayerToy(5, 64, 4, init="both", key=seed_key(1))
    found = suggest(model, data(8, 32), optimizer=sgd, kappa=1.0, steps=8, init="both")
    both, a, b = kept(model, data(8, 32), found, sgd)
    assert a.grew < 2
    assert b.grew < 2
    assert not both.grew <= 2
    assert np.isnan(found.moved).all()
    assert "at both rates together the loss more than doubles; ask for a smaller κ" in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("by", [0.25, 8.0])
def test_alpha_is_an_exact_symmetry(by):
    """α → by α: from B = 0 the same training has η_B / by; from A = 0 η_A / by."""
    for init, powers in (("A", (0, -1)), ("B", (-1, 0))):
        plain, other = (suggest(layer(init, alpha=alpha)) for alpha in (1.0, by))
        wanted = [rate * by**power for rate, power in zip(_rates(plain), powers, strict=True)]
        np.testing.assert_allclose(_rates(other), wanted, rtol=0.05)
        np.testing.assert_allclose(_rates(other), plain.scaled(alpha=by), rtol=0.05)


def _rates(found):
    return found.eta_a, found.eta_b


def spread(init, sizes, **varied):
    """log2 rates at two sizes, each the mean of seeds."""
    logs = []
    for size in sizes:
        own = dict.fromkeys(varied.values(), size)
        found = [suggest(layer(init, seed=s, **own), data(seed=s)) for s in range(12)]
        logs.append(np.mean([[np.log2(one.eta_a), np.log2(one.eta_b)] for one in found], axis=0))
    return (logs[1] - logs[0]) / math.log2(sizes[1] / sizes[0]), found[0]


@pytest.mark.slow
@pytest.mark.parametrize("init", ["A", "B"])
@pytest.mark.parametrize("varied", ["width", "rank"])
def test_rates_go_with_width_and_rank_as_scaled_says(init, varied):
    """Of several samples and r ≪ n, to a fifth of a power; control: λ does change."""
    sizes = (64, 1024) if varied == "width" else (4, 32)  # At r = 2 ‖Bᵀw‖ is no power yet.
    slopes, last = spread(init, sizes, varied=varied)
    by = sizes[1] / sizes[0]
    there = last.scaled(**{varied: by}, gamma=0)  # Without α the multiplier is 1 at every rank.
    wanted = np.log2(np.array(there) / np.array(_rates(last))) / np.log2(by)
    np.testing.assert_allclose(slopes, wanted, atol=0.2)
    assert varied == "rank" or init == "B" or slopes[1] - slopes[0] > 0.8


def test_more_groups_of_batches_have_an_interval():
    one, three = suggest(layer()), suggest(layer(), data(3 * T + 1))
    assert math.isnan(one.log2_ratio.low)
    assert "no interval" in str(one)
    assert one.groups == 1
    assert three.groups == 3
    assert three.log2_ratio.low < three.log2_ratio.mean < three.log2_ratio.high
    assert three.ratio == pytest.approx(three.eta_b / three.eta_a)


def test_it_says_what_another_kappa_would_give():
    found = suggest(layer())
    half, twice, short = found.varied
    assert (half.kappa, half.steps, twice.kappa, short.steps) == (2.0, T, 8.0, T // 2)
    alone = suggest(layer(), kappa=8.0)
    np.testing.assert_allclose((twice.eta_a, twice.eta_b), _rates(alone), rtol=0.08)
    assert half.eta_a < found.eta_a < twice.eta_a
    assert half.eta_b == found.eta_b
    for words in ("κ = 4", "T = 6", "0.05 of the loss", "training steps on 1 group"):
        assert words in str(found)


@pytest.mark.slow
def test_a_group_trains_along_and_layers_are_many():
    class Net(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([LayerToy(8, 2, init="A", key=seed_key(k)) for k in range(2)])
            self.head = nnx.Param(jnp.ones(2))

        def __call__(self, x):
            return self.head[...] @ jnp.stack([layer(x) for layer in self.layers])

    groups = {"head": ParamGroup(match="head")}
    drawn = [signs_task(8, 4, 1, target=3.0, key=seed_key(k)) for k in range(T)]
    batches = [(one.x_train, one.y_train) for one in drawn]
    trainable = nnx.Any(nnx.LoRAParam, nnx.PathContains("head"))
    optimizer = functools.partial(adam, groups=groups)
    found = suggest(Net(), batches, optimizer=optimizer, trainable=trainable, kappa=2.0)
    assert len(found.moved) == 2
    assert math.prod(found.moved) ** 0.5 == pytest.approx(2.0, rel=0.05)


def test_a_layer_that_rests_says_nothing_of_the_others():
    class Net(nnx.Module):
        def __init__(self):
            self.used, self.frozen = (LayerToy(8, 2, init="A", key=seed_key(k)) for k in range(2))
            self.idle = LayerToy(8, 2, init="A", key=seed_key(2))

        def __call__(self, x):
            return self.used(x) + self.frozen(x)

    drawn = [signs_task(8, 4, 1, target=3.0, key=seed_key(k)) for k in range(T)]
    batches = [(one.x_train, one.y_train) for one in drawn]
    groups = {"frozen": ParamGroup(match="frozen.*")}
    optimizer = functools.partial(adam, groups=groups)
    found = suggest(Net(), batches, optimizer=optimizer, kappa=2.0)
    frozen, idle, used = found.moved
    assert frozen < 1e-6
    assert math.isnan(idle)
    assert used == pytest.approx(2.0, rel=0.05)
    assert "by layer κ is 0 … 2" not in str(found)


# What can not be.


def test_a_kappa_that_no_rate_reaches():
    """Below gradient descent A moves as far as the loss lets it."""
    words = r"^kappa: must be below what some η_A reaches before the loss doubles, \d"
    with pytest.raises(ValueError, match=words) as caught:
        suggest(layer(), optimizer=sgd, kappa=1e4, step=0.5)
    assert "(got 10000)" in str(caught.value)


def test_a_step_that_no_rate_reaches():
    with pytest.raises(ValueError, match=r"^step: must be below what some η_B reaches"):
        suggest(layer(), step=1e3)


def test_an_adapter_that_is_trained_already():
    with pytest.raises(ValueError, match=r"^model: must be at its start, .* is it trained already"):
        suggest(layer("both"))


def test_an_init_that_the_model_has_not():
    with pytest.raises(ValueError, match=r"^init: must be what the model has, A \(got 'both'\)"):
        suggest(layer("A"), init="both")
    with pytest.raises(ValueError, match=r"^init: must be one of A, B, both"):
        suggest(layer("A"), init="C")


def test_a_frozen_factor():
    for init in ("A", "B"):
        with pytest.raises(ValueError, match=r"^optimizer: must move the factor that η_A trains"):
            suggest(layer(init), optimizer=lora_fa)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kappa": 0}, "kappa: must be positive"),
        ({"step": math.inf}, "step: must be positive"),
        ({"steps": 1}, "steps: must be an integer of at least 2"),
        ({"steps": 7}, r"batches: must be at least steps = 7, one a step \(got 6\)"),
    ],
)
def test_arguments_that_are_none(given, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        suggest(layer(), **given)


def test_a_loss_without_a_gradient():
    with pytest.raises(ValueError, match=r"^loss: must have a gradient in some layer"):
        suggest(layer(), loss=lambda f, y: 1.0 + 0 * f.mean())


def test_a_target_below_what_can_be_told():
    with pytest.raises(ValueError, match=r"^step: must be what some η_B .*got 1e-30.*ask for more"):
        suggest(layer(), step=1e-30)
    with pytest.raises(
        ValueError, match=r"^kappa: must be what some η_A .*got 1e-30.*ask for more"
    ):
        suggest(layer(), kappa=1e-30)


def test_an_optimizer_below_which_all_diverges():
    def huge(a, b):
        return lora_plus(a, b, base=lambda rate: optax.scale(-1e30 * jnp.sign(rate)))

    words = r"^optimizer: must train at some η_B \(got a loss that more than doubles"
    with pytest.raises(ValueError, match=words):
        suggest(layer(), optimizer=huge)


def test_other_sizes_of_what_has_no_law():
    model = TwoLayerToy(5, 64, 4, init="both", key=seed_key(0))
    found = suggest(model, optimizer=sgd, kappa=0.3, init="both")
    with pytest.raises(ValueError, match=r"^init: must be A or B to be carried over"):
        found.scaled(width=2)
    with pytest.raises(ValueError, match=r"^rank: must be positive"):
        suggest(layer()).scaled(rank=0)
