"""Programs are shared where they are known to be the same, and nowhere else."""

import dataclasses
import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from lora_theory import TwoLayerToy, lora_plus
from lora_theory.train import programs
from lora_theory.train.coordinates import half_mse
from lora_theory.train.devices import Policy
from lora_theory.train.programs import UnknownError, identity, program


def adam(eps):
    return functools.partial(lora_plus, base=functools.partial(optax.adam, eps=eps))


SAME = [
    lambda: 2,
    lambda: None,
    lambda: "A",
    lambda: adam(1e-8),
    lambda: functools.partial(lora_plus, base=optax.sgd),
    lambda: Policy("cores", 8, 100),
    lambda: (1, (half_mse, 2.5)),
    lambda: frozenset({1, 2}),
    lambda: nnx.LoRAParam,
    lambda: jnp.dtype("float64"),
    lambda: tuple(jax.devices()),
]


@pytest.mark.parametrize("make", SAME)
def test_what_is_equal_by_value_is_known(make):
    assert identity(make()) == identity(make())
    assert hash(identity(make())) == hash(identity(make()))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (2, 2.0),
        (1, True),
        (adam(1e-8), adam(1e-9)),
        (Policy("cores", 8, 100), Policy("cores", 8, 101)),
        (Policy("cores", 8, 100, "high"), ("cores", 8, 100, "high")),
        ((1, 2), frozenset({1, 2})),
        (nnx.LoRAParam, nnx.Param),
    ],
)
def test_what_differs_is_told_apart(left, right):
    assert identity(left) != identity(right)


@dataclasses.dataclass(frozen=True)
class OfATest:
    rate: float = 0.1


class Held:
    def __call__(self, x):
        return x


def of_a_notebook():
    """A function as a notebook's cell defines it."""
    space = {"__name__": "__main__"}
    exec("def loss(f, y):\n    return SCALE * ((f - y) ** 2).sum()", space)
    return space["loss"]


UNKNOWN = [
    lambda x: x,
    of_a_notebook(),
    Held(),
    Held().__call__,
    OfATest(),  # Of no library: what its methods do may change.
    functools.partial(lora_plus, base=lambda eta: optax.sgd(eta)),
    {"a": 1},
    [1, 2],
    np.ones(2),
    (1, lambda x: x),
]


@pytest.mark.parametrize("part", UNKNOWN)
def test_what_something_stands_behind_is_not_known(part):
    with pytest.raises(UnknownError):
        identity(part)


def test_a_function_that_was_put_in_the_place_of_a_librarys_is_known_as_another(monkeypatch):
    module = types.ModuleType("optax.mine")
    exec("def base(x):\n    return 2 * x", module.__dict__)
    monkeypatch.setitem(sys.modules, "optax.mine", module)
    old = module.base
    assert identity(old) is old
    exec("def base(x):\n    return 3 * x", module.__dict__)
    assert identity(module.base) != old
    with pytest.raises(UnknownError):
        identity(old)


def test_experiments_of_another_project_are_not_this_ones(monkeypatch):
    from experiments import registry

    assert identity(registry.Model) is registry.Model
    other = types.ModuleType("experiments")
    other.__file__ = "elsewhere/experiments/__init__.py"
    monkeypatch.setitem(sys.modules, "experiments", other)
    with pytest.raises(UnknownError):
        identity(registry.Model)


class Counted:
    """What makes `jit`ted functions, and how often they were traced."""

    def __init__(self):
        self.traced = 0

    def __call__(self, function, *parts):
        def run(x):
            self.traced += 1
            return function(x, *parts)

        return jax.jit(run)


@pytest.fixture
def compiled(monkeypatch):
    """How often XLA compiled."""
    count, original = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda *a, **kw: count.append(1) or original(*a, **kw)
    )
    return count


def test_known_parts_are_traced_once_and_unknown_ones_each_time_but_compiled_once(compiled):
    scale = 3.0

    def unknown(x, shift):
        return scale * x + shift

    make = Counted()
    for _ in range(3):
        assert program(make, unknown, 1.0)(jnp.ones(2)).tolist() == [4, 4]
    assert (make.traced, len(compiled)) == (3, 1)
    scale = 5.0
    assert program(make, unknown, 1.0)(jnp.ones(2)).tolist() == [6, 6]
    assert (make.traced, len(compiled)) == (4, 2)
    assert program(make, unknown, 1.0)(jnp.ones(3)).tolist() == [6, 6, 6]  # Another shape.
    assert (make.traced, len(compiled)) == (5, 3)
    known = Counted()
    for _ in range(3):
        program(known, optax.squared_error)(jnp.ones(2))
    assert known.traced == 1


def test_programs_that_read_different_inputs_are_told_apart(compiled):
    """XLA's text of either is the same: it has one input, and does not say which."""

    def whole(function):
        return jax.jit(function, keep_unused=True)

    def read(place, make):
        made = program(make, lambda pair: 2 * pair[place])
        return made((jnp.zeros(2), jnp.ones(2))).tolist()

    assert [read(place, jax.jit) for place in (0, 1, 0)] == [[0, 0], [2, 2], [0, 0]]
    before = len(compiled)
    assert [read(place, whole) for place in (0, 1, 0)] == [[0, 0], [2, 2], [0, 0]]
    assert len(compiled) - before == 2


def test_a_compilation_is_of_its_devices(devices):
    def make(function, where):
        mesh, whole = Mesh(np.array(where), ("all",)), PartitionSpec()
        return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole))

    for device in devices[1:3]:
        (found,) = program(make, lambda x: x + 1, (device,))(np.ones(1)).devices()
        assert found == device
        with jax.default_device(device):
            (found,) = program(lambda f: jax.jit(f), lambda x: x + 1)(np.ones(1)).devices()
        assert found == device


class Activated(nnx.Module):
    def __init__(self, act):
        self.act = act

    def __call__(self, x):
        return self.act(x)


def test_a_models_classes_count_beside_its_structure():
    model = TwoLayerToy(5, 8, 2, key=jax.random.key(0))
    assert programs._modules(model)
    with pytest.raises(UnknownError):
        programs._modules(Activated(jnp.tanh))
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert programs._modules(linear)
    linear.dot_general = lambda *a, **kw: jax.lax.dot_general(*a, **kw)
    with pytest.raises(UnknownError):
        programs._modules(linear)


@pytest.mark.parametrize(
    "act",
    [
        lambda z: z,
        functools.partial(lambda s, z: s * z, 1.0),
        jax.jit(lambda z: z),
        Held(),
        Held().__call__,
    ],
)
def test_an_activation_of_ones_own_makes_a_model_unknown(act):
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert programs.is_known(nnx.Sequential(linear))
    assert not programs.is_known(nnx.Sequential(linear, act))
