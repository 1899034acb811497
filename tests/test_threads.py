"""Work shared out to threads: the same results, errors raised here, nothing that a fork could trip over."""

from __future__ import annotations

import os
import sys
import threading
import warnings

import numpy as np
import pytest

from tinynet.backends.cpu import conv, lines, taps, threads, winograd
from tinynet.parallel.team import Team


@pytest.fixture(autouse=True)
def two_threads():
    threads.stop()
    with threads.set_threads(2):
        yield
    threads.stop()


def test_results_come_in_order_from_other_threads():
    names = []
    together = threading.Barrier(2, timeout=10)  # passed only where two run at one time

    def work(item):
        together.wait()
        names.append(threading.current_thread().name)
        return item * item

    assert threads.each(work, range(6)) == [0, 1, 4, 9, 16, 25]
    assert len(set(names)) == 2 and all(name.startswith("tinynet") for name in names)


def test_one_item_or_one_thread_stay_here():
    here = threading.current_thread()
    assert threads.each(lambda _: threading.current_thread(), [0]) == [here]
    with threads.set_threads(1):
        assert threads.each(lambda _: threading.current_thread(), [0, 1]) == [here, here]
    assert threads.each(abs, []) == []


def test_an_exception_is_raised_here_and_the_threads_go_on():
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda item: 1 // item, [1, 0, 2])
    assert threads.each(abs, [-1, -2]) == [1, 2]


def test_numpys_error_state_is_the_callers():
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.each(lambda item: np.exp(np.float32(item)), [1000, 1000])
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(threads.each(lambda item: np.exp(np.float32(item)), [1000, 1000])).all()


def test_shares_hold_all_items_in_order_where_there_are_enough():
    assert threads.shares(range(7)) == [range(7)] and threads.shares([]) == []
    for n in (8, 9, 23):
        runs = threads.shares(list(range(n)))
        assert len(runs) == 8 and [item for run in runs for item in run] == list(range(n))
    with threads.set_threads(1):
        assert threads.shares(range(99)) == [range(99)]


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(
    "how",
    [*winograd.TILES[3, 3], lines.Lines(winograd.TILES[3, 3][0]), "taps"],
    ids=lambda how: f"{type(how).__name__}{getattr(how, 'm', '')}",
)
def test_a_convolution_is_the_same_with_threads(monkeypatch, how, pooled):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((17, 11, 10, 4), (3, 3, 4, 6), (6,)))
    monkeypatch.setattr(conv, "_choose", lambda *_: how)
    monkeypatch.setattr(taps, "COLUMNS_BYTES", 1)
    shared = []
    monkeypatch.setattr(
        threads, "each", lambda work, items, each=threads.each: shared.append(len(items)) or each(work, items)
    )
    for part_bytes in (1, 20_000):  # lines of an image; images
        for module in (winograd, lines):
            monkeypatch.setattr(module, "PART_BYTES", part_bytes)
        results = []
        for count in (1, 2, 3):
            shared.clear()
            with threads.set_threads(count):
                y, saved = conv.conv_relu_pool(x, w, b, (1, 1), ((1, 1), (1, 1)), (1, 1), 1, pooled)
                results.append((y, *conv.conv_relu_pool_grad(np.cos(y), saved, (True, True, True))))
            assert shared == ([1, 1] if count == 1 else [4 * count, 4 * count])
            threads.stop()
        one, *others = results
        for other in others:
            np.testing.assert_array_equal(other[0], one[0])
            np.testing.assert_array_equal(other[1], one[1])
            for a, e in zip(other[2:], one[2:], strict=True):
                np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_copy_of_the_process_starts_threads_of_its_own():
    assert threads.each(abs, [-1, -2]) == [1, 2]
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(threads.each(abs, [-1, -2]) != [1, 2])
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")
def test_a_team_has_one_thread_each():
    assert threads.each(abs, [-1, -2]) == [1, 2]
    team = Team(2, [(1, np.float32)], 1)

    def work():
        team.put(threads.count())
        team.get(1)
        team.broadcast()

    try:
        team.start(work)
        assert threads.count() == 1 and not any(t.name.startswith("tinynet") for t in threading.enumerate())
        team.put(threads.count())
        assert team.get(1) == [[1.0], [1.0]]
    finally:
        team.close()
    assert threads.count() == 2


def test_blas_has_one_thread_for_a_while_unless_the_environment_says_how_many(monkeypatch):
    def threads_now():
        return [get() for _, get, _ in threads.blas_libraries()]

    for name in threads.BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = threads_now()
    try:
        for _, _, set_threads in threads.blas_libraries():
            set_threads(2)
        with threads.one_blas_thread() as changed:
            assert set(threads_now()) <= {1} and changed is bool(before)
        assert set(threads_now()) <= {2}
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with threads.one_blas_thread() as changed:
            assert set(threads_now()) <= {2} and changed is False
    finally:
        for (_, _, set_threads), count in zip(threads.blas_libraries(), before, strict=True):
            set_threads(count)
