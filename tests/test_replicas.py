"""What can happen to replicas: no hang whatever dies, nothing left behind; and the team that they are."""

from __future__ import annotations

import functools
import gc
import itertools
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
from tests.replica_runs import adam, assert_same_run, batches, small_net, train, trainer
from tinynet import nn, parallel
from tinynet.backends.cpu import threads
from tinynet.backends.cpu.threads import usable_cores
from tinynet.parallel import replicas, start
from tinynet.parallel import team as team_module
from tinynet.parallel.team import LINE, ReplicaError, Team, single_threaded_blas

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")


# ---- errors -------------------------------------------------------------------------------------------------


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
        with pytest.raises(kind) as caught:  # replica 0's own share: its own exception, with its frames
            step(x, np.array([2, 0, 0, 0, 0, 2]))
        assert caught.traceback[-1].name == "loss_that_fails_on_a_two"
        with pytest.raises(ValueError if kind is ValueError else ReplicaError) as caught:
            step.evaluate(x, np.array([0, 0, 0, 0, 0, 2]))
        assert "loss_that_fails_on_a_two" in str(caught.value.__cause__ if kind is ValueError else caught.value)
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
        assert np.isfinite(step(x, np.zeros(6, int)).item())  # new replicas
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
            with pytest.raises(ValueError, match=r"as many samples.* \(4, 8, 8, 1\) and \(3,\)"):
                step(x, y[:3])
            with pytest.raises(ValueError, match="one at least"):
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
        m.setattr(start, "usable_cores", lambda: 1)
        assert "one core" in note()
    with monkeypatch.context() as m:
        m.setattr(sys, "platform", "darwin")
        assert "Linux only" in note(2)
    with monkeypatch.context() as m:
        m.setattr(tn.backends, "cuda_runs", lambda: True)
        assert "CUDA" in note(2)
    with monkeypatch.context() as m:
        m.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
        assert "daemonic" in note(2)
    with monkeypatch.context() as m:

        def refuse(*_):
            raise OSError(11, "Resource temporarily unavailable")

        m.setattr(os, "fork", refuse)
        assert "no process could be forked" in note(2)


REFUSALS = {
    "memory": ("mmap", OSError(12, "Cannot allocate memory")),
    "files": ("_nameless_file", OSError(24, "Too many open files")),
    "python's memory": ("shared_array", MemoryError("nothing left")),
}


@pytest.mark.parametrize("what", sorted(REFUSALS))
@pytest.mark.parametrize("after", range(12))
def test_one_process_where_memory_or_files_cannot_be_had(monkeypatch, what, after):
    """Refused at the first request, at the second, …: at some of them parts of the model are shared already."""
    name, error = REFUSALS[what]
    requests = itertools.count()

    def ask(function, *args):
        if next(requests) >= after:
            raise error
        return function(*args)

    with monkeypatch.context() as m:
        for module in (team_module, replicas):
            if hasattr(module, name):
                m.setattr(module, name, functools.partial(ask, getattr(module, name)))
        model = small_net()
        whole = nn.Sequential(model, nn.Dense(3).build((3,)))
        whole(np.ones((1, 8, 8, 1)))
        values = whole.state_dict()
        step = parallel.trainer(whole, adam(model.parameters()), workers=2)
        if step.workers == 1:
            assert str(error) in step.note and not shared(whole) and no_children()
        assert all((values[k] == v).all() for k, v in whole.state_dict().items())
        with step:
            assert np.isfinite(step(np.ones((4, 8, 8, 1)), np.zeros(4, int)).item())
            assert (step.workers == 1) == (step.note is not None)
    assert not shared(whole) and no_children()


def test_a_batch_that_has_no_room_is_left_to_one_process(monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    one = train(1, count=4)
    tn.seed(3)
    model = small_net()
    opt = adam(model.parameters())
    losses = []
    with parallel.trainer(model, opt, workers=2) as step:
        for i, (x, y) in enumerate(batches(4)):
            if i == 2:
                monkeypatch.setattr(Team, "buffer", refuse)
            losses.append(step(x, y).item())
        assert step.workers == 1 and "No space left" in step.note and no_children()
    np.testing.assert_allclose(losses, one[0], rtol=1e-12)


def test_replicas_that_cannot_be_made_anew_leave_the_steps_to_one_process(monkeypatch):
    def refuse():
        raise OSError(11, "Resource temporarily unavailable")

    one = train(1, count=4)
    tn.seed(3)
    model = small_net()
    losses = []
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        for i, (x, y) in enumerate(batches(4)):
            if i == 2:
                step.team.dismiss()
                monkeypatch.setattr(os, "fork", refuse)
            losses.append(step(x, y).item())
        assert step.workers == 1 and "no process could be forked" in step.note
    np.testing.assert_allclose(losses, one[0], rtol=1e-12)


def test_replicas_that_hang_at_their_start_are_given_up(monkeypatch):
    monkeypatch.setattr(team_module, "READY", 0.5)
    monkeypatch.setattr(team_module, "_become_a_replica", lambda parent: time.sleep(100))
    model, step = trainer(2)
    assert step.workers == 1 and "not ready" in step.note
    assert not shared(model) and no_children()


def test_auto_is_one_a_core(monkeypatch):
    monkeypatch.setattr(start, "usable_cores", lambda: 3)
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
    gc.collect()  # what earlier tests left to it
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


def test_threads_come_back_when_the_last_trainer_is_closed():
    """In whatever order trainers end; a notebook makes the next before the last is forgotten."""
    before, blas = threads.count(), blas_threads()
    first, second = trainer()[1], trainer()[1]
    first.close()
    assert threads.count() == 1
    first.close()
    assert threads.count() == 1
    second.close()
    assert threads.count() == before and blas_threads() == blas


def test_batches_of_every_size_reach_the_replicas():
    """Also where the labels end beyond the memory that was mapped for an earlier batch."""
    model = nn.Sequential(nn.Dense(24), input_shape=24)
    with parallel.trainer(model, adam(model.parameters()), lambda out, y: tn.ops.mse(out, y), workers=2) as step:
        for n in (64, 128, 2, 65, 300, 301, 1000):
            x = np.random.default_rng(n).standard_normal((n, 24)).astype(np.float32)
            expected = float(((model(x).numpy() - x) ** 2).mean())
            assert step(x, x).item() == pytest.approx(expected, rel=1e-5)


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
from tinynet import nn, optim, parallel
from tinynet.parallel import replicas, start

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
    process = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
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
    """)  # and never closes
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("loss True\n", "", 0)
    assert len(pids) == 2 and gone(pids)


@pytest.mark.parametrize(
    "rest",
    [
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
    """,
    ],
    ids=["stepping", "idle", "replicas busy"],
)
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
    process, pids = script(
        """
        with step:
            step(x, y)
            print("on", flush=True)
            while True:
                step(x, y)
    """,
        start_new_session=True,
    )
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


STORM = """
import os, sys, threading, time, warnings
import numpy as np
import tinynet as tn
from tinynet import nn, optim
from tinynet.backends.cpu import threads

threads.set_threads(2)
warnings.simplefilter("ignore", DeprecationWarning)     # of threads at a fork, in Python 3.12
turns, errors, stop = {}, [], threading.Event()
x, y = np.ones((8, 5), np.float32), np.zeros(8, int)

def forever(function):
    def run():
        turns[name] = 0
        try:
            while not stop.is_set():
                function()
                turns[name] += 1
        except BaseException as error:
            errors.append((name, repr(error)))
    name = f"{function.__name__}{len(threads_)}"
    threads_.append(threading.Thread(target=run, daemon=True))
    threads_[-1].start()

ones = np.ones((300, 300), np.float32)
images = np.random.default_rng(0).random((16, 32, 32, 3), np.float32)
net = nn.Sequential(nn.Conv2d(16, 3, padding=1), nn.Conv2d(16, 3, padding=1), input_shape=(32, 32, 3))
with tn.no_grad():
    right = net(images).numpy()

def product():
    assert (ones @ ones)[0, 0] == 300

def convolution():
    with tn.no_grad():
        np.testing.assert_allclose(net(images).numpy(), right, rtol=1e-4, atol=1e-5)

def trainer():
    model = nn.Sequential(nn.Dense(3), input_shape=5)
    with tn.parallel.trainer(model, optim.SGD(model.parameters()), workers=2) as step:
        assert step.workers == 2, step.note
        for model.number in range(2):       # the second makes replicas anew
            assert np.isfinite(step(x, y).item())

def fork():
    pid = os.fork()
    if not pid:
        os._exit(int((ones[:50] @ ones)[0, 0] != 300))
    assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.05)

threads_ = []
for function in map(globals().get, sys.argv[1].split()):
    forever(function)
while not errors and (len(turns) < len(threads_) or any(turns[k] < 8 for k in turns)):
    time.sleep(0.05)
stop.set()
for thread in threads_:
    thread.join(60)
print(errors or "held", [t.name for t in threads_ if t.is_alive()], threads.count(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    "crew",
    ["product product trainer", "convolution trainer trainer", "product convolution fork", "trainer fork product"],
)
def test_threads_compute_while_others_make_trainers_and_copies(crew):
    """Nothing of it hangs, fails or is wrong, with BLAS of two threads."""
    env = {**os.environ, "PYTHONPATH": str(Path(tn.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", STORM, crew], env=env, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("held [] 2\n", "")


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
        monkeypatch.setattr(team_module, "sleep", lambda address, seen: time.sleep(1e-4))
        monkeypatch.setattr(team_module, "wake", lambda address: None)
    monkeypatch.setattr(team_module, "SPINS", 1)
    assert_same_run(train(1, count=4), train(2, count=4))
