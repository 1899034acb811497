"""What fit, evaluate and predict take: structures of arrays, datasets, iterables, a share for validation; the loss that
is remembered; probabilities."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.data import Loader
from tinynet.training import EarlyStopping, evaluate, fit, predict

RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((48, n)).astype(np.float32) for n in (3, 5))
Y = (A[:, 0] + B[:, 0] > 0).astype(np.int64)


class Two(nn.Module):
    """Two inputs, by position or by name."""

    def __init__(self):
        self.left, self.right = nn.Dense(2), nn.Dense(2)

    def forward(self, left, right):
        return self.left(left) + self.right(right)


class Ids(nn.Module):
    """Integer inputs, which stay integers."""

    def __init__(self):
        self.table = nn.Parameter(np.zeros((10, 2)))

    def forward(self, ids):
        assert ids.dtype.kind == "i"
        return self.table[ids.numpy()]


class Pairs(nn.Module):
    """A dict of outputs."""

    def __init__(self):
        self.head, self.tail = nn.Dense(2), nn.Dense(1)

    def forward(self, x):
        return {"class": self.head(x), "size": self.tail(x)}


def both(outputs, y):
    return ops.softmax_cross_entropy(outputs["class"], y["class"]) + ops.mse(outputs["size"], y["size"])


def run(model, train, **options):
    tn.seed(0)
    return fit(model, train, **{"epochs": 3, "batch_size": 16, "lr": 0.05, "seed": 1, "verbose": False, **options})


def comparable(rows):
    return [[v for k, v in row.items() if k not in ("seconds", "images_per_second")] for row in rows]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "x", [(A, B), {"left": A, "right": B}, {"right": B, "left": A}], ids=["tuple", "dict", "turned"]
)
def test_a_model_of_several_inputs_is_trained_measured_and_asked(x, workers):
    tn.seed(0)
    model = Two()
    history = run(model, (x, Y), validation=(x, Y), workers=workers, epochs=10)
    assert history[-1]["accuracy"] > 0.8 and history[-1]["loss"] < history[0]["loss"]
    assert evaluate(model, (x, Y)) == pytest.approx({k: history[-1][f"val_{k}"] for k in ("loss", "accuracy")})
    np.testing.assert_allclose(predict(model, x, batch_size=10), ops.softmax(model(A, B)).numpy(), rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_may_be_a_dict_too_and_outputs(workers):
    y = {"class": Y, "size": A[:, :1].astype(np.float64)}
    history = run(Pairs(), (A, y), validation=(A, y), loss=both, workers=workers)
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["accuracy"] is None
    measures = {"size": lambda out, y: np.abs(out["size"].numpy() - y["size"])[:, 0]}
    assert run(Pairs(), (A, y), loss=both, metrics=measures, workers=workers)[-1]["size"] > 0
    with pytest.raises(
        TypeError, match=r"predict: the outputs \{'class': \(48, 2\), 'size': \(48, 1\)\} must be logits"
    ):
        predict(Pairs().build(3), A)


def test_no_labels_are_none():
    seen = []

    def loss(outputs, y):
        seen.append(y)
        return (outputs * outputs).mean()

    history = run(nn.Sequential(nn.Dense(2)), (A, None), loss=loss)
    assert set(seen) == {None} and history[-1]["loss"] < history[0]["loss"] and history[-1]["accuracy"] is None


@pytest.mark.parametrize("workers", [1, 2])
def test_ids_stay_integers(workers):
    ids = RNG.integers(0, 10, 64)
    history = run(Ids(), (ids, ids % 2), workers=workers, epochs=20)
    assert history[-1]["accuracy"] == 1


class Dataset:
    def __len__(self):
        return len(A)

    def __getitem__(self, i):
        return A[i], Y[i]


def batches():
    for i in range(0, 48, 16):
        yield A[i : i + 16], Y[i : i + 16]


class Repeated:
    def __iter__(self):
        return batches()


@pytest.mark.parametrize("workers", [1, 2])
def test_datasets_and_iterables_train_as_their_arrays(workers):
    def network():
        tn.seed(0)
        return nn.Sequential(nn.Dense(2))

    plain = Loader(A, Y, batch_size=16, shuffle=False)
    rows = {}
    for name, train in (
        ("arrays", plain),
        ("dataset", Loader(Dataset(), batch_size=16, shuffle=False)),
        ("iterable", Repeated()),
        ("function", batches),
    ):
        rows[name] = comparable(run(network(), train, validation=train, workers=workers))
    assert all(row == rows["arrays"] for row in rows.values())
    whole = run(network(), Dataset(), workers=workers)
    assert comparable(whole) == comparable(run(network(), (A, Y), workers=workers))
    with pytest.raises(ValueError, match="gave no batch in epoch 2"):
        run(network(), batches())


def test_an_iterable_goes_on_from_a_checkpoint(tmp_path):
    class Crash(Exception):
        pass

    def crash(info):
        if info["step"] == 5:
            raise Crash

    def network():
        tn.seed(0)
        return nn.Sequential(nn.Dense(2))

    whole = run(network(), Repeated())
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(Crash):
        run(network(), Repeated(), callbacks=[type("H", (), {"on_step_end": staticmethod(crash)})], **options)
    assert comparable(run(network(), Repeated(), resume=True, **options)) == comparable(whole)


def test_a_share_is_set_apart_for_validation():
    rows = run(nn.Sequential(nn.Dense(2)), (A, Y), validation=0.25, early_stopping=EarlyStopping(3, "val_accuracy"))
    (x, y), held_out = tn.data.split(A, Y, 0.25, stratify=True, seed=1)
    other = run(nn.Sequential(nn.Dense(2)), (x, y), validation=held_out)
    assert [row["val_loss"] for row in rows] != [] and len(held_out[1]) == 12
    tn.seed(0)
    assert rows[0]["val_loss"] == run(nn.Sequential(nn.Dense(2)), (x, y), validation=held_out)[0]["val_loss"]
    assert len(other) == 3
    for train, value, text in (
        (Loader(A, Y), 0.1, "is a share of arrays"),
        ((A, Y), 1.5, "between 0 and 1"),
        ((A[:3], Y[:3]), 0.1, "too few"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            run(nn.Sequential(nn.Dense(2)), train, validation=value)


@pytest.mark.parametrize(
    "train",
    [A, "name", 3, [A, Y, A], {"x": A}, tn.tensor(A)],
    ids=["array", "text", "number", "three", "dict", "tensor"],
)
def test_what_is_no_data_is_said(train):
    with pytest.raises(TypeError, match=r"it must be a pair of arrays \(x, y\), a Loader, a dataset"):
        run(nn.Sequential(nn.Dense(2)), train)
    with pytest.raises(ValueError, match=r"same length, got the shapes .*\(48, 3\).* and \(47,\)"):
        run(Two(), ((A, B), Y[:-1]))


# ---- the loss that is remembered ---------------------------------------------------------------------------------


def halved(outputs, y):
    return ops.mse(outputs, y) * 0.5


@pytest.mark.parametrize("loss", [ops.mse, halved, functools.partial(ops.mse, reduction="mean")])
def test_evaluate_remembers_the_loss_and_so_does_the_file(loss, tmp_path):
    y = A[:, :1] * 2
    model = nn.Sequential(nn.Dense(1))
    row = run(model, (A, y), validation=(A, y), loss=loss, checkpoint=tmp_path / "run")[-1]
    assert evaluate(model, (A, y))["loss"] == pytest.approx(row["val_loss"])
    tn.save(model, tmp_path / "model")
    for path in tmp_path / "model", tmp_path / "run":
        for loaded in tn.load(path), tn.load(path, nn.Sequential(nn.Dense(1))):
            if loss is ops.mse:
                assert evaluate(loaded, (A, y))["loss"] == pytest.approx(row["val_loss"])
                tn.save(loaded, tmp_path / "again")
                assert evaluate(tn.load(tmp_path / "again"), (A, y))["loss"] == pytest.approx(row["val_loss"])
            else:
                with (
                    pytest.warns(UserWarning, match="was trained with the loss"),
                    pytest.raises((TypeError, ValueError)),
                ):
                    evaluate(loaded, (A, y))
            assert evaluate(loaded, (A, y), loss=loss)["loss"] == pytest.approx(row["val_loss"])


def test_evaluate_says_that_it_was_not_told():
    model = nn.Sequential(nn.Dense(1), input_shape=3)
    with pytest.raises((TypeError, ValueError), match=r"evaluate was not told the loss.*pass loss="):
        evaluate(model, (A, A[:, :1]))
    assert evaluate(model, (A, A[:, :1]), loss=ops.mse)["accuracy"] is None
    assert evaluate(nn.Sequential(nn.Dense(2), input_shape=3), (A, Y))["loss"] > 0  # class numbers say enough


# ---- predict -----------------------------------------------------------------------------------------------------


def test_predict_gives_probabilities_and_leaves_the_modes():
    model = nn.Sequential(nn.Dense(8), nn.Dropout(0.5), nn.Dense(3), input_shape=3)
    model.layers[0].eval()
    seeds = dict(ops.random.state.steps)
    p = tn.predict(model, A, batch_size=7)
    assert (
        p.shape == (48, 3) and p.dtype == np.float32 and np.allclose(p.sum(1), 1) and (p == tn.predict(model, A)).all()
    )
    assert [m.training for m in model.modules()] == [True, False, True, True] and ops.random.state.steps == seeds
    assert (p == tn.predict(model, Loader(A, Y, shuffle=False))).all()
    one = nn.Sequential(nn.Dense(1), input_shape=3)
    np.testing.assert_allclose(predict(one, A), 1 / (1 + np.exp(-one(A).numpy().astype(float))), rtol=1e-5)
    with pytest.raises(TypeError, match="predict: the model is a function, not a Module"):
        predict(lambda x: x, A)
    with pytest.raises(TypeError, match=r"predict: the outputs \(48,\) must be logits"):
        predict(nn.Lambda(lambda x: x.sum(1)), A)
