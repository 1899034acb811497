"""The loader: every sample once, an order that only (seed, epoch) decides, and threads that end."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import DataError, Loader, compose, random_crop, random_flip, random_shift


def batches(loader):
    return [(x.tolist(), y.tolist()) for x, y in loader]


def threads():
    return [t for t in threading.enumerate() if t.name == "tinynet-loader"]


@given(
    n=st.integers(1, 40),
    size=st.integers(1, 12),
    shuffle=st.booleans(),
    drop=st.booleans(),
    prefetch=st.integers(0, 3),
    seed=st.integers(0, 2**64 - 1),
)
def test_each_sample_exactly_once(n, size, shuffle, drop, prefetch, seed):
    if drop and n < size:
        return
    x = np.arange(n)
    loader = Loader(x, 2 * x, batch_size=size, shuffle=shuffle, drop_last=drop, seed=seed, prefetch=prefetch)
    for _ in range(2):
        got = list(loader)
        assert len(got) == len(loader)
        seen = np.concatenate([a for a, _ in got])
        np.testing.assert_array_equal(np.concatenate([b for _, b in got]), 2 * seen)
        assert len(seen) == loader.samples == (n // size * size if drop else n)
        assert len(set(seen.tolist())) == len(seen)
        assert all(len(a) == size for a, _ in got[:-1])
        if not shuffle:
            np.testing.assert_array_equal(seen, x[: len(seen)])
    assert loader.epoch == 2


@given(epoch=st.integers(0, 5), start=st.integers(0, 7), prefetch=st.integers(0, 3))
def test_resume_in_the_middle_equals_the_whole(epoch, start, prefetch):
    def noise(x, rng):
        return x + rng.random(x.shape)

    x, y = np.arange(30.0), np.arange(30)
    whole = Loader(x, y, batch_size=4, seed=3, augment=noise, prefetch=0)
    whole.set_epoch(epoch)
    part = Loader(x, y, batch_size=4, seed=3, augment=noise, prefetch=prefetch)
    assert batches(part.iterate(epoch, start)) == batches(whole)[start:]
    assert part.epoch == 0


def test_epochs_and_seeds_differ_and_repeat():
    x = np.arange(50)
    first = Loader(x, x, seed=1)
    one, two = batches(first), batches(first)
    assert one != two
    again = Loader(x, x, seed=1)
    assert [batches(again), batches(again)] == [one, two]
    assert batches(Loader(x, x, seed=2)) != one
    again.set_epoch(0)
    assert batches(again) == one


def test_batches_are_copies():
    x = np.zeros((4, 2))
    for a, _ in Loader(x, np.arange(4), shuffle=False, prefetch=0):
        a += 1
    assert not x.any()


def test_leaving_midway_stops_the_thread():
    x = np.arange(1000)
    for taken in (0, 1, 5):
        loop = iter(Loader(x, x, batch_size=1, prefetch=2))
        list(itertools.islice(loop, taken))
        del loop
        assert not threads()
    for _ in Loader(x, x, batch_size=1):
        break
    assert not threads()


@pytest.mark.parametrize("prefetch", [1, 2, 3])
def test_so_many_batches_are_prepared_ahead_and_no_more(prefetch):
    prepared = []

    def count(x, rng):
        prepared.append(int(x[0]))
        return x

    x = np.arange(12)
    loop = iter(Loader(x, x, batch_size=1, shuffle=False, augment=count, prefetch=prefetch))
    for number in range(5):
        assert next(loop)[0].tolist() == [number]
        end = time.monotonic() + 10
        while len(prepared) < number + 1 + prefetch and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.02)  # time for one too many
        assert prepared == list(range(number + 1 + prefetch))
    loop.close()
    assert not threads()


def test_nothing_is_left_to_the_garbage_collector():
    def bad(x, rng):
        raise RuntimeError("no")

    x = np.arange(9)
    gc.collect()
    gc.disable()
    try:
        for prefetch in (0, 2):
            before = sys.getrefcount(x)
            loader = Loader(x, x, batch_size=2, prefetch=prefetch)
            list(loader)
            next(iter(loader))
            del loader
            loader = Loader(x, x, augment=bad, prefetch=prefetch)
            with pytest.raises(RuntimeError) as caught:
                list(loader)
            del loader, caught
            loop = iter(
                Loader(
                    x,
                    x,
                    batch_size=2,
                    shuffle=False,
                    prefetch=prefetch,
                    augment=lambda x, rng: bad(x, rng) if 2 in x else x,
                )
            )
            next(loop)
            time.sleep(0.01)  # time for an exception that nobody will read
            loop.close()
            del loop
            assert sys.getrefcount(x) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("prefetch", [0, 1, 2])
def test_an_exception_surfaces_with_its_traceback(prefetch):
    def bad(x, rng):
        if 5 in x:
            raise RuntimeError("number five")
        return x

    x = np.arange(10)
    loop = iter(Loader(x, x, batch_size=2, shuffle=False, augment=bad, prefetch=prefetch))
    assert next(loop)[0].tolist() == [0, 1] and next(loop)[0].tolist() == [2, 3]
    with pytest.raises(RuntimeError, match="number five") as caught:
        next(loop)
    assert "in bad" in "".join(traceback.format_exception(caught.value))
    assert not threads()
    with pytest.raises(StopIteration):
        next(loop)


def test_lists_are_taken():
    ((x, y),) = Loader([[1, 2], [3, 4]], [0, 1], shuffle=False)
    assert x.tolist() == [[1, 2], [3, 4]] and y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 2], [1]), DataError, "same length"),
        ((3, 4), DataError, "same length"),
        (([], []), DataError, "no batch"),
        (([1], [1], "drop"), DataError, "drop_last"),
        (([1], [1], "size"), ValueError, "batch_size"),
        (([1], [1], "seed"), ValueError, "seed"),
        (([1], [1], "ahead"), ValueError, "prefetch"),
    ],
)
def test_bad_arguments(arguments, error, message):
    x, y, *what = arguments
    extra = (
        {"drop": {"drop_last": True}, "size": {"batch_size": 0}, "seed": {"seed": -1}, "ahead": {"prefetch": -1}}.get(
            *what, {}
        )
        if what
        else {}
    )
    with pytest.raises(error, match=message):
        Loader(x, y, **extra)


def test_bad_epochs():
    loader = Loader([1, 2], [1, 2])
    for call in (lambda: loader.set_epoch(-1), lambda: loader.iterate(-1), lambda: loader.iterate(0, 2)):
        with pytest.raises(ValueError, match="epoch"):
            call()


@given(st.integers(0, 2**32), st.integers(0, 4), st.sampled_from([np.float32, np.uint8]))
def test_augments_keep_shape_and_type_and_input(seed, pixels, dtype):
    x = np.random.default_rng(seed).integers(1, 255, (5, 9, 7, 2)).astype(dtype)
    kept = x.copy()
    for augment in (
        random_flip(),
        random_shift(pixels),
        random_crop(pixels),
        compose(random_flip(1), random_shift(pixels)),
    ):
        out = augment(x, np.random.default_rng(seed))
        assert out.shape == x.shape and out.dtype == dtype
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(out, augment(x, np.random.default_rng(seed)))
        assert not np.shares_memory(out, x)


def test_flip_and_shift_do_what_they_say():
    rng = np.random.default_rng(0)
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(random_flip(1)(x, rng), x[:, :, ::-1])
    np.testing.assert_array_equal(random_flip(0)(x, rng), x)
    dot = np.zeros((500, 9, 9, 1))
    dot[:, 4, 4] = 1
    where = np.argwhere(random_shift(2)(dot, rng))[:, 1:3]
    assert len(where) == 500
    assert {tuple(w) for w in where.tolist()} == set(itertools.product(range(2, 7), repeat=2))
    assert random_crop(2)(np.ones((50, 5, 5, 1)), rng).all()


def test_augments_explain_themselves():
    for make in (lambda: random_flip(2), lambda: random_shift(-1), lambda: random_crop(-1)):
        with pytest.raises(ValueError, match="random_"):
            make()
    with pytest.raises(ValueError, match=r"\(N, H, W, C\)"):
        random_flip()(np.zeros((3, 3)), np.random.default_rng(0))
