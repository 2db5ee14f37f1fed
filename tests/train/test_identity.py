"""Δf of one training step is the sum of the paper's three terms, and of no two of them."""

import itertools

import pytest

from lora_theory.train.identity import identity_gap

TERMS = ("delta1", "delta2", "delta3")


def test_three_terms_add_up_to_rounding():
    assert identity_gap(TERMS, 5) < 1e-12


@pytest.mark.parametrize("two", list(itertools.combinations(TERMS, 2)))
def test_no_two_terms_do(two):
    assert identity_gap(two, 5) > 1e-3
