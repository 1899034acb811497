"""What a graph saved does not change under it."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn


def networks():
    image = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype(np.float32)
    return {
        "dense": (lambda: nn.Dense(2), image[:, 0, :, 0]),
        "conv": (lambda: nn.Conv2d(2, 3), image),
        "conv, relu": (lambda: nn.Conv2d(2, 3, activation="relu"), image),
        "all": (
            lambda: nn.Sequential(
                nn.Conv2d(2, 3, activation="relu"), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Dense(3)
            ),
            image,
        ),
        "float64 and int": (lambda: nn.Dense(2), (9 * image[:, 0, :, 0]).astype(int)),
    }


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("name", networks())
def test_a_batch_may_be_overwritten_before_backward(name, backend):
    """By the next batch, say: gradients are those of the values at the call, at the first call and at later ones."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    make, x = networks()[name]
    found = []
    for change in False, True:
        with tn.use(backend):
            tn.seed(0)
            model = make()
            for _ in range(3):
                buffer, weights = x.copy(), np.linspace(-1, 1, 6, dtype=np.float32)
                y = model(buffer)
                loss = (y.reshape(-1)[:6] * weights[: min(6, y.size)]).sum()
                if y.ndim == 2:
                    labels = np.array([1, 0])
                    loss = loss + tn.ops.softmax_cross_entropy(y, labels) + tn.ops.nll_loss(y, labels)
                    labels[...] = 0 if change else labels
                if change:
                    buffer[...] = 5
                    weights[...] = 9
                loss.backward()
        found.append([p.grad.numpy() for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def _replaced(model, optimizer, path):
    for p in model.parameters():
        p.data = p.backend.multiply(p.data, 2)
    optimizer.groups[0].reclaim()


ROUTES = {
    "load_state_dict": lambda model, optimizer, path: model.load_state_dict(
        {k: 2 * v for k, v in model.state_dict().items()}
    ),
    "load": lambda model, optimizer, path: tn.load(path, model),
    "step": lambda model, optimizer, path: optimizer.step(),
    "data that was replaced": _replaced,
    "in place": lambda model, optimizer, path: model[0].weight.__imul__(2),
    "an element": lambda model, optimizer, path: model[0].weight.__setitem__((0, 0), 2.0),
}


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_weights_that_change_under_a_graph_are_noticed(route, owned, backend, tmp_path):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    with tn.use(backend):
        model = nn.Sequential(nn.Dense(2), nn.Dense(1), input_shape=2)
    tn.save(model, tmp_path / "model")
    optimizer = tn.optim.SGD(model.parameters()) if owned or route in ("step", "data that was replaced") else None
    for p in model.parameters():
        p.grad = tn.tensor(np.ones(p.shape, np.float32), backend=backend)
    x = tn.tensor(np.ones((1, 2), np.float32), backend=backend, requires_grad=True)
    loss = model(x).sum()
    with tn.no_grad():
        ROUTES[route](model, optimizer, tmp_path / "model")
    with pytest.raises(RuntimeError, match=r"backward: dense saved an array .* changed in place since"):
        loss.backward()
    model(x).sum().backward()


def test_weights_that_move_leave_a_graph_as_it_was():
    """An optimiser, replicas and another backend take copies; what the graph saved stays."""

    def adopt(model):
        return tn.optim.Adam(model.parameters())

    def replicas(model):
        with tn.parallel.trainer(model, tn.optim.Adam(model.parameters()), workers=2):
            pass

    moves = [adopt, replicas] + [lambda model: model.to("simulator")] * (tn.backends.why_not("simulator") is None)
    for move in moves:
        model = nn.Sequential(nn.Dense(2), nn.Dense(1), input_shape=2)
        x = tn.tensor(np.ones((1, 2), np.float32), requires_grad=True)
        loss, expected = model(x).sum(), model[0].weight.numpy() @ model[1].weight.numpy()
        held = move(model)
        loss.backward()
        np.testing.assert_allclose(x.grad.numpy(), expected.T, rtol=1e-6)
        del held


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trainers_step_under_a_graph_is_noticed(workers):
    """Whichever replica updated the weights."""
    model = nn.Sequential(nn.Dense(2), nn.Dense(2), input_shape=2)
    x = np.ones((4, 2), np.float32)
    with tn.parallel.trainer(model, tn.optim.SGD(model.parameters(), 0.1), workers=workers) as step:
        loss = model(x).sum()
        step(x, np.zeros(4, int))
        with pytest.raises(RuntimeError, match=r"dense saved an array .* changed in place since"):
            loss.backward()
