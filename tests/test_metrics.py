"""Metrics: what each measures, how they are chosen, and their columns through fit, evaluate and early stopping."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn, ops, parallel
from tinynet.training import EarlyStopping, evaluate, fit, metrics

RNG = np.random.default_rng(0)


def classifier():
    return nn.Sequential(nn.Dense(3), input_shape=4)


def data(n=60):
    x = RNG.standard_normal((n, 4)).astype(np.float32)
    return x, x[:, :3].argmax(1)


def wrong(outputs, y):
    """A metric of one's own: the mean."""
    return float(np.mean(outputs.numpy().argmax(1) != y))


def by_sample(outputs, y):
    return outputs.numpy().argmax(1) != y


@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_each_metric_is_its_definition(n, k, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.permutation(n * k).reshape(n, k).astype(np.float32), rng.integers(0, k, n)
    out = tn.tensor(logits - n * k / 2)
    order = np.argsort(-logits, 1)
    assert metrics.accuracy(out, labels).tolist() == (order[:, 0] == labels).tolist()
    for top in range(1, k + 1):
        assert metrics.top(top)(out, labels).tolist() == [labels[i] in order[i, :top] for i in range(n)]
    target = rng.standard_normal((n, k))
    np.testing.assert_allclose(metrics.mse(out, target), ((out.numpy() - target) ** 2).mean(1), rtol=1e-6)
    np.testing.assert_allclose(metrics.mae(out, target), np.abs(out.numpy() - target).mean(1), rtol=1e-6)
    bits = rng.integers(0, 2, (n, k))
    np.testing.assert_allclose(metrics.binary_accuracy(out, bits), ((out.numpy() > 0) == bits).mean(1))
    places = tn.tensor(np.stack([logits, logits], 1))  # (N, 2, K): a label for each place
    np.testing.assert_allclose(
        metrics.accuracy(places, np.stack([labels, order[:, 0]], 1)), (1 + (order[:, 0] == labels)) / 2
    )


def test_equal_logits_count_in_their_order_and_nan_is_wrong():
    labels = np.arange(4)
    flat, half = np.zeros((4, 5), np.float32), np.tile(np.array([1, 2, 2, 0, 2], np.float32), (4, 1))
    for logits, ranks in ((flat, [0, 1, 2, 3]), (half, [3, 0, 1, 4])):
        out = tn.tensor(logits)
        for k in range(1, 6):
            assert metrics.top(k)(out, labels).tolist() == [rank < k for rank in ranks]
        assert metrics.top(1)(out, labels).tolist() == metrics.accuracy(out, labels).tolist()
    half[:, 3] = np.nan
    assert not metrics.top(5)(tn.tensor(half), labels).any()


def test_what_does_not_apply_is_none():
    out, one = tn.tensor(np.zeros((4, 3), np.float32)), tn.tensor(np.zeros((4, 1), np.float32))
    for metric in (metrics.accuracy, metrics.top(2)):
        for outputs, y in (
            (out, np.zeros(4)),
            (out, None),
            (out, np.zeros((4, 1), int)),
            (one, np.zeros(4, int)),
            ((out, out), np.zeros(4, int)),
            (out, {"a": np.zeros(4, int)}),
        ):
            assert metric(outputs, y) is None
    for metric in (metrics.binary_accuracy, metrics.mse, metrics.mae):
        assert metric(out, np.zeros(4)) is None and metric(out, None) is None and metric((out,), out) is None
        assert metric(one, np.zeros(4)).tolist() in ([1] * 4, [0] * 4)  # (N,) beside (N, 1)


def test_the_choice_is_by_names_functions_lists_and_dicts():
    loss = ops.softmax_cross_entropy
    assert list(metrics.chosen(None, loss)) == ["accuracy"] == list(metrics.chosen("accuracy", loss))
    assert list(metrics.chosen(["accuracy", "top_3", wrong], loss)) == ["accuracy", "top_3", "wrong"]
    assert metrics.chosen({"mine": lambda out, y: 0.0}, loss).keys() == {"mine"}
    assert metrics.chosen([], loss) == {}
    binary = functools.partial(ops.binary_cross_entropy_with_logits, reduction="mean")
    for logistic in (binary, ops.focal):
        assert metrics.chosen(None, logistic)["accuracy"] is metrics.binary_accuracy
    for bad, error, text in (
        ("acuracy", ValueError, "'acuracy' is unknown; there are accuracy"),
        ([wrong, wrong], ValueError, "'wrong' cannot be"),
        (lambda out, y: 0.0, ValueError, "name it: metrics="),
        ({"lr": wrong}, ValueError, "'lr' cannot"),
        ({"val_x": wrong}, ValueError, "'val_x' cannot"),
        ([3], TypeError, "must be a name or a function"),
    ):
        with pytest.raises(error, match=text):
            metrics.chosen(bad, loss)


@pytest.mark.parametrize("workers", [1, 3])
def test_columns_of_all_metrics_agree_with_evaluate(workers):
    x, y = data(50)
    model, seen = classifier(), []
    options = {"metrics": ["accuracy", "top_2", wrong, by_sample]}
    hook = type("Hook", (), {"on_step_end": staticmethod(seen.append)})
    history = fit(
        model,
        (x, y),
        validation=data(7),
        batch_size=7,
        epochs=2,
        verbose=False,
        workers=workers,
        lr=0.01,
        callbacks=[hook],
        **options,
    )
    names = ["loss", "accuracy", "top_2", "wrong", "by_sample"]
    assert list(history[0]) == ["epoch", *names, *(f"val_{n}" for n in names), "lr", "seconds", "images_per_second"]
    for row in history:
        assert row["accuracy"] + row["wrong"] == pytest.approx(1) and row["by_sample"] == pytest.approx(row["wrong"])
        assert row["val_top_2"] >= row["val_accuracy"]
    assert list(seen[0])[3:] == ["loss", "mean_loss", *names[1:], "lr"]
    assert seen[-1]["top_2"] == history[-1]["top_2"]
    assert evaluate(model, (x, y), **options)["wrong"] == pytest.approx(np.mean(by_sample(model(x), y)))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_binary_loss_has_its_accuracy(workers):
    x, _ = data(80)
    y = (x[:, :1] > 0).astype(np.float32)
    model = nn.Sequential(nn.Dense(1), input_shape=4)
    loss = ops.binary_cross_entropy_with_logits
    history = fit(model, (x, y), epochs=20, lr=0.1, loss=loss, verbose=False, workers=workers)
    assert history[-1]["accuracy"] > 0.9 and evaluate(model, (x, y))["accuracy"] > 0.9


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metric_that_fails_is_named(workers):
    def bad(outputs, y):
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        fit(classifier(), data(), metrics=bad, verbose=False, workers=workers)
    with pytest.raises(ValueError, match=r"(?s)metric shapeless: returned .* a number for each of"):
        fit(classifier(), data(), metrics={"shapeless": lambda out, y: np.zeros((2, 2))}, verbose=False)
    with pytest.raises(ValueError, match="no mse"):
        fit(classifier(), data(), metrics="mse", verbose=False)


def test_early_stopping_watches_any_of_them():
    options = {"validation": data(30), "verbose": False, "epochs": 4, "lr": 0.0}
    model = classifier()
    for stopping in (
        EarlyStopping(1, "val_top_2"),
        EarlyStopping(1, "top_2"),
        EarlyStopping(1, "val_wrong", mode="min"),
        EarlyStopping(1, "loss"),
    ):
        optimizer = tn.optim.SGD(model.parameters(), lr=1e-12)
        rows = fit(
            model,
            data(),
            early_stopping=stopping,
            metrics=["top_2", wrong],
            **{**options, "lr": None},
            optimizer=optimizer,
        )
        assert len(rows) in (2, 3, 4)
    for stopping, text in (
        (EarlyStopping(1, "val_accuracy"), "there are loss, top_2, wrong, val_loss, val_top_2, val_wrong"),
        (EarlyStopping(1, "wrong"), "say whether it shall rise"),
    ):
        with pytest.raises(ValueError, match=text):
            fit(model, data(), early_stopping=stopping, metrics=["top_2", wrong], **options)


def test_a_run_with_metrics_goes_on_from_its_file(tmp_path):
    rows = []
    for parts in ((4,), (2, 4)):
        tn.seed(0)
        model = classifier()
        for epochs in parts:
            rows.append(
                fit(
                    model,
                    DATA,
                    metrics=["top_2", wrong],
                    epochs=epochs,
                    checkpoint=tmp_path / str(parts),
                    resume=True,
                    verbose=False,
                )
            )
    whole, _, resumed = rows
    for a, b in zip(whole, resumed, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMES} == {k: v for k, v in b.items() if k not in TIMES}


DATA, TIMES = data(), ("seconds", "images_per_second")


def test_a_trainer_counts_what_it_is_given():
    x, y = data(11)
    for workers in (1, 2):
        model = classifier()
        with parallel.trainer(
            model, tn.optim.SGD(model.parameters(), 0.1), workers=workers, metrics={"w": wrong}
        ) as step:
            expected = wrong(model(x), y)
            step(x, y)
            assert step.counter()()["w"] == pytest.approx(11 * expected) and step.correct is None
            assert step.evaluate(x, y)[1]["w"] == pytest.approx(11 * wrong(model(x), y))


def test_a_metric_that_fails_in_a_replica_is_raised_with_its_cause():
    def picky(outputs, y):
        if 99 in y:
            raise KeyError("ninety-nine")
        return 0.0

    x = data(8)[0]
    model = nn.Sequential(nn.Dense(100), input_shape=4)
    with parallel.trainer(model, tn.optim.SGD(model.parameters(), 0.1), workers=2, metrics={"p": picky}) as step:
        step(x, np.zeros(8, int))
        with pytest.raises(KeyError, match="ninety-nine"):
            step(x, np.array([0] * 7 + [99]))
        step(x, np.zeros(8, int))
        assert step.workers == 2
