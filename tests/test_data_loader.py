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


# ---- other sources ----------------------------------------------------------------------------------------------


class Squares:
    """An indexable dataset of one's own."""

    def __init__(self, n=10):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return np.full(3, i, np.float32), i * i


@pytest.mark.parametrize("prefetch", [0, 2])
def test_structures_of_arrays_are_taken_apart_alike(prefetch):
    x = {"image": np.arange(20).reshape(10, 2), "mask": (np.arange(10), np.arange(10) * 3)}
    for batch, (a, b) in Loader(x, (np.arange(10), np.arange(10) * 2), batch_size=4, prefetch=prefetch):
        assert (batch["image"][:, 0] == 2 * a).all() and (batch["mask"][1] == 3 * a).all() and (b == 2 * a).all()
        assert isinstance(batch["mask"], tuple)
    assert [y for _, y in Loader(np.arange(10), batch_size=4, prefetch=prefetch)] == [None] * 3


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_indexable_dataset_is_as_its_arrays(prefetch):
    whole = [np.stack([Squares()[i][0] for i in range(10)]), np.arange(10) ** 2]
    options = {"batch_size": 4, "seed": 3, "prefetch": prefetch}
    made, plain = Loader(Squares(), **options), Loader(*whole, **options)
    assert len(made) == 3 and made.samples == 10 and batches(made) == batches(plain)
    assert batches(made.iterate(4, 1)) == batches(plain.iterate(4, 1))
    pairs = Loader([({"a": 1.0, "b": [2, 3]}, 0), ({"a": 4.0, "b": [5, 6]}, 1)], shuffle=False, prefetch=prefetch)
    ((x, y),) = pairs
    assert x["a"].tolist() == [1, 4] and x["b"].tolist() == [[2, 3], [5, 6]] and y.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"sample 1 has shape \(2,\), sample 0 \(1,\)"):
        list(Loader([([1], 0), ([1, 2], 0)], shuffle=False, prefetch=prefetch))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_iterable_makes_its_own_batches(prefetch):
    epochs = []

    class Batches:
        def set_epoch(self, epoch):
            epochs.append(epoch)

        def __iter__(self):
            return iter([([[1.0], [2.0]], [0, 1]), ([[3.0]], [1])])

    loader = Loader(Batches(), prefetch=prefetch)
    for _ in range(2):
        assert batches(loader) == [([[1.0], [2.0]], [0, 1]), ([[3.0]], [1])]
    assert batches(loader.iterate(5, 1)) == [([[3.0]], [1])]
    assert epochs == [0, 1, 5] and loader.samples is None
    assert [a.tolist() for a in loader.sample()] == [[[1.0]], [0]]
    with pytest.raises(TypeError, match="has no len"):
        len(loader)
    once = Loader((batch for batch in Batches()), prefetch=prefetch)
    assert once.sample()[1].tolist() == [0] and len(batches(once)) == 2  # a look at it takes nothing away
    with pytest.raises(DataError, match=r"gave no batch in epoch 2; .* pass the function that makes it"):
        batches(once)
    made = Loader(lambda: (batch for batch in Batches()), prefetch=prefetch)
    assert batches(made) == batches(made) != []


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (3, None, "same length"),
        (object(), None, "cannot go through a object"),
        ({"a": [1, 2], "b": [1]}, None, "same length"),
        ([1, 2], {"a": [1]}, "same length"),
        (None, [1], "same length"),
    ],
)
def test_what_is_no_source_is_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        Loader(x, y)


@pytest.mark.parametrize("batch", [3, (1, 2, 3), ([1, 2], [1])])
def test_what_is_no_batch_is_refused(batch):
    with pytest.raises(DataError, match=r"Loader: a batch"):
        list(Loader(iter([batch])))


def test_a_loader_shows_what_it_goes_through():
    x = np.zeros((60, 28, 28, 1), np.float32)
    shown = repr(Loader(x, np.zeros(60, int), batch_size=32))
    assert shown == "Loader(60 samples, x float32 (28, 28, 1), y int64 (), batch_size=32, shuffle=True, seed=0)"
    assert "{a: int64 ()}, y None" in repr(Loader({"a": np.arange(3)}))
    assert "10 samples of a Squares" in repr(Loader(Squares(), drop_last=True, batch_size=2, augment=random_flip()))
    assert "batches of <list_iterator" in repr(Loader(iter([])))
