"""A language model goes on with what it is given: greedily, by chance, from its likeliest, with its state kept."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import models, nn
from tinynet.ops import random


class Fixed(nn.Module):
    """ids (N, T) -> the same logits (N, T, K) everywhere, but that each id makes the next number likelier."""

    def __init__(self, logits, step=0.0):
        self.logits, self.by, self.read = np.asarray(logits, np.float64), step, []

    def forward(self, ids):
        self.read.append(ids.shape[1])
        rows = np.eye(len(self.logits))[(ids.numpy() + 1) % len(self.logits)] * self.by
        return tn.tensor(rows + self.logits)


LOGITS = np.log([0.1, 0.2, 0.3, 0.4])


def test_draws_have_the_models_probabilities():
    ids = tn.generate(Fixed(LOGITS), np.zeros((4000, 1), int), 2, seed=1)
    assert ids.shape == (4000, 3) and ids.dtype == np.int64 and not ids[:, 0].any()
    for column in (1, 2):
        np.testing.assert_allclose(np.bincount(ids[:, column], minlength=4) / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)
    cold = tn.generate(Fixed(LOGITS), np.zeros((4000, 1), int), 1, temperature=0.5)[:, 1]
    np.testing.assert_allclose(np.bincount(cold) / 4000, np.array([1, 4, 9, 16]) / 30, atol=0.03)


def test_top_k_and_temperature_0_leave_the_likeliest():
    few = tn.generate(Fixed(LOGITS), np.zeros((2000, 1), int), 1, top_k=2)[:, 1]
    np.testing.assert_allclose(np.bincount(few, minlength=4) / 2000, [0, 0, 3 / 7, 4 / 7], atol=0.04)
    all_of_them = [tn.generate(Fixed(LOGITS), [0], 50, top_k=k) for k in (4, 9, None)]
    np.testing.assert_array_equal(all_of_them[0], all_of_them[1])
    np.testing.assert_array_equal(all_of_them[0], all_of_them[2])
    assert tn.generate(Fixed(np.zeros(5), step=1.0), [3], 4, temperature=0).tolist() == [3, 4, 0, 1, 2]
    assert tn.generate(Fixed(LOGITS), [0], 5, top_k=1).tolist() == [0, 3, 3, 3, 3, 3]


def test_the_seed_decides_and_the_random_state_stays():
    model, before = Fixed(LOGITS), random.state.snapshot()
    first, again, other = (tn.generate(model, [0, 1], 30, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and first[:2].tolist() == [0, 1]
    assert random.state.snapshot() == before
    assert tn.generate(model, [2], 0).tolist() == [2]


def test_a_transformer_reads_its_context_only():
    tn.seed(0)
    model = models.gpt(7, layers=1, heads=2, width=8, context=5, dropout=0.5).train()
    ids = tn.generate(model, np.arange(9) % 7, 6, temperature=0)
    assert model.training
    for i in range(9, 15):
        with tn.no_grad():
            assert ids[i] == model.eval()(ids[None, max(0, i - 5) : i]).numpy()[0, -1].argmax()
    free = Fixed(LOGITS)
    tn.generate(free, [0], 3)
    assert free.read[-3:] == [1, 2, 3]


def test_a_recurrent_network_keeps_its_state():
    tn.seed(0)
    model = models.char_lstm(7, hidden=6, embedding=4).build(3, input_dtype=np.int64)
    reads, step = [], model.step
    model.step = lambda ids, state=None: (reads.append(ids.shape), step(ids, state))[1]
    ids = tn.generate(model, [[1, 2, 3], [4, 5, 6]], 5, seed=3)
    del model.step
    assert reads == [(2, 3), *[(2, 1)] * 4]
    whole = model(ids).numpy()
    _, state = model.step(ids[:, :4])
    np.testing.assert_allclose(model.step(ids[:, 4:], state)[0].numpy(), whole[:, 4:], rtol=1e-5, atol=1e-6)
    greedy = tn.generate(model, ids[0, :3], 4, temperature=0)
    for i in range(3, 7):
        assert greedy[i] == model(greedy[None, :i]).numpy()[0, -1].argmax()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 3), {}, r"integers \(T,\)"),
        (([0.5], 3), {}, r"integers \(T,\)"),
        ((np.zeros((1, 1, 1), int), 3), {}, r"integers \(T,\)"),
        (([0], -1), {}, "length"),
        (([0], 3), {"temperature": -1}, "temperature"),
        (([0], 3), {"temperature": float("nan")}, "temperature"),
        (([0], 3), {"top_k": 0}, "top_k"),
    ],
)
def test_mistakes_are_explained(arguments, options, message):
    with pytest.raises(ValueError, match=f"generate.*{message}"):
        tn.generate(Fixed(LOGITS), *arguments, **options)


def test_weights_that_are_not_finite_are_told():
    with pytest.raises(ValueError, match="logits are not finite"):
        tn.generate(Fixed([0, np.nan]), [0], 1)


def test_probabilities_are_drawn_from_as_they_are():
    model = nn.Sequential(nn.Embedding(4, 2), nn.Dense(4, activation="softmax"))
    model(np.zeros((1, 2), int))
    model[1].weight.data[...] = 0
    model[1].bias.data[...] = LOGITS + 3
    ids = tn.generate(model, np.zeros((4000, 1), int), 1, seed=1)[:, 1]
    np.testing.assert_allclose(np.bincount(ids, minlength=4) / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)
