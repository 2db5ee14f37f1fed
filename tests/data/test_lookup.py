"""Sequences to be looked up in: the answer is the letter at the named place."""

import jax
import numpy as np
import pytest

from lora_theory.data.lookup import lookup_task

DATA = lookup_task(16, 16, 4000, 1000, key=jax.random.key(0))
X = np.concatenate([DATA.x_train, DATA.x_test])
Y = np.concatenate([DATA.y_train, DATA.y_test])


def test_the_answer_is_the_letter_at_the_place_that_the_last_token_names():
    for row, answer in zip(X, Y, strict=True):
        assert answer == row[row[-1] - 16]
    beside = [row[(row[-1] - 16 + 1) % 16] for row in X]  # Control: the place after it.
    assert np.mean(beside == Y) < 0.1


@pytest.mark.parametrize("at", [0, 15, 16])
def test_letters_and_places_are_uniform(at):
    """χ² of 16 counts has mean 15 and standard deviation √30."""
    counts = np.bincount(X[:, at] - (16 if at == 16 else 0), minlength=16)
    assert len(counts) == 16
    expected = len(X) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 15 + 4 * np.sqrt(30)


def test_the_most_frequent_letter_is_right_as_often_as_the_page_says():
    found = np.mean([np.bincount(row[:-1]).argmax() == y for row, y in zip(X, Y, strict=True)])
    assert abs(found - 0.192) < 4 * np.sqrt(0.192 * 0.808 / len(X))


def test_training_and_test_sequences_differ_and_so_do_seeds():
    assert DATA.x_train.shape == (4000, 17)
    assert DATA.x_test.shape == (1000, 17)
    assert not (np.asarray(DATA.x_train[:1000]) == np.asarray(DATA.x_test)).all(axis=1).any()
    other = lookup_task(16, 16, 4000, 1000, key=jax.random.key(1))
    assert not (np.asarray(other.x_train) == np.asarray(DATA.x_train)).all(axis=1).any()


@pytest.mark.parametrize("name", ["letters", "places", "n_train", "n_test"])
def test_sizes_below_1_are_refused(name):
    sizes = {"letters": 2, "places": 2, "n_train": 1, "n_test": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}: must be an integer of at least 1"):
        lookup_task(**sizes, key=jax.random.key(0))
