"""split: every sample in one part, sizes and classes by the fractions, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet.data import DataError, split

FRACTIONS = [(0.5, 0.5), (0.8, 0.1, 0.1), (0.7, 0.3), (1 / 3, 1 / 3, 1 / 3)]


@given(n=st.integers(12, 200), fractions=st.sampled_from(FRACTIONS), seed=st.integers(0, 9), classes=st.integers(0, 5))
def test_each_sample_is_in_one_part_of_the_right_size(n, fractions, seed, classes):
    x = np.arange(n)
    y = x % classes if classes else x * 2.0
    parts = split(x, y, fractions, stratify=bool(classes), seed=seed)
    assert sorted(np.concatenate([a for a, _ in parts])) == x.tolist()
    for (a, b), fraction in zip(parts, fractions, strict=True):
        assert abs(len(a) - fraction * n) <= 1 and (np.diff(a) > 0).all()
        np.testing.assert_array_equal(b, a % classes if classes else a * 2.0)
        for c in range(classes):
            assert abs(np.sum(b == c) - fraction * np.sum(y == c)) <= 2
    again = split(x, y, fractions, stratify=bool(classes), seed=seed)
    assert [a.tolist() for a, _ in again] == [a.tolist() for a, _ in parts]


def test_one_fraction_is_the_second_parts_and_seeds_differ():
    x = np.arange(100)
    (train, none), (held_out, _) = split(x, None, 0.1)
    assert len(train) == 90 and len(held_out) == 10 and none is None
    assert held_out.tolist() != split(x, None, 0.1, seed=1)[1][0].tolist()


def test_structures_are_split_alike_and_other_classes_are_taken():
    x = {"left": np.arange(40), "right": np.arange(40) * 2}
    groups = np.repeat([0, 1], [10, 30])
    parts = tn.data.split(x, (np.arange(40), np.arange(40)), (0.5, 0.5), stratify=groups)
    for part, (y, _) in parts:
        assert (part["right"] == 2 * part["left"]).all() and (part["left"] == y).all()
        assert np.sum(part["left"] < 10) == 5


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ((np.arange(9), None, (0.5, 0.6)), ValueError, "sum to 1"),
        ((np.arange(9), None, 1.5), ValueError, "between 0 and 1"),
        ((np.arange(9), None, ()), ValueError, "fractions"),
        ((np.arange(9), np.arange(8), 0.5), DataError, r"split: x and y must .* \(9,\) and \(8,\)"),
        ((np.arange(3), None, 0.1), ValueError, "too few"),
    ],
)
def test_mistakes_are_explained(arguments, error, text):
    with pytest.raises(error, match=text):
        split(*arguments)
    with pytest.raises(ValueError, match="a class for each of 9 samples"):
        split(np.arange(9), np.zeros((9, 2)), 0.5, stratify=True)
