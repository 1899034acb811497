"""Replicas: the same results as one process, no hang whatever dies, nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn, optim, parallel, replicas
from tinynet.backends.cpu import conv
from tinynet.backends.cpu import team as team_module
from tinynet.backends.cpu.team import LINE, ReplicaError, Team, single_threaded_blas, usable_cores
from tinynet.optim import optimizer as optimizer_module

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")

SIZES = (8, 7, 8, 1, 3, 11, 2, 8, 5, 4)      # of batches: uneven shares, fewer samples than replicas, growing


def double(model):
    """The model in float64, where sums in another order agree to 1e-12."""
    for p in model.parameters():
        p.requires_grad_(False)
        p.data = p.data.astype(np.float64)
        p.requires_grad_()
    return model


def small_net():
    return double(nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
                                nn.Dense(9, activation="relu"), nn.Dropout(0.5), nn.Dense(3), input_shape=(8, 8, 1)))


def batches(count=20, seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = sizes[i % len(sizes)]
        yield rng.standard_normal((n, 8, 8, 1)), rng.integers(0, 3, n)


def adam(params):
    return optim.Adam(params, 1e-2)


def train(workers, *, make=small_net, optimizer=adam, count=20, between=None, seed=3, sizes=SIZES, **options):
    """Losses, counts of right predictions, and the final states of a short run."""
    tn.seed(seed)
    model = make()
    opt = optimizer(model.parameters())
    losses, correct = [], []
    with parallel.trainer(model, opt, workers=workers, **options) as step:
        assert step.workers == workers and step.note is None
        for i, (x, y) in enumerate(batches(count, sizes=sizes)):
            if between is not None:
                between(i, model, opt)
            losses.append(step(x, y).item())
            correct.append(step.correct)
    return losses, correct, model.state_dict(), opt.state_dict(), dict(tn.ops.random.state.steps)


def assert_same_run(one, other):
    np.testing.assert_allclose(other[0], one[0], rtol=1e-12, atol=1e-12)
    assert other[1] == one[1]
    for a, b in zip(one[2:4], other[2:4], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-11, atol=1e-12, err_msg=name)
    assert other[4] == one[4] and tn.ops.random.state.first == 0


# ---- the same results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("optimizer", [
    adam,
    lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    lambda p: optim.RMSprop([{"params": p[:2], "lr": 1e-3}, {"params": p[2:]}], 1e-2, momentum=0.5),
], ids=["adam", "sgd", "two groups"])
def test_any_number_of_workers_gives_the_losses_of_one(workers, optimizer):
    assert_same_run(train(1, optimizer=optimizer), train(workers, optimizer=optimizer))


def test_the_gradient_is_clipped_by_its_joint_norm():
    free, one = train(1), train(1, clip_norm=0.3)
    assert free[0] != one[0]
    assert_same_run(one, train(2, clip_norm=0.3))
    assert_same_run(one, train(3, clip_norm=0.3))


def test_dropout_masks_do_not_depend_on_the_number_of_workers():
    def masks(workers):
        """Seen through gradients: the loss is linear in the masked weight of each sample."""
        tn.seed(11)
        model = double(nn.Sequential(nn.Dropout(0.5), nn.Dense(1, bias=False), input_shape=(20,)))
        opt = optim.SGD(model.parameters(), 1.0)
        w = model.parameters()[0]
        seen = []
        with parallel.trainer(model, opt, lambda out, y: out.mean(), workers=workers) as step:
            for i in range(3):
                before = w.numpy().copy()
                # one column a sample: which weights move tells which values were kept
                step(np.eye(20)[:, :] * (1 + i), np.zeros(20, int))
                seen.append((before - w.numpy()).ravel() * 20 / (1 + i))
        return np.array(seen)

    one = masks(1)
    assert set(np.round(one.ravel(), 9)) == {0.0, 2.0}
    assert not (one[0] == one[1]).all()
    for workers in (2, 3):
        np.testing.assert_allclose(masks(workers), one, atol=1e-12)


@pytest.mark.parametrize("sizes", [(1,), (2, 1, 3)])
def test_batches_smaller_than_the_replicas_work_from_the_start(sizes):
    assert_same_run(train(1, count=4, sizes=sizes), train(3, count=4, sizes=sizes))


def test_two_runs_are_equal_to_the_bit():
    first, second = train(2), train(2)
    assert first[0] == second[0]
    for a, b in zip(first[2:4], second[2:4], strict=True):
        for name in a:
            assert a[name].tobytes() == b[name].tobytes()


def test_float32_models_are_shared_too():
    def run(workers):
        tn.seed(0)
        model = tn.models.mlp(64, 3)
        with parallel.trainer(model, optim.Adam(model.parameters()), workers=workers) as step:
            loss = [step(x.reshape(-1, 64).astype(np.float32), y) for x, y in batches(6)]
        assert {value.dtype for value in loss} == {np.dtype(np.float32)} and loss[0].shape == ()
        assert not any(value.requires_grad for value in loss)
        return [value.item() for value in loss]
    np.testing.assert_allclose(run(2), run(1), rtol=1e-4)


class Twice(nn.Module):
    """A layer used twice, whose gradient has two parts, of which one alone may be written in place."""

    def __init__(self):
        self.layer = nn.Dense(64)
        self.build((8, 8, 1))

    def forward(self, x):
        x = x.reshape(len(x), 64)
        return self.layer(self.layer(x))[:, :3]


def test_a_weight_that_is_used_twice(monkeypatch):
    monkeypatch.setattr(replicas, "CHUNK", 100)      # the update of several pieces
    one, two = (train(workers, make=lambda: double(Twice())) for workers in (1, 2))
    assert_same_run(one, two)


def test_a_dense_gradient_is_written_where_it_is_summed(monkeypatch):
    copied = []
    gather = optimizer_module.Group.gather
    monkeypatch.setattr(optimizer_module.Group, "gather", lambda self, views: (
        copied.extend(p.shape for p, view in zip(self.params, views, strict=True) if p.grad.data is not view),
        gather(self, views))[1])
    train(2, count=1)
    assert (36, 9) not in copied and (9, 3) not in copied and (3, 3, 1, 4) in copied


def test_tensors_and_other_losses_are_taken():
    def run(workers):
        tn.seed(0)
        model = double(tn.models.linear_regression(64))
        with parallel.trainer(model, optim.SGD(model.parameters(), 0.01), tn.ops.mse, workers=workers) as step:
            out = [step(tn.tensor(x.reshape(-1, 64)), tn.tensor(x[:, 0, 0, :])).item() for x, _ in batches(6)]
            assert step.correct is None
        return out
    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


# ---- what changes between steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_frozen_parameters_keep_their_own_counts(workers):
    def between(i, model, opt):
        if i == 0:
            model.layers[0].freeze()
        if i == 7:
            model.layers[0].unfreeze()
        if i == 12:
            model.layers[4].freeze()
    one = train(1, between=between)
    assert sorted(one[3]["0.counts"][:, 1]) == [12, 13, 20]
    assert_same_run(one, train(workers, between=between))


def test_the_learning_rate_and_loaded_states_reach_the_replicas():
    saved = {}

    def between(i, model, opt):
        if i == 4:
            opt.lr = 3e-2
            saved.update(model=model.state_dict(), opt=opt.state_dict())
        if i == 9:
            opt.groups[0].options["betas"] = (0.8, 0.99)
        if i == 13:
            model.load_state_dict(saved["model"])
            opt.load_state_dict(saved["opt"])
            tn.seed(5)
    assert_same_run(train(1, between=between), train(2, between=between))


def test_a_run_goes_on_from_a_state_with_any_number_of_workers():
    whole = train(1)

    def run(workers, first, stop, state):
        tn.seed(3)
        model = small_net()
        opt = adam(model.parameters())
        if state:
            model.load_state_dict(state[0])
            opt.load_state_dict(state[1])
            tn.ops.random.state.steps = state[2]
        with parallel.trainer(model, opt, workers=workers) as step:
            losses = [step(x, y).item() for x, y in list(batches())[first:stop]]
        return losses, (model.state_dict(), opt.state_dict(), dict(tn.ops.random.state.steps))

    head, state = run(2, 0, 9, None)
    tail, _ = run(3, 9, 20, state)
    np.testing.assert_allclose(head + tail, whole[0], rtol=1e-11)


def test_changes_of_the_model_make_new_replicas():
    calls = []

    def between(i, model, opt):
        if i == 0:
            calls.clear()
        if i == 3:
            model.eval()
        if i == 5:
            model.train()
        if i == 8:
            model.layers[2].rate = 0.6
        if i == 11:
            model.layers[2].eval()
        if i == 13:
            model.layers[2] = nn.Dropout(0.1).build((3, 3, 4))
        if i == 15:
            calls.append(model.layers[-1].register_forward_hook(lambda layer, x, y: calls.append(len(y))))
        if i == 17:
            calls[0]()
    assert_same_run(train(1, between=between), train(2, between=between))
    assert calls[-2:] == [-(-n // 2) for n in (SIZES[5], SIZES[6])]      # replica 0 sees its own share


def test_the_engines_switches_reach_the_replicas():
    """Checked in a replica's own loss function, which fails where they are not as they should be."""
    def loss(out, y):
        switches = nn.sequential.fusing(), conv._algorithm
        assert switches == ((True, "auto") if y[0] == 0 else (False, "im2col"))
        return tn.ops.softmax_cross_entropy(out, y)

    _, step = trainer(loss=loss)
    x = np.ones((4, 8, 8, 1))
    with step:
        step(x, np.zeros(4, int))
        with nn.set_fusion(False), tn.set_conv_algorithm("im2col"):
            step(x, np.ones(4, int))
        step(x, np.zeros(4, int))


class Restless(nn.Module):
    """Notes things in every forward, and keeps a running mean in a buffer that it replaces."""

    def __init__(self, inside):
        self.inside, self.calls, self.seen = inside, 0, []
        self.mean = tn.tensor(np.zeros(64))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        self.last = x
        if self.training:
            with tn.no_grad():
                self.mean = tn.tensor(0.5 * self.mean.numpy() + 0.5 * x.numpy().mean(0))
        return self.inside(x if self.training else x - self.mean)


def test_what_a_forward_notes_makes_no_new_replicas_and_buffers_are_sent():
    def run(workers, forks):
        tn.seed(0)
        model = Restless(double(nn.Sequential(nn.Dense(3), input_shape=(64,))))
        opt = optim.SGD(model.parameters(), 0.1)
        losses = []
        with parallel.trainer(model, opt, workers=workers) as step:
            pids = dict(step.team._pids) if workers > 1 else None
            for i, (x, y) in enumerate(batches(8, sizes=(8,))):
                if i == 4:       # from here on the running mean of replica 0 is used, by all
                    model.eval()
                    model.mean = tn.tensor(np.full(64, 0.25))
                losses.append(step(x.reshape(-1, 64), y).item())
            if workers > 1:
                assert step.team._pids == pids
        return losses
    np.testing.assert_allclose(run(2, 1), run(1, 0), rtol=1e-12)


def test_parameters_that_the_optimiser_does_not_know_follow_too():
    def run(workers):
        tn.seed(0)
        model = small_net().eval()
        opt = adam(model.layers[-1].parameters())
        saved = model.state_dict()
        with parallel.trainer(model, opt, workers=workers) as step:
            losses = []
            for i, (x, y) in enumerate(batches(6)):
                if i == 3:
                    model.load_state_dict({name: value * 0.5 for name, value in saved.items()})
                losses.append(step(x, y).item())
        return losses
    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


def test_a_loss_that_is_not_finite_voids_the_update_in_all_replicas():
    def run(workers):
        tn.seed(2)
        model = small_net()
        opt = adam(model.parameters())
        losses = []
        with parallel.trainer(model, opt, workers=workers) as step:
            for i, (x, y) in enumerate(batches(6, sizes=(8, 6))):
                before = model.state_dict()
                if i in (2, 3):
                    x[-1 if i == 2 else 0] = np.nan      # in the share of the last replica, of the first
                losses.append(step(x, y).item())
                if i in (2, 3):
                    assert np.isnan(losses[-1])
                    assert all((before[k] == v).all() for k, v in model.state_dict().items())
        assert opt.state_dict()["0.counts"][0, 1] == 4
        return losses
    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


# ---- errors -------------------------------------------------------------------------------------------------


def trainer(workers=2, loss=tn.ops.softmax_cross_entropy, **options):
    model = small_net()
    opt = adam(model.parameters())
    return model, parallel.trainer(model, opt, loss, workers=workers, **options)


class Unsendable(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.lock = threading.Lock()


@pytest.mark.parametrize("kind", [ValueError, Unsendable])
def test_an_exception_in_a_replica_is_raised_here_with_its_own_traceback(kind):
    def loss_that_fails_on_a_two(out, y):
        if (y == 2).any():
            raise kind("a two", os.getpid())
        return tn.ops.softmax_cross_entropy(out, y)

    model, step = trainer(loss=loss_that_fails_on_a_two)
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 1))
    with step:
        step(x, np.zeros(6, int))
        before = model.state_dict()
        with pytest.raises(ValueError if kind is ValueError else ReplicaError) as caught:
            step(x, np.array([0, 0, 0, 0, 0, 2]))
        cause = caught.value.__cause__ if kind is ValueError else caught.value
        assert isinstance(cause, ReplicaError) and "in replica 1, samples 3 to 5" in str(cause)
        assert "loss_that_fails_on_a_two" in str(cause) and f"{step.team._pids[1]}" in str(cause)
        with pytest.raises(kind) as caught:      # replica 0's own share: its own exception, with its frames
            step(x, np.array([2, 0, 0, 0, 0, 2]))
        assert caught.traceback[-1].name == "loss_that_fails_on_a_two"
        assert all((before[k] == v).all() for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        assert np.isfinite(step(x, np.zeros(6, int)).item())


@pytest.mark.parametrize("when", ["between steps", "in a step"])
def test_a_killed_replica_is_an_error_within_seconds(when):
    def loss(out, y):
        if (y == 2).any():
            time.sleep(100)
        return tn.ops.softmax_cross_entropy(out, y)

    _, step = trainer(workers=3, loss=loss)
    x, y = np.ones((6, 8, 8, 1)), np.zeros(6, int)
    with step:
        step(x, y)
        pids = dict(step.team._pids)
        if when == "in a step":
            y[5] = 2
            threading.Timer(0.3, os.kill, (pids[2], signal.SIGKILL)).start()
        else:
            os.kill(pids[2], signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(ReplicaError, match=r"replica 2 \(process \d+\) was killed by signal 9 \(SIGKILL\)"):
            step(x, y)
        assert time.monotonic() - start < 5
        assert not any(alive(pid) for pid in pids.values())
        assert np.isfinite(step(x, np.zeros(6, int)).item())      # new replicas
        assert not set(step.team._pids.values()) & set(pids.values())


def test_a_replica_that_ends_by_itself_leaves_its_last_words():
    def update(*args):
        raise OSError("no update today" if os.getpid() != here else "nor here")
    here = os.getpid()
    model = small_net()
    opt = adam(model.parameters())
    with parallel.trainer(model, opt, workers=2) as step:
        opt.update = update
        step.team.dismiss()
        with pytest.raises(OSError, match="nor here"):
            step(np.ones((4, 8, 8, 1)), np.zeros(4, int))
        assert not step.team.running
        opt.update = lambda *args: time.sleep(0) if os.getpid() == here else update()
        with pytest.raises(ReplicaError, match=r"(?s)replica 1 .* ended.*no update today"):
            step(np.ones((4, 8, 8, 1)), np.zeros(4, int))


def test_an_interrupt_ends_the_replicas_and_the_next_step_makes_new_ones():
    def loss(out, y):
        if (y == 2).any() and os.getpid() == here:
            raise KeyboardInterrupt
        return tn.ops.softmax_cross_entropy(out, y)
    here = os.getpid()
    _, step = trainer(loss=loss)
    with step:
        pids = list(step.team._pids.values())
        with pytest.raises(KeyboardInterrupt):
            step(np.ones((4, 8, 8, 1)), np.full(4, 2))
        assert not step.team.running and not any(map(alive, pids))
        assert np.isfinite(step(np.ones((4, 8, 8, 1)), np.zeros(4, int)).item())


def test_mistakes_are_explained():
    model = small_net()
    opt = adam(model.parameters())
    for workers in (0, -1, 1.5, "many"):
        with pytest.raises(ValueError, match="workers"):
            parallel.trainer(model, opt, workers=workers)
    with pytest.raises(ValueError, match="clip_norm"):
        parallel.trainer(model, opt, workers=1, clip_norm=0)
    with pytest.raises(TypeError, match="Module and an Optimizer"):
        parallel.trainer(opt, model)
    x, y = np.ones((4, 8, 8, 1)), np.zeros(4, int)
    for workers in (1, 2):
        with parallel.trainer(model, opt, lambda out, y: out.sum(1), workers=workers) as step:
            with pytest.raises(ValueError, match=r"the loss has shape \(\d,\); it must be one value"):
                step(x, y)
            with pytest.raises(ValueError, match="x has 4 samples and y 3"):
                step(x, y[:3])
            with pytest.raises(ValueError, match="x has 0 samples"):
                step(x[:0], y[:0])
            assert repr(step) == f"<tinynet trainer: {workers} worker{'s' * (workers > 1)}>"
        with pytest.raises(RuntimeError, match="closed"):
            step(x, y)
    with parallel.trainer(model, opt, workers=2) as step:
        with pytest.raises(TypeError, match="arrays of numbers"):
            step(x, np.array([None] * 4))
        with parallel.trainer(model, opt, workers=2), pytest.raises(RuntimeError, match="have moved"):
            step(x, y)


# ---- one process where there can be no more -------------------------------------------------------------------


def test_one_process_says_why(monkeypatch):
    def note(workers="auto"):
        _, step = trainer(workers)
        with step:
            assert step.workers == 1
            assert np.isfinite(step(np.ones((4, 8, 8, 1)), np.zeros(4, int)).item())
            assert step.correct in range(5)
            assert step.note in repr(step)
            return step.note

    with monkeypatch.context() as m:
        m.setattr(parallel, "usable_cores", lambda: 1)
        assert "one core" in note()
    with monkeypatch.context() as m:
        m.setattr(sys, "platform", "darwin")
        assert "Linux only" in note(2)
    with monkeypatch.context() as m:
        m.setitem(tn.backends._loaded, "cupy", None)
        assert "CUDA" in note(2)
    with monkeypatch.context() as m:
        m.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
        assert "daemonic" in note(2)
    with monkeypatch.context() as m:
        def refuse():
            raise OSError(11, "Resource temporarily unavailable")
        m.setattr(os, "fork", refuse)
        assert "no process could be forked" in note(2)


def test_replicas_that_hang_at_their_start_are_given_up(monkeypatch):
    monkeypatch.setattr(team_module, "READY", 0.5)
    monkeypatch.setattr(team_module, "_become_a_replica", lambda parent: time.sleep(100))
    model, step = trainer(2)
    assert step.workers == 1 and "not ready" in step.note
    assert not shared(model) and no_children()


def test_auto_is_one_a_core(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    with trainer("auto")[1] as step:
        assert step.workers == 3
    assert 1 <= usable_cores() <= os.cpu_count()


# ---- nothing left behind ----------------------------------------------------------------------------------


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


def no_children():
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0) and False
    except ChildProcessError:
        return True


def shared(model):
    """Whether any parameter lies in shared memory."""
    def root(a):
        while isinstance(a, np.ndarray) and a.base is not None:
            a = a.base
        return a
    return any(not isinstance(root(p.data), np.ndarray) for p in model.parameters())


def test_closing_gives_everything_back():
    gc.collect()      # what earlier tests left to it
    files, names = os.listdir("/proc/self/fd"), set(os.listdir("/dev/shm"))
    model = small_net()
    frozen = nn.Dense(3).build((3,))
    whole = nn.Sequential(model, frozen)
    whole(np.ones((1, 8, 8, 1)))
    opt = adam(model.parameters())
    threads = blas_threads()
    step = parallel.trainer(whole, opt, workers=2)
    x, y = np.ones((4, 8, 8, 1)), np.zeros(4, int)
    step(x, y)
    assert shared(model) and shared(frozen) and blas_threads() in ([], [1] * len(threads))
    values, state = whole.state_dict(), opt.state_dict()
    step.close()
    step.close()
    assert not shared(whole) and no_children() and blas_threads() == threads
    assert set(os.listdir("/dev/shm")) == names
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, values[name])
    for name, value in opt.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    del step
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(files)
    tn.ops.softmax_cross_entropy(whole(x), y).backward()
    opt.step()
    assert any((value != values[name]).any() for name, value in whole.state_dict().items())


def blas_threads():
    """How many threads each BLAS library uses."""
    counts = []
    restore = single_threaded_blas()
    for cell in restore.__closure__ or ():
        counts = [count for _, count in cell.cell_contents]
    restore()
    return counts


def test_a_forgotten_trainer_ends_its_replicas():
    _, step = trainer()
    pids = list(step.team._pids.values())
    del step
    gc.collect()
    assert no_children() and not any(map(alive, pids))


def test_a_copy_of_the_process_leaves_the_replicas_alone():
    _, step = trainer()
    with step:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                step(np.ones((4, 8, 8, 1)), np.zeros(4, int))
            except RuntimeError as error:
                code = 0 if "belongs to the process" in str(error) else 2
                step.close()
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert np.isfinite(step(np.ones((4, 8, 8, 1)), np.zeros(4, int)).item())


SCRIPT = """
import os, sys, time
import numpy as np
import tinynet as tn
from tinynet import nn, optim, parallel, replicas

print("made", flush=True)
model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(3), input_shape=(5,))
step = parallel.trainer(model, optim.Adam(model.parameters()), workers=3)
print(*step.team._pids.values(), flush=True)
x, y = np.ones((9, 5), np.float32), np.zeros(9, int)
"""


def script(rest, **options):
    """A Python process, without a __main__ guard, that has made three replicas; and the pids of two."""
    env = {**os.environ, "PYTHONPATH": str(Path(tn.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", SCRIPT + textwrap.dedent(rest)]
    process = subprocess.Popen(command, env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    assert process.stdout.readline() == "made\n"
    return process, [int(pid) for pid in process.stdout.readline().split()]


def gone(pids, seconds=10):
    limit = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_a_script_without_a_guard_works_and_ends():
    process, pids = script("""
        for i in range(5):
            loss = step(x, y)
        print("loss", loss.item() < 2)
    """)      # and never closes
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("loss True\n", "", 0)
    assert len(pids) == 2 and gone(pids)


@pytest.mark.parametrize("rest", [
    "while True: step(x, y)",
    "step(x, y); time.sleep(100)",
    """
    step.close()
    def loss(out, y):
        time.sleep(100 if os.getpid() != here else 0)
    here = os.getpid()
    step = parallel.trainer(model, step.optimizer, loss, workers=3)
    print(*step.team._pids.values(), flush=True)
    step(x, y)
    """], ids=["stepping", "idle", "replicas busy"])
def test_killing_the_parent_ends_the_replicas(rest):
    names = set(os.listdir("/dev/shm"))
    process, pids = script(rest)
    if "close" in rest:
        pids += map(int, process.stdout.readline().split())
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert gone(pids)
    assert set(os.listdir("/dev/shm")) <= names


def test_ctrl_c_stops_all_and_says_so_once():
    process, pids = script("""
        with step:
            step(x, y)
            print("on", flush=True)
            while True:
                step(x, y)
    """, start_new_session=True)
    assert process.stdout.readline() == "on\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert err.count("KeyboardInterrupt") == 1 and process.returncode == -signal.SIGINT
    assert gone(pids)


def test_more_replicas_than_cores_do_not_hang():
    assert_same_run(train(1, count=6), train(2 * usable_cores() + 1, count=6))


def test_threads_of_the_parent_do_no_harm():
    """A loader, a notebook: threads run while the replicas are forked, and there is no warning of it."""
    stop = threading.Event()

    def busy():
        a = np.ones((64, 64))
        while not stop.is_set():
            a @ a
    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        two = train(2, count=4)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert_same_run(train(1, count=4), two)


def test_a_trainer_may_live_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(train(2, count=4)))
    thread.start()
    thread.join()
    assert_same_run(train(1, count=4), results[0])


# ---- the team itself ----------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(0, 3000), st.integers(0, 3000))
def test_parts_cover_a_stretch_once_in_whole_lines(size, start, length):
    team = Team(size, [], 1)
    covered = []
    for rank in range(size):
        team.rank = rank
        a, b = team.part(start, start + length)
        covered += range(a, b)
        assert a == start or a % LINE == 0
    team.rank = 0
    team.close()
    assert covered == list(range(start, start + length))


def test_messages_and_numbers_reach_all_members():
    team = Team(4, [(10, np.float32)], 3)

    def work():
        while True:
            message = team.broadcast()
            team.gradients[0][team.rank] = team.rank + message["add"]
            team.put(team.rank, message["add"])
            team.get(2)
            a, b = team.part(0, 10)
            team.reduce(0, a, b, [1, 3])
            team.put()
            team.get()

    try:
        team.start(work)
        for add in range(5):
            team.broadcast({"add": add})
            team.put(0, add)
            assert team.get(2) == [[rank, add] for rank in range(4)]
            a, b = team.part(0, 10)
            team.reduce(0, a, b, [1, 3])
            team.put()
            team.get()
            assert (team.gradients[0][0] == 4 + 2 * add).all()
        with pytest.raises(ReplicaError, match="there is room for"):
            team.broadcast(bytes(1 << 21))
    finally:
        team.close()
    assert no_children()


@pytest.mark.parametrize("sleep", [False, True])
def test_waiting_works_with_and_without_a_futex(monkeypatch, sleep):
    if sleep:
        monkeypatch.setattr(team_module, "_sleep", lambda address, seen: time.sleep(1e-4))
        monkeypatch.setattr(team_module, "_wake", lambda address: None)
    monkeypatch.setattr(team_module, "SPINS", 1)
    assert_same_run(train(1, count=4), train(2, count=4))
