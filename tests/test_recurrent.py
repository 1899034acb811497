"""Recurrent operations and layers: beside PyTorch, beside a loop of cells, and what lengths promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tests.references import REFERENCES
from tinynet import nn, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'tinynet[parity]')")
KINDS = {"RNN": (nn.RNN, torch.nn.RNN), "LSTM": (nn.LSTM, torch.nn.LSTM), "GRU": (nn.GRU, torch.nn.GRU)}


def twin(layer, theirs, dtype):
    """PyTorch's layer with our weights."""
    theirs = theirs.to(dtype)
    with torch.no_grad():
        for i, w in enumerate(layer.weights):
            end = f"l{i // layer.directions}" + "_reverse" * (i % layer.directions)
            bias = {name: w[name].numpy() for name in layer.biases}
            getattr(theirs, f"weight_ih_{end}").copy_(torch.from_numpy(w["wx"].numpy().T.copy()))
            getattr(theirs, f"weight_hh_{end}").copy_(torch.from_numpy(w["wh"].numpy().T.copy()))
            getattr(theirs, f"bias_ih_{end}").copy_(torch.from_numpy(next(iter(bias.values()))))
            getattr(theirs, f"bias_hh_{end}").copy_(torch.from_numpy(bias["bh"]) if "bh" in bias else torch.tensor(0))
    return theirs


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-9), (np.float32, 2e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    n=st.integers(1, 3),
    time=st.integers(1, 5),
    features=st.integers(1, 3),
    hidden=st.integers(1, 4),
    layers=st.integers(1, 2),
    both=st.booleans(),
    padded=st.booleans(),
    start=st.booleans(),
    seed=st.integers(0, 999),
)
def test_as_pytorch(kind, dtype, tolerance, n, time, features, hidden, layers, both, padded, start, seed):
    """Values, states and every gradient, with lengths (packed sequences there) and a given state."""
    ours, theirs = KINDS[kind]
    rng = np.random.default_rng(seed)
    layer = ours(hidden, layers=layers, bidirectional=both).build((time, features)).astype(dtype)
    peer = twin(
        layer,
        theirs(features, hidden, layers, batch_first=True, bidirectional=both),
        torch.float64 if dtype == np.float64 else torch.float32,
    )
    x = rng.standard_normal((n, time, features)).astype(dtype)
    lengths = rng.integers(1, time + 1, n) if padded else None
    states = [rng.standard_normal((layers * (1 + both), n, hidden)).astype(dtype) for _ in range(layer.states)]

    tx = torch.from_numpy(x).requires_grad_()
    ts = [torch.from_numpy(s).requires_grad_() for s in states]
    told = (tuple(ts) if len(ts) > 1 else ts[0]) if start else None
    packed = (
        tx
        if lengths is None
        else torch.nn.utils.rnn.pack_padded_sequence(
            tx, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
        )
    )
    ty, tstate = peer(packed, told)
    if lengths is not None:
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, batch_first=True, total_length=time)

    ox = tn.tensor(x, requires_grad=True)
    given_states = [tn.tensor(s, requires_grad=True) for s in states]
    told = (tuple(given_states) if len(ts) > 1 else given_states[0]) if start else None
    y, state = layer(ox, told, lengths=lengths)
    pairs = list(
        zip(
            state if isinstance(state, tuple) else [state],
            tstate if isinstance(tstate, tuple) else [tstate],
            strict=True,
        )
    )
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), **close)
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), **close)

    g, *gs = (rng.standard_normal(v.shape).astype(dtype) for v in (y, *(a for a, _ in pairs)))
    total = (y * g).sum()
    ttotal = (ty * torch.from_numpy(g)).sum()
    for (a, b), weight in zip(pairs, gs, strict=True):
        total = total + (a * weight).sum()
        ttotal = ttotal + (b * torch.from_numpy(weight)).sum()
    total.backward()
    ttotal.backward()
    close = {"rtol": 10 * tolerance, "atol": 10 * tolerance}
    np.testing.assert_allclose(ox.grad.numpy(), tx.grad.numpy(), **close)
    for a, b in zip(given_states, ts, strict=True) if start else ():
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **close)
    for i, w in enumerate(layer.weights):
        end = f"l{i // layer.directions}" + "_reverse" * (i % layer.directions)
        np.testing.assert_allclose(w["wx"].grad.numpy().T, getattr(peer, f"weight_ih_{end}").grad.numpy(), **close)
        np.testing.assert_allclose(w["wh"].grad.numpy().T, getattr(peer, f"weight_hh_{end}").grad.numpy(), **close)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_what_is_padded_counts_for_nothing(name):
    """Its values, NaN even, change neither outputs nor states nor gradients, and get none."""
    rng = np.random.default_rng(0)
    gates, states, biases = {"rnn": (1, 1, 1), "lstm": (4, 2, 1), "gru": (3, 1, 2)}[name]
    shapes = [(3, 4, 2), *[(3, 5)] * states, (2, 5 * gates), (5, 5 * gates), *[(5 * gates,)] * biases]
    arrays = [rng.standard_normal(s) for s in shapes]
    lengths, results = [2, 4, 0], []
    for rubbish in 0.0, np.nan:
        x = arrays[0].copy()
        for i, length in enumerate(lengths):
            x[i, length:] = rubbish
        leaves = [tn.tensor(a, requires_grad=True) for a in (x, *arrays[1:])]
        y, *last = getattr(ops, name)(*leaves, lengths=lengths)
        np.testing.assert_array_equal(y.numpy()[0, 2:], 0)
        np.testing.assert_array_equal(last[0].numpy()[2], arrays[1][2])
        y.sum().backward()
        results.append([v.numpy() for v in (y, *last)] + [leaf.grad.numpy() for leaf in leaves])
        for i, length in enumerate(lengths):
            assert not leaves[0].grad.numpy()[i, length:].any()
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_goes_on_from_batch_to_batch():
    """Two halves of a sequence, the state handed over, are the whole one."""
    layer = nn.LSTM(3, layers=2).build((6, 2))
    x = np.random.default_rng(1).standard_normal((2, 6, 2)).astype(np.float32)
    whole, state = layer(x)
    first, half = layer(x[:, :3])
    second, end = layer(x[:, 3:], tuple(s.detach() for s in half))
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()], 1), whole.numpy(), rtol=1e-6, atol=1e-6)
    for a, b in zip(state, end, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-6)


def test_dropout_stands_between_layers_in_training_only():
    tn.seed(0)
    layer = nn.GRU(4, layers=2, dropout=0.9).build((3, 2))
    x = np.ones((2, 3, 2), np.float32)
    assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x)[0].numpy())


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_it_learns_and_is_saved(backend, tmp_path):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    with tn.use(backend):
        tn.seed(0)
        model = nn.LSTM(4, bidirectional=True).build((5, 1))
        optimizer = tn.optim.Adam(model.parameters(), lr=0.05)
        x = np.random.default_rng(0).standard_normal((8, 5, 1)).astype(np.float32)
        losses = []
        for _ in range(8):
            y, _ = model(x)
            loss = ops.mse(y[:, 4, :1], tn.tensor(x.sum(1)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        tn.save(model, tmp_path / "lstm")
        np.testing.assert_array_equal(tn.load(tmp_path / "lstm")(x)[0].numpy(), model(x)[0].numpy())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nn.LSTM(3)(np.ones((2, 4), np.float32)), r"LSTM: inputs must be \(N, T, C\)"),
        (lambda: nn.LSTM(3, 4), r"LSTM takes \(hidden\)"),
        (lambda: nn.GRU(0), "GRU: hidden=0 must be"),
        (lambda: nn.RNN(2, dropout=1.0), "dropout=1.0 must be in"),
        (
            lambda: nn.GRU(2)(np.ones((2, 3, 1), np.float32), np.ones((1, 3, 2), np.float32)),
            r"GRU: the state must be h,",
        ),
        (lambda: nn.LSTM(2)(np.ones((2, 3, 1), np.float32), lengths=[1]), "lengths=.* must be 2 ints from 0 to 3"),
        (
            lambda: ops.gru(*map(tn.tensor, (np.ones((1, 2, 3)), np.ones((1, 2)), np.ones((3, 5)), np.ones((2, 6))))),
            r"gru: x must be \(N, T, C\), wx \(C, 3·H\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_no_steps_leave_the_state_and_have_no_gradient(kind):
    layer = kind(3).build((4, 2))
    x = tn.tensor(np.zeros((2, 0, 2), np.float32), requires_grad=True)
    h = tn.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y, state = layer(x, (h[None], h[None]) if kind is nn.LSTM else h[None])
    last = state[0] if kind is nn.LSTM else state
    assert y.shape == (2, 0, 3)
    np.testing.assert_array_equal(last.numpy()[0], h.numpy())
    last.sum().backward()
    np.testing.assert_array_equal(h.grad.numpy(), np.ones((2, 3)))


def test_references_agree_with_the_layer():
    """The loops that the operations are held to are what a reader would write by hand, and what the layers compute."""
    assert {"rnn", "lstm", "gru"} <= set(REFERENCES)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    for name, kind in ("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU):
        layer = kind(5).build((4, 3)).astype(np.float64)
        weights = [p.numpy() for p in layer.weights[0].values()]
        expected = REFERENCES[name](x, *[np.zeros((2, 5))] * layer.states, *weights)[0]
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=1e-12, atol=1e-13)


def test_a_lstm_written_by_hand_is_the_layer():
    """As the README has it, a step at a time by plain operations: values, states and every gradient."""
    layer = nn.LSTM(8).build((5, 3)).astype(np.float64)
    w = layer.weights[0]
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 8))
    results = []
    for by_hand in True, False:
        leaf = tn.tensor(x, requires_grad=True)
        if by_hand:
            h = c = tn.tensor(np.zeros((2, 8)))
            ys = []
            for t in range(5):
                i, f, z, o = ops.split(leaf[:, t] @ w["wx"] + h @ w["wh"] + w["b"], 4, axis=1)
                c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(z)
                h = ops.sigmoid(o) * ops.tanh(c)
                ys.append(h)
            y = ops.stack(ys, 1)
        else:
            y, (h, c) = layer(leaf)
            h, c = h[0], c[0]
        grads = tn.grad((y * g).sum() + (h * h * c).sum(), [leaf, *w.values()])
        results.append([v.numpy() for v in (y, h, c, *grads)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("time", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("reverse", [False, True])
def test_derivatives_of_steps_that_are_prepared_together(time, reverse):
    """However many steps are left for the last group."""
    rng = np.random.default_rng(time)
    shapes = (2, time, 2), (2, 3), (2, 3), (2, 12), (3, 12), (12,)
    tn.gradcheck(
        lambda *inputs: ops.lstm(*inputs, lengths=(time, time // 2), reverse=reverse)[0],
        [rng.standard_normal(s) for s in shapes],
    )
