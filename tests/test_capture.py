"""`tn.capture` on the stand-in for CuPy, whose graphs hold what CUDA's hold and refuse what CUDA refuses."""

from __future__ import annotations

import gc
import importlib

import numpy as np
import pytest

import tinynet as tn
from tests.fake_cuda import SCHEDULES
from tests.test_cupy_launcher import backend, needs_the_simulator  # noqa: F401    a fixture
from tinynet import nn, ops, optim
from tinynet.backends import cuda
from tinynet.backends.cuda import cupy_launcher
from tinynet.backends.errors import CaptureError

capturing = importlib.import_module("tinynet.parallel.capture")
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def batches(count: int, n: int = 2, shape: tuple = (28, 28, 1)) -> list:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(0, 10, n)) for _ in range(count)]


def training(model: nn.Module, rule: optim.Optimizer):
    def step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        rule.zero_grad()
        loss.backward()
        rule.step(loss)
        return loss

    return step


def twenty_steps(be, wrap) -> tuple[list[float], list[np.ndarray], dict]:
    """mnist_cnn with dropout; the rate changes, and between steps other work uses the memory that is free."""
    tn.seed(0)
    with tn.use(be):
        model = tn.models.mnist_cnn().train()
        rule = optim.Adam(model.parameters())
        step, losses = wrap(training(model, rule)), []
        for k, (x, y) in enumerate(batches(20)):
            rule.lr = 1e-3 / (1 + k // 3)
            losses.append(step(x, y))
            if k % 4 == 3:
                other = tn.tensor(np.full((2, 28, 28, 1), np.nan, np.float32))
                ops.random.dropout(other + k, 0.5).sum()
        return [loss.item() for loss in losses], [p.numpy() for p in model.parameters()], dict(ops.random.state.steps)


@pytest.fixture(scope="module")
def expected():
    return twenty_steps("simulator", lambda step: step)


@every_schedule
def test_a_captured_step_is_the_step_to_the_bit(schedule, expected):
    with backend(schedule, seed=3) as (be, device):
        losses, weights, draws = twenty_steps(be, tn.capture)
        assert (losses, draws) == (expected[0], expected[2])
        assert all((a == b).all() for a, b in zip(weights, expected[1], strict=True))
        assert device.graph is None and be.recording is None


def small(be, **options):
    model = nn.Sequential(nn.Dense(5, activation="relu"), nn.Dropout(0.3), nn.Dense(3), input_shape=(4,)).train()
    rule = optim.SGD(model.parameters(), 0.1, momentum=0.9, **options)
    return model, rule, training(model, rule)


@every_schedule
def test_small_steps_to_the_bit(schedule, module=cupy_launcher, capturing=capturing):
    """With as much of other work as there is memory between the steps, and losses that are read late."""
    seen = []
    for wrap in (lambda step: step, capturing.capture):
        tn.seed(0)
        with backend(schedule, module, seed=2) as (be, _), tn.use(be):
            model, _, step = small(be)
            step, losses, others = wrap(step), [], []
            for k, (x, y) in enumerate(batches(9, shape=(4,))):
                losses.append(step(x, y % 3))
                be.launcher.cupy.get_default_memory_pool().free_all_blocks()
                others += [be.full((size,), k, np.float32) for size in (1, 40, 200, 1000)]  # not on the graph's memory
            assert [set(be.numpy(x)) for x in others] == [{k // 4} for k in range(36)]
            seen.append(([loss.item() for loss in losses], [p.numpy().tolist() for p in model.parameters()]))
    assert seen[0] == seen[1]


def test_replayed_and_not_run(module=cupy_launcher, capturing=capturing):
    """From the fourth call on Python queues the batch's copies, the dropout's place, one graph and the loss's copy."""
    with backend("lazy", module) as (be, device), tn.use(be):
        _, _, step = small(be)
        calls = []
        step = capturing.capture(lambda x, y, run=step: (calls.append(1), run(x, y))[1])
        counts = []
        for x, y in batches(6, shape=(4,)):
            before, queued = len(device.launched), device.streams[0].queued
            step(x, y % 3)
            counts.append((len(device.launched) - before, device.streams[0].queued - queued > 10))
        assert len(calls) == 3
        assert [n for n, _ in counts[3:]] == [2, 2, 2] and counts[1][0] > 10, counts  # fill, strided_copy
        assert all(much for _, much in counts[2:]), "the graph runs where the step would"


CHANGES = {
    "the rate": lambda model, rule: setattr(rule, "lr", 0.01),
    "a group's rate": lambda model, rule: rule.groups[0].options.update(lr=0.03),
    "the momentum": lambda model, rule: rule.groups[0].options.update(momentum=0.5),
    "the seed": lambda model, rule: tn.seed(5),
    "the draws": lambda model, rule: ops.dropout(tn.tensor(np.ones((2, 2))), 0.5),
    "the state": lambda model, rule: rule.load_state_dict(
        {k: v if "runs" in k else v * 0.5 for k, v in rule.state_dict().items()}
    ),
    "the weights": lambda model, rule: [
        setattr(p, "data", tn.tensor(p.numpy() * 0.5).data) for p in model.parameters()
    ],
    "frozen": lambda model, rule: next(iter(model.parameters())).requires_grad_(False),
    "nothing": lambda model, rule: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_change_between_calls(change, module=cupy_launcher, capturing=capturing):
    """Set from outside: the graph follows, or is recorded anew."""
    seen = []
    for wrap in (lambda step: step, capturing.capture):
        tn.seed(0)
        with backend("random", module, seed=1) as (be, _), tn.use(be):
            model, rule, step = small(be)
            step, losses = wrap(step), []
            for k, (x, y) in enumerate(batches(12, shape=(4,))):
                if k == 5:
                    CHANGES[change](model, rule)
                losses.append(step(x[: 1 + (k != 8)], y[: 1 + (k != 8)] % 3))  # an odd batch among them
            seen.append(([loss.item() for loss in losses], [p.numpy().tolist() for p in model.parameters()]))
    assert seen[0] == seen[1]


def test_arguments_and_results(module=cupy_launcher, capturing=capturing):
    """Arrays, lists, Tensors of either kind and numbers go in, structures come out; each result stays what it was."""
    with backend("random", module) as (be, _), tn.use(be):

        @capturing.capture
        def parts(x, factor, *, shift=None):
            """Its own text."""
            return {"sum": (x * factor).sum(), "both": (x + 1, [x if shift is None else x + shift]), "n": factor}

        assert parts.__doc__ == "Its own text."
        kept = []
        for k in range(6):
            x = np.full((2, 3), k, np.float32)
            for given in (x, x.tolist(), tn.tensor(x), tn.tensor(x, backend="numpy")):
                kept.append((k, parts(given, 2, shift=np.float32([1, 2, 3])), parts(given, 3)))
        for k, two, three in kept:
            assert (two["sum"].item(), two["n"], three["sum"].item(), three["n"]) == (12 * k, 2, 18 * k, 3)
            assert two["both"][0].numpy().tolist() == [[k + 1] * 3] * 2
            assert two["both"][1][0].numpy().tolist() == [[k + 1, k + 2, k + 3]] * 2
            assert not two["sum"].requires_grad


REFUSED = {
    "reads an array of shape () on the host": lambda x, rule: x.sum().item(),
    "reads an array of shape (2, 4) on the host": lambda x, rule: x.numpy(),
    "moves a host array of shape (2, 4) to the device": lambda x, rule: x + tn.tensor(np.ones((2, 4), np.float32)),
    "sets a learning rate": lambda x, rule: setattr(rule, "lr", rule.lr / 2),
    "waits for the device": lambda x, rule: x.backend.launcher.synchronize(),
    "draws batches": lambda x, rule: list(x.backend.ahead([(np.ones(3), 0)])),
    "copies between host and device": lambda x, rule: x.backend.launcher.copyto(x.data, np.ones((2, 4), np.float32)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_breaks_a_capture(message, module=cupy_launcher, capturing=capturing):
    """Says what, computes nothing, and leaves all as it was: without the culprit it goes on as if it had not been."""
    seen = []
    for wrong in (False, True):
        tn.seed(0)
        with backend("random", module) as (be, device), tn.use(be):
            model, rule, step = small(be)
            broken, losses = [], []
            captured = capturing.capture(lambda x, y, s=step, r=rule, b=broken: (s(x, y), [f(x, r) for f in b])[0])
            data = [(x, y % 3) for x, y in batches(7, shape=(4,))]
            for k, (x, y) in enumerate(data):
                if k == 2 and wrong:
                    broken.append(REFUSED[message])
                    with pytest.raises(CaptureError) as caught:
                        captured(x, y)
                    assert str(caught.value).startswith(f"capture: the function {message}"), caught.value
                    assert device.graph is None and be.recording is None and be.moved is None
                    broken.clear()
                losses.append(captured(x, y).item())
            seen.append((losses, [p.numpy().tolist() for p in model.parameters()]))
    assert seen[0] == seen[1]


def test_other_ways_to_break_a_capture(module=cupy_launcher, capturing=capturing):
    with backend("lazy", module) as (be, device), tn.use(be):
        x, turn = np.ones(3, np.float32), []

        def calls(function, count=3):
            turn.clear()
            captured = capturing.capture(function)
            for _ in range(count):
                captured(x)
                turn.append(1)

        with pytest.raises(CaptureError, match=r"needs the kernel unary<Exp, float>, which its first calls did not"):
            calls(lambda x: ops.exp(x) if len(turn) == 2 else ops.log(x))
        with pytest.raises(CaptureError, match=r"take no new memory after the first two.*allocating new memory"):
            calls(lambda x: [x + i for i in range(8 * (len(turn) == 2))])

        def hidden(x):
            try:
                return x.sum().item()
            except Exception:
                return 0

        with pytest.raises(CaptureError, match="reads an array"):
            calls(hidden)
        with pytest.raises(ZeroDivisionError):
            calls(lambda x: 1 / (len(turn) < 2))
        inner = capturing.capture(lambda x: x + 1)
        with pytest.raises(CaptureError, match="calls another one"):
            calls(lambda x: inner(x))
        odd = capturing.capture(lambda x, n: x * n)
        with pytest.raises(CaptureError, match=r"called in more than 8 ways.*8\]; pass what changes as an array"):
            for n in range(9):
                odd(x, n)
        assert device.graph is None and be.recording is None


def test_its_memory_is_given_back():
    with backend("random") as (be, device), tn.use(be):
        model, rule, step = small(be)
        captured = tn.capture(step)
        for x, y in batches(5, shape=(4,)):
            captured(x, y % 3)
        be._ones.clear()
        del model, rule, step, captured, x
        gc.collect()
        assert device.used == 0, "memory stays behind"


@pytest.mark.parametrize("name", ["numpy", "simulator"])
def test_elsewhere_the_function_is_called(name):
    with tn.use(name):
        x = np.ones(3)
        captured = tn.capture(lambda *args, **options: (args, options))
        assert captured(x, 1, a=x)[0][0] is x and captured(x, 1, a=x)[1]["a"] is x
    with pytest.raises(TypeError, match="capture: 3 is no function"):
        tn.capture(3)


def test_the_cuda_backend_says_whether_it_records():
    assert cuda.make("simulator").recording is None
