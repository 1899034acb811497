"""The stand-in for CuPy itself: it refuses what CUDA refuses, above all in the capture of graphs, and a captured step
is the step."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tests import cuda_calls, cuda_parity, fake_cupy, test_cuda_backend
from tests.fake_cuda import SCHEDULES, CUDADriverError, CUDARuntimeError
from tests.test_cuda_networks import images
from tests.test_cupy_launcher import backend, every_schedule
from tinynet import nn, ops, optim
from tinynet.backends.cuda import sources
from tinynet.backends.cuda.table import TABLE

pytestmark = pytest.mark.skipif(tn.backends.why_not("simulator") is not None, reason="needs the simulator")
cuda = fake_cupy.cuda


def pinned(shape, dtype=np.float32):
    memory = cuda.alloc_pinned_memory(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)


def test_names_that_were_not_asked_for():
    with backend() as (be, _):
        module = fake_cupy.RawModule(code="", options=("--std=c++17",), name_expressions=("fill<u8>",))
        for name in ("fill", "fill<int>", "random_bits"):
            with pytest.raises(CUDADriverError, match="CUDA_ERROR_NOT_FOUND"):
                module.get_function(name)
        assert be.launcher.cupy is fake_cupy


def test_arguments_of_another_size_are_refused():
    with backend() as (be, _):
        code = sources.cuda_text(sources.read("shape.cu"), "kernels/shape.cu")
        names = ("fold_edges<float>",)
        kernel = fake_cupy.RawModule(code=code, options=("--std=c++17",), name_expressions=names).get_function(names[0])
        x, y, n = be.asarray(np.ones(4, np.float32)), be.empty((2,), np.float32), np.int64
        kernel((1, 1, 1), (32, 1, 1), (x, y, n(2), n(1), n(1), n(1), n(2)))
        assert be.numpy(y).tolist() == [2, 2]
        for wrong in (np.int32(2), np.float32(2), True):
            with pytest.raises(AssertionError, match=r"length has 8 bytes, was given \d"):
                kernel((1, 1, 1), (32, 1, 1), (x, y, wrong, n(1), n(1), n(1), n(2)))
        with pytest.raises(AssertionError, match="takes 7 arguments, was given 6"):
            kernel((1, 1, 1), (32, 1, 1), (x, y, n(2), n(1), n(1), n(1)))
        with pytest.raises(CUDADriverError, match="INVALID_VALUE"):
            kernel((1, 1, 1), (32, 1, 1), (x, y, n(2), n(1), n(1), n(1), n(2)), shared_mem=1 << 16)


def test_launches_of_the_table_are_all_packed_right():
    """No kernel of the table stays unlaunched on the stand-in (`test_kernel` calls those that the contract uses)."""
    launched = set()
    with backend() as (be, _):
        real = be.launch
        be.launch = lambda name, *a, **k: (launched.add(name), real(name, *a, **k))
        for name in cuda_calls.CALLS:
            cuda_calls.each(name, 4, lambda call, name=name: cuda_parity.run(be, name, call))
        for kernel in ("row_sum", *sorted(test_cuda_backend.LADDER)):
            for test in test_cuda_backend.ladders(be, kernel):
                test()
        be.softmax_cross_entropy(be.asarray(np.ones((2, 3), np.float32)), np.array([0, 2]), 0.5)
    unused = {kernel for entries in TABLE.values() for kernel in entries} - launched
    assert not unused


# ---- graphs -------------------------------------------------------------------------------------------------------


@every_schedule
def test_a_graph_runs_what_was_captured_each_time_it_is_launched(schedule):
    with backend(schedule) as (be, device):
        x, y, stream = be.asarray(np.ones(5, np.float32)), be.empty((5,), np.float32), cuda.Stream(non_blocking=True)
        be.add(x, x, out=y)  # what is compiled later would be a module loaded in the capture
        be.launcher.synchronize()
        with stream:
            stream.begin_capture()
            assert stream.is_capturing() and not device.streams[0].is_capturing()
            be.add(x, y, out=y)
            graph = stream.end_capture()
        assert be.numpy(y).tolist() == [2] * 5, "nothing ran while it was captured"
        for k in (1, 2, 3):
            graph.launch(stream)
            if k == 2:
                graph.launch()
                device.streams[0].synchronize()
            stream.synchronize()
            assert be.numpy(y).tolist() == [2 + k + (k > 1)] * 5


def refusals():
    """What cannot be captured: the operation, on (backend, stream, an array, a pinned array, an event)."""
    yield "new memory", lambda be, s, x, p, e: be.empty((10_000,), np.float32)
    yield "a free device to itself", lambda be, s, x, p, e: be.launcher.cupy.get_default_memory_pool().free_all_blocks()
    yield "pinned memory", lambda be, s, x, p, e: cuda.alloc_pinned_memory(1 << 20)
    yield "a copy from pageable memory", lambda be, s, x, p, e: be.launcher.copyto(x, np.ones((2, 3), np.float32))
    yield "a new array of the host's", lambda be, s, x, p, e: be.asarray(np.ones((2, 3), np.float32))
    yield "reading", lambda be, s, x, p, e: be.numpy(x)
    yield "reading into pinned memory", lambda be, s, x, p, e: be.launcher.copyto(p, x)
    yield (
        "reading without waiting into pageable memory",
        lambda be, s, x, p, e: x.get(s, out=np.empty((2, 3), np.float32), blocking=False),
    )
    yield "waiting for the stream", lambda be, s, x, p, e: be.launcher.synchronize()
    yield "waiting for the device", lambda be, s, x, p, e: cuda.Device().synchronize()
    yield "waiting for an event", lambda be, s, x, p, e: s.record().synchronize()
    yield "asking an event", lambda be, s, x, p, e: s.record().done
    yield "an event from before", lambda be, s, x, p, e: s.wait_event(e)
    yield "loading a module", lambda be, s, x, p, e: be.tanh(x, out=x)
    yield "another capture", lambda be, s, x, p, e: s.begin_capture()
    yield "batches ahead", lambda be, s, x, p, e: list(be.ahead([(np.ones((2, 3), np.float32), 0)]))


@pytest.mark.parametrize(("what", "operation"), list(refusals()), ids=[what for what, _ in refusals()])
def test_what_cannot_be_captured(what, operation):
    """Is refused, and spoils the capture; the stream works again afterwards."""
    with backend("lazy") as (be, _):
        x, p, stream = be.asarray(np.ones((2, 3), np.float32)), pinned((2, 3)), cuda.Stream(non_blocking=True)
        be.negative(x)
        be.launcher.synchronize()
        before = stream.record()
        with stream:
            stream.begin_capture()
            with pytest.raises(CUDARuntimeError, match=r"cudaErrorStreamCapture(Unsupported|Isolation)"):
                operation(be, stream, x, p, before)
            if what != "another capture":
                with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
                    stream.end_capture()
                stream.begin_capture()
            be.negative(x, out=x)
            stream.end_capture().launch()
            assert be.numpy(x).tolist() == [[-1] * 3] * 2


def test_the_null_stream_cannot_be_captured():
    with backend() as (_, device):
        with pytest.raises(CUDARuntimeError, match="the null stream"):
            device.streams[0].begin_capture()
        with pytest.raises(CUDARuntimeError, match="not captured"):
            cuda.Stream(non_blocking=True).end_capture()


@every_schedule
def test_what_can_be_captured(schedule):
    """Copies from and to pinned memory, read anew at each launch; free memory; a second stream that returns."""
    with backend(schedule) as (be, _):
        host, back = pinned((2, 3)), pinned((2, 3))
        x, stream, other = be.empty((2, 3), np.float32), cuda.Stream(non_blocking=True), cuda.Stream(non_blocking=True)
        with stream:
            for _ in range(2):  # the second time is captured: by then there is memory, and all is compiled
                fork = stream.record()
                if _:
                    stream.begin_capture()
                    fork = stream.record()
                other.wait_event(fork)
                x.set(host, stream=other)
                stream.wait_event(other.record())
                be.negative(x).get(stream, out=back, blocking=False)
                if not _:
                    stream.synchronize()
            graph = stream.end_capture()
        for value in (3, 4):
            host[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert (back == -value).all()


def test_a_stream_that_is_left_behind():
    with backend() as (be, _):
        x, stream, other = be.empty((2,), np.float32), cuda.Stream(non_blocking=True), cuda.Stream(non_blocking=True)
        stream.begin_capture()
        other.wait_event(stream.record())
        x.data.memset_async(0, 8, other)
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnjoined"):
            stream.end_capture()
        assert not other.is_capturing()


def test_memory_that_a_capture_let_go_is_used_by_others():
    """A launch writes to addresses, whoever has them now (cupy#9655): a graph must keep the memory that it uses."""
    with backend("eager") as (be, _):
        x, stream = be.asarray(np.ones(4, np.float32)), cuda.Stream(non_blocking=True)
        with stream:
            be.negative(x)  # its result is let go: free memory of this stream
            stream.begin_capture()
            be.negative(x)
            graph = stream.end_capture()
            other = be.full((4,), 7.0, np.float32)
            graph.launch()
            assert be.numpy(other).tolist() == [-1] * 4


# ---- a step ------------------------------------------------------------------------------------------------------


def network():
    return nn.Sequential(
        nn.Conv2d(4, 3, activation="relu"),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dense(8, activation="relu"),
        nn.Dense(4),
        input_shape=(8, 8, 1),
    )


def steps(be, replay, count=6):
    """The losses of a few steps; with `replay` the third is captured, and it and all later ones are launches of it."""
    x, y = images(12, 8, 8, 1)
    x, y = x.astype(np.float32), y.astype(np.int64)
    tn.seed(0)
    with tn.use(be):
        model = network().train()
        rule = optim.Adam(model.parameters(), 0.01)
        images_in, labels_in = tn.tensor(x[:4]), tn.tensor(y[:4])

        def step():
            loss = ops.softmax_cross_entropy(model(images_in), labels_in)
            rule.zero_grad()
            loss.backward()
            rule.step()
            return loss

        graph, seen = None, []
        for k in range(count):
            part = slice(k % 3 * 4, k % 3 * 4 + 4)
            be.copyto(images_in.data, x[part])
            be.copyto(labels_in.data, y[part])
            if replay and k == 2:
                stream = cuda.get_current_stream()
                stream.begin_capture()
                loss = step()
                graph = stream.end_capture()
            if graph:
                graph.launch()
            else:
                loss = step()
            seen.append(loss.item())
        return seen


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_captured_step_trains_as_the_step(schedule):
    """To the bits, with what a step allocates, reads and copies today."""
    with backend(schedule) as (be, _), cuda.Stream(non_blocking=True):
        expected = steps(tn.backends.get("simulator"), False)
        assert steps(be, False) == expected
        assert steps(be, True) == expected
