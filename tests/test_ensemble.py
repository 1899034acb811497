"""Ensembles: the mean of probabilities, a Module as any other."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops

from .training_runs import data, network, quiet


def members(n=3, classes=4):
    return [
        nn.Sequential(nn.Dense(8, activation="relu"), nn.Dropout(0.5), nn.Dense(classes), input_shape=5)
        for _ in range(n)
    ]


X = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_probabilities_are_averaged(classes):
    parts = members(classes=classes)
    mean = np.mean([tn.predict(m, X) for m in parts], 0)
    model = tn.Ensemble(parts)
    assert isinstance(model, nn.Module) and len(model) == 3 and model[1] is parts[1]
    np.testing.assert_allclose(tn.predict(model, X), mean, rtol=1e-5)
    for m in parts:  # sure ones do not overflow
        m.load_state_dict(m.state_dict() | {"2.weight": 300 * m[2].weight.numpy()})
    mean = np.mean([tn.predict(m, X) for m in parts], 0)
    np.testing.assert_allclose(tn.predict(model, X), mean, rtol=1e-4, atol=1e-6)
    assert np.isfinite(model(X).numpy()).all()


def test_evaluate_and_report_take_it():
    y, model = np.arange(20) % 4, tn.Ensemble(members())
    p = tn.predict(model, X)
    measured = tn.evaluate(model, (X, y))
    assert measured["accuracy"] == np.mean(p.argmax(1) == y)
    assert measured["loss"] == pytest.approx(-np.log(p[np.arange(20), y]).mean(), rel=1e-5)
    assert tn.report(model, (X, y)).accuracy == measured["accuracy"]
    assert tn.insight.fgsm(model, X, y, 0.1, clip=(-9, 9)).shape == X.shape


@pytest.mark.parametrize("make", [members, lambda: [tn.models.mlp(5, 4), *members(1)]])
def test_it_is_saved_loaded_and_shown(make, tmp_path, capsys):
    model = tn.Ensemble(make())
    tn.save(model, tmp_path / "e")
    again = tn.load(tmp_path / "e")
    np.testing.assert_array_equal(tn.predict(again, X), tn.predict(model, X))
    assert again.output_size((5,)) == again.output_shape == (4,)
    model.summary()
    assert "members.0" in capsys.readouterr().out


def test_it_is_built_by_its_first_input_and_trained():
    model = tn.Ensemble([nn.Sequential(nn.Dense(4)) for _ in range(2)])
    assert model.built is None and model(X).shape == (20, 4) and model.built == (5,)
    model = tn.Ensemble(network() for _ in range(3))
    history = quiet(model, data(), epochs=8, lr=0.02)
    assert history[-1]["accuracy"] > 0.9


def test_its_derivative_is_right():
    model = tn.Ensemble([nn.Sequential(nn.Dense(3), input_shape=5) for _ in range(2)]).astype(np.float64)
    one = tn.Ensemble([nn.Sequential(nn.Dense(1), input_shape=5) for _ in range(2)]).astype(np.float64)
    for m in (model, one):
        assert tn.gradcheck(lambda x, m=m: m(x), X[:3].astype(np.float64), rtol=1e-6, atol=1e-8)
    assert ops.softmax(model(X)).numpy().sum(1) == pytest.approx(np.ones(20))


def test_mistakes_are_explained():
    for parts, error, text in (
        ([], ValueError, "pass a list of modules"),
        ([nn.Dense(3), nn.Sequential(nn.Dense(3), nn.Softmax())], ValueError, "a member ends in softmax"),
        ([nn.Dense(3), "x"], TypeError, r"got \[Dense, str\]"),
        ([*members(1), *members(1, 3)], ValueError, r"same classes, got \(5,\) → \(4,\), \(5,\) → \(3,\)"),
    ):
        with pytest.raises(error, match=f"Ensemble: .*{text}"):
            tn.Ensemble(parts)


def test_numbers_and_labels_are_averaged_as_such():
    numbers = [m.eval() for m in members(2, 1)]
    mean = np.mean([m(X).numpy() for m in numbers], 0)
    np.testing.assert_allclose(tn.Ensemble(numbers, average="outputs")(X).numpy(), mean, rtol=1e-5)
    labels = [m.eval() for m in members(3, 4)]
    odds = tn.Ensemble(labels, average="sigmoid")(X)
    sigmoids = np.mean([ops.sigmoid(m(X)).numpy() for m in labels], 0)
    np.testing.assert_allclose(ops.sigmoid(odds).numpy(), sigmoids, rtol=1e-5)
    ends = [nn.Sequential(nn.Dense(3), nn.Softmax(), input_shape=5) for _ in range(2)]
    certain = tn.Ensemble(ends, average="outputs")(X).numpy()
    np.testing.assert_allclose(certain, np.mean([tn.predict(m, X) for m in ends], 0), rtol=1e-5)


def test_the_loss_of_the_members_tells_a_wrong_average(tmp_path):
    def trained(outputs, loss):
        (model,) = members(1, outputs)
        target = np.zeros((20, outputs), np.float32)
        y = np.arange(20) % 4 if loss is ops.softmax_cross_entropy else target
        quiet(model, (X, y), epochs=1, metrics=[], loss=loss)
        tn.save(model, tmp_path / "m")
        return [model, tn.load(tmp_path / "m")]

    for outputs, loss, average in (
        (1, ops.mse, "outputs"),
        (4, ops.l1, "outputs"),
        (4, ops.binary_cross_entropy_with_logits, "sigmoid"),
    ):
        for model in trained(outputs, loss):
            with pytest.raises(ValueError, match=f"was trained with {loss.__name__}; pass average='{average}'"):
                tn.Ensemble([model])
            tn.save(tn.Ensemble([model], average=average), tmp_path / "e")
            assert tn.load(tmp_path / "e").average == average
    for outputs, loss in ((4, ops.softmax_cross_entropy), (1, ops.binary_cross_entropy_with_logits)):
        assert len(tn.Ensemble(trained(outputs, loss))) == 2
    with pytest.raises(ValueError, match="average='mean' is none of softmax, sigmoid, outputs"):
        tn.Ensemble(members(), average="mean")


def test_it_is_evaluated_by_its_members_loss(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 5)).astype(np.float32)
    for loss, targets, average in (
        (ops.binary_cross_entropy_with_logits, (x[:, :3] > 0).astype(np.float32), "sigmoid"),
        (ops.mse, x[:, :3], "outputs"),
        (ops.softmax_cross_entropy, x[:, :3].argmax(1), "softmax"),
    ):
        parts = [nn.Sequential(nn.Dense(3), input_shape=5) for _ in range(2)]
        for part in parts:
            quiet(part, (x, targets), loss=loss, epochs=2, lr=0.1)
        parts[1].load_state_dict(parts[0].state_dict())
        model = tn.Ensemble(parts, average=average)
        tn.save(model, tmp_path / "e")
        for each in model, tn.load(tmp_path / "e"):
            found, wanted = tn.evaluate(each, (x, targets)), tn.evaluate(parts[0], (x, targets))
            assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5) and found["accuracy"] == wanted["accuracy"]
