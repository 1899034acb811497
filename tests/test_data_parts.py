"""split and k_fold: every sample in one part, sizes and classes by the fractions, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet.data import DataError, k_fold, split

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


@given(n=st.integers(24, 80), folds=st.integers(2, 8), seed=st.integers(0, 9), classes=st.integers(0, 3))
def test_each_sample_is_held_out_once(n, folds, seed, classes):
    x = np.arange(n)
    y = np.random.default_rng(seed).permutation(x % classes) if classes else x * 2
    parts = list(k_fold(x, y, folds, stratify=bool(classes), seed=seed))
    assert sorted(np.concatenate([held for _, (held, _) in parts])) == x.tolist()
    for (a, b), (held, labels) in parts:
        assert sorted([*a, *held]) == x.tolist() and (np.diff(a) > 0).all() and (np.diff(held) > 0).all()
        np.testing.assert_array_equal(b, y[a])
        np.testing.assert_array_equal(labels, y[held])
    for counts in ([len(h) for _, (h, _) in parts], *([np.sum(h == c) for _, (_, h) in parts] for c in range(classes))):
        assert max(counts) - min(counts) <= 1
    again = k_fold(x, y, folds, stratify=bool(classes), seed=seed)
    assert [h.tolist() for _, (h, _) in again] == [h.tolist() for _, (h, _) in parts]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_without_a_draw_are_scikit_learns(folds, seed):
    selection = pytest.importorskip("sklearn.model_selection", reason="needs scikit-learn, of the test extra")
    rng = np.random.default_rng(seed)
    x, y = np.arange(50), np.array(["b", "a", "c"])[np.append(rng.integers(0, 3, 43), [0, 1, 2] + [seed % 3] * 4)]
    plain, stratified = selection.KFold(folds), selection.StratifiedKFold(folds)
    for ours, theirs in (
        (k_fold(x, y, folds, seed=None), plain.split(x)),
        (k_fold(x, y, folds, seed=None, stratify=True), stratified.split(x, y)),
        (k_fold(x, None, folds, seed=None, stratify=y), stratified.split(x, y)),
    ):
        for (train, held), (indices, held_indices) in zip(ours, theirs, strict=True):
            assert train[0].tolist() == indices.tolist() and held[0].tolist() == held_indices.tolist()


def test_mistakes_of_folds_are_explained():
    for arguments, text in (
        ((np.arange(3), None, 4), "4 folds are more than the samples"),
        ((np.arange(3), None, 1), "folds"),
    ):
        with pytest.raises(ValueError, match=f"k_fold: .*{text}"):
            k_fold(*arguments)
    with pytest.raises(ValueError, match="more than the samples of a class"):
        k_fold(np.arange(6), np.repeat([0, 1, 2], 2), 3, stratify=True)
    with pytest.raises(DataError, match="k_fold: x and y must"):
        k_fold(np.arange(6), np.arange(5))
