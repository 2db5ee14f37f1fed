"""Optimizers as functions: what they take, what is known of them; recipes have the refusals."""

import functools

import optax
import pytest

from lora_theory.adapters.bases import (
    called,
    leafwise,
    moves_without_gradient,
    no_decay,
    resolved,
    takes,
)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (optax.sgd, True),
        (functools.partial(functools.partial(optax.adamw, b1=0.8), weight_decay=0.1), True),
        (optax.sm3, False),
        (optax.contrib.muon, False),
        (lambda rate: optax.sgd(rate), False),
    ],
)
def test_which_are_known_to_treat_each_leaf_by_itself(base, expected):
    assert leafwise(base) is expected


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (optax.adamw, {"weight_decay": 0.0}),
        (functools.partial(optax.contrib.muon, adam_weight_decay=0.1), {"adam_weight_decay": 0.0}),
        (functools.partial(optax.adafactor, weight_decay_rate=0.1), {"weight_decay_rate": None}),
        (functools.partial(optax.adamw, weight_decay=0.0), {}),
        (optax.sgd, {}),
    ],
)
def test_what_turns_their_decay_off(base, expected):
    assert no_decay(base) == expected
    assert not moves_without_gradient(functools.partial(base, **expected))


class Unhashable:
    __hash__ = None

    def __call__(self, rate):
        return optax.adamw(rate, weight_decay=0.1)


def test_a_decay_is_found_whatever_hides_it():
    assert moves_without_gradient(lambda rate: optax.adamw(rate, weight_decay=0.1))
    assert moves_without_gradient(Unhashable())
    assert not moves_without_gradient(lambda rate: None)  # It can not be tried.


def test_names():
    assert called(functools.partial(optax.adamw, b1=0.8)) == "adamw"
    assert resolved("base", "muon") is optax.contrib.muon
    assert takes(functools.partial(optax.sgd, momentum=0.9))["momentum"] == 0.9
