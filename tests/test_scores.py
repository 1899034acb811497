"""Scores of a classifier: scikit-learn's to 1e-12, and their definitions by plain loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import insight
from tinynet.insight.plots import can_plot
from tinynet.training import metrics

CASES = [(seed, n, k) for seed in range(6) for n, k in ((7, 2), (60, 3), (500, 10))]


def problem(seed, n, k):
    """Labels (N,) that hold each class, and probabilities (N, K) in float64, coarse in every second case: ties."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    p = rng.dirichlet(np.ones(k), n) + np.eye(k)[labels] * rng.random((n, 1))
    p = np.round(p, 1) if seed % 2 else p
    return labels, p / p.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def sklearn():
    return pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, of the test extra")


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed, n, k", CASES)
def test_scores_of_classes_are_scikit_learns(sklearn, seed, n, k):
    labels, p = problem(seed, n, k)
    seen = p.argmax(1)
    matrix = insight.confusion(labels, seen, k)
    close(matrix, sklearn.confusion_matrix(labels, seen, labels=range(k)))
    theirs = sklearn.precision_recall_fscore_support(labels, seen, labels=range(k), zero_division=0)
    for ours, other in zip(insight.class_scores(matrix), theirs, strict=True):
        close(ours, other)


@pytest.mark.parametrize("seed, n, k", CASES)
def test_curves_and_areas_are_scikit_learns(sklearn, seed, n, k):
    labels, p = problem(seed, n, k)
    for c in range(k):
        ours = insight.roc_curve(labels == c, p[:, c])
        for a, b in zip(ours[:3], sklearn.roc_curve(labels == c, p[:, c], drop_intermediate=False), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        close(ours.area, sklearn.roc_auc_score(labels == c, p[:, c]))
        ours = insight.precision_recall_curve(labels == c, p[:, c])
        precision, recall, thresholds = sklearn.precision_recall_curve(labels == c, p[:, c])
        close(ours.y[::-1], precision[:-1])  # theirs ends in a point (0, 1) that no threshold has
        close(ours.x[::-1], recall[:-1])
        close(ours.thresholds[::-1], thresholds)
        close(ours.area, sklearn.average_precision_score(labels == c, p[:, c]))


@pytest.mark.parametrize("seed, n, k", [case for case in CASES if not case[0] % 2])  # ties are broken otherwise there
def test_top_k_is_scikit_learns_and_that_of_fit(sklearn, seed, n, k):
    labels, p = problem(seed, n, k)
    for top in range(1, k):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two classes
            theirs = sklearn.top_k_accuracy_score(labels, p if k > 2 else p[:, 1] - p[:, 0], k=top, labels=range(k))
        close(insight.top_k_accuracy(labels, p, top), theirs)
        close(insight.top_k_accuracy(labels, p, top), metrics.top(top)(tn.tensor(p), labels).mean())


@pytest.mark.parametrize("seed, n, k", CASES)
def test_the_reliability_curve_is_scikit_learns(sklearn, seed, n, k):
    from sklearn.calibration import calibration_curve

    labels, p = problem(seed, n, k)
    for bins in (1, 5, 10):
        for y, sure in ((labels == 1, p[:, 1]), (labels == p.argmax(1), p.max(1))):
            accuracy, confidence = calibration_curve(y, sure, n_bins=bins)
            ours = insight.calibration(y, sure, bins)
            close(ours.accuracy, accuracy)
            close(ours.confidence, confidence)
        assert insight.calibration(labels, p, bins).error == ours.error


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 5), st.integers(1, 12))
def test_the_calibration_error_is_its_definition(seed, n, k, bins):
    rng = np.random.default_rng(seed)
    labels, p = rng.integers(0, k, n), rng.dirichlet(np.ones(k), n)
    right, sure = p.argmax(1) == labels, p.max(1)
    total, gaps = 0.0, []
    for b in range(bins):
        inside = [i for i in range(n) if b / bins < sure[i] <= (b + 1) / bins]
        if inside:
            gaps.append(abs(np.mean(right[inside]) - np.mean(sure[inside])))
            total += len(inside) / n * gaps[-1]
    measured = insight.calibration(labels, p, bins)
    assert measured.error == pytest.approx(total, abs=1e-12) and measured.worst == pytest.approx(max(gaps), abs=1e-12)
    assert measured.samples.sum() == n


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_the_area_is_the_share_of_pairs_in_order(seed, n):
    rng = np.random.default_rng(seed)
    positive, scores = np.append(rng.integers(0, 2, n), [0, 1]), rng.integers(0, 5, n + 2, dtype=np.uint8)
    pairs = [float(p > q) + (p == q) / 2 for p in scores[positive == 1] for q in scores[positive == 0]]
    assert insight.roc_curve(positive, scores).area == pytest.approx(np.mean(pairs), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_infinite_scores_are_ties_as_others_are(seed, n):
    rng = np.random.default_rng(seed)
    positive, ranks = np.append(rng.integers(0, 2, n), [0, 1]), rng.integers(0, 4, n + 2)
    infinite = np.array([-np.inf, 0, 1, np.inf])[ranks]  # as log-odds of what is certain are
    for curve in (insight.roc_curve, insight.precision_recall_curve):
        close(curve(positive, infinite).x, curve(positive, ranks).x)
        close(curve(positive, infinite).y, curve(positive, ranks).y)
        assert curve(positive, infinite).area == curve(positive, ranks).area


def test_absent_classes_score_zero():
    matrix = insight.confusion([0, 1, 1], [1, 1, 1], 4)
    assert matrix.sum() == 3 and matrix.shape == (4, 4)
    precision, recall, f1, support = insight.class_scores(matrix)
    close(precision, [0, 2 / 3, 0, 0])
    close(recall, [0, 1, 0, 0])
    close(f1, [0, 0.8, 0, 0])
    assert support.tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: insight.roc_curve([0, 1], [0.1]), r"roc_curve: wants two arrays .* \(2,\) and \(1,\)"),
        (lambda: insight.roc_curve([0, 1], np.zeros((2, 2))), "take one column"),
        (lambda: insight.roc_curve([0, 2], [0.1, 0.2]), "write y == 3"),
        (lambda: insight.roc_curve([1, 1], [0.1, 0.2]), "a positive and a negative"),
        (lambda: insight.roc_curve([0, 1], [0.1, np.nan]), "without NaN"),
        (lambda: insight.precision_recall_curve([0, 0], [0.1, 0.2]), "a positive sample"),
        (lambda: insight.top_k_accuracy([0, 3], np.zeros((2, 3)), 1), r"top_k_accuracy: wants class numbers"),
        (lambda: insight.calibration([0, 1], np.full((2, 2), 1.5)), r"within \[0, 1\]"),
        (lambda: insight.calibration([0, 2], [0.5, 0.5]), "0 and 1"),
        (lambda: insight.calibration([0.0, 1.0], np.full((2, 2), 0.5)), "class numbers"),
        (lambda: insight.confusion([0, -1], [0, 0]), "from 0 on"),
        (lambda: insight.confusion([0, 5], [0, 0], 3), "classes"),
    ],
)
def test_mistakes_are_explained(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib")
def test_pictures_are_png(tmp_path):
    labels, p = problem(0, 60, 3)
    curves = {f"class $ {c}": (labels == c, p[:, c]) for c in range(3)}
    insight.plot_curves({name: insight.roc_curve(*pair) for name, pair in curves.items()}, tmp_path / "roc.png")
    insight.plot_curves(
        {name: insight.precision_recall_curve(*pair) for name, pair in curves.items()}, tmp_path / "pr.png", title="pr"
    )
    insight.plot_reliability(insight.calibration(labels, p), tmp_path / "reliability.png")
    for name in ("roc", "pr", "reliability"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
