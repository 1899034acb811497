"""The simulator of CUDA: right kernels compute what they should, and every kind of fault is named."""

import ctypes
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tinynet.backends import BackendError
from tinynet.backends.cuda import simulator, sources
from tinynet.backends.cuda.devicearray import DeviceArray
from tinynet.backends.cuda.simulator import KernelError, SimulatorLauncher, load
from tinynet.backends.cuda.table import TABLE, Entry, per_element

FOLDER = Path(__file__).parent / "faults"
FAULTS = (FOLDER / "faults.cu").read_text()
DECLARED = sources.kernels(FAULTS)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope="session")
def faults():
    return load(FOLDER / "faults.cu")


@pytest.fixture(scope="session", params=[False, True], ids=["fast", "checking"])
def right(request):
    return load(FOLDER / "right.cu", check=request.param, TILE=(8,), Half=("half", "bfloat16"))


# ---- Faults --------------------------------------------------------------------------------------

SHAPES = {
    "same_write_by_two_blocks": (2, 32),
    "reads_what_another_block_writes": (2, 32),
    "shared_from_the_last_block": (2, 32),
    "order_of_float_atomics_right": (1, 32),
}
SAYS = {
    "missing_barrier": r"turn\[63\], which nothing has written yet",
    "missing_second_barrier": r"turn\[\d+\], which thread .* (reads|writes) at line \d+, with no barrier",
    "missing_barrier_raw": r"y\[\d+\], written here last, depends on the order of the threads",
    "divergent_barrier": r"another __syncthreads than thread \(\d+, 0, 0\), which waits at line \d+",
    "barrier_for_some": r"waits in __syncthreads .*for thread \(40, 0, 0\), which has returned",
    "return_before_barrier": r"waits in __syncthreads .*for thread \(50, 0, 0\), which has returned",
    "shuffle_with_absent_lanes": r"waits in __shfl_down_sync .*thread \(16, 0, 0\), which has returned",
    "shuffle_from_outside_its_mask": r"takes the value of lane 16, which is not in mask 0xffff",
    "vote_without_oneself": r"__any_sync with mask 0xfffffffe, which leaves out its own lane 0",
    "reads_past_the_end": r"thread \(63, 0, 0\) .* reads x\[64\], outside of its 64 elements",
    "writes_before_the_start": r"thread \(0, 0, 0\) .* y\[-1\], outside of its 64 elements",
    "outside_of_shared": r"row\[63\], outside of its 63 elements",
    "outside_of_shared_row": r"tile\[0\]\[8\], outside of its 8 x 8 elements",
    "outside_of_dynamic_shared": r"row\[32\], outside of its 32 elements",
    "shared_never_written": r"reads row\[7\], which nothing has written",
    "shared_from_the_last_block": r"block \(1, 0, 0\) reads row\[0\], which nothing has written",
    "output_read_before_written": r"reads y\[0\], which nothing has written.*InOut",
    "sum_without_atomic": r"thread \(1, 0, 0\) .* y\[0\], which thread \(0, 0, 0\) writes at line \d+",
    "same_write_by_two_blocks": r"y\[0\], which thread \(0, 0, 0\) of block \(0, 0, 0\) writes .* not ordered",
    "reads_what_another_block_writes": r"reads y\[0\], which thread .* of block \(0, 0, 0\) writes",
    "plain_write_beside_atomic": r"y\[0\], which thread .* (writes|updates) at line",
    "order_of_float_atomics": r"y\[0\], written here last, depends on the order of the threads",
    "missing_syncwarp": r"turn\[31\], which nothing has written yet",
    "misaligned_vector": r"4 elements at x\[1\] at once, whose address is no multiple of their 16 bytes",
    "waits_for_ever": r"without end",
    "divides_by_zero": r"after this line by signal 8 \(an integer division by zero\)",
    "follows_a_wild_pointer": r"after this line by signal 11",
    "fills_its_stack": r"after this line by signal 11 \(.*a full stack\)",
    "too_much_shared": r"needs 49160 bytes of shared memory",
    "missing_array": r"reads an array that was not given",
}


def call(kernels, name):
    """Launch a kernel of faults.cu on 64 numbers, whatever types it declares."""
    values = {
        "float": np.float32(1) / np.arange(1, 65, dtype=np.float32),  # sums that depend on their order
        "int": np.arange(64, dtype=np.int32),
        "i64": np.full(64, 8 if "right" not in name else 0, np.int64),
    }
    arguments = [
        None if a.name == "bias" else np.zeros(64, values[a.ctype].dtype) if a.name == "y" else values[a.ctype]
        for a in DECLARED[name].arguments
    ]
    grid, block = SHAPES.get(name, SHAPES.get(name.removesuffix("_right"), (1, 64)))
    getattr(kernels, name)(grid, block, *arguments, shared=256 if "dynamic" in name else 0)
    return arguments


def span_of(name):
    """The lines of a kernel of faults.cu, from 0, and the one behind them."""
    lines = FAULTS.splitlines()
    start = next(k for k, line in enumerate(lines) if re.search(rf"void {name}\(", line))
    return start, lines.index("}", start) + 1


def lines_of(name):
    """The numbers of its lines that are marked FAULT, from 1."""
    lines = FAULTS.splitlines()
    return [k + 1 for k in range(*span_of(name)) if "FAULT" in lines[k]]


def test_every_fault_has_a_twin_and_a_sentence():
    names = {name for name in DECLARED if not name.endswith("_right")}
    assert names == set(SAYS)
    assert set(DECLARED) == names | {f"{name}_right" for name in names}


@pytest.mark.parametrize("name", SAYS)
def test_fault_is_named_with_its_line(faults, name):
    if name == "divides_by_zero" and os.uname().machine not in ("x86_64", "AMD64"):
        pytest.skip("an integer division by zero is no trap on this processor")
    with pytest.raises(KernelError) as caught:
        call(faults, name)
    error = caught.value
    assert re.search(SAYS[name], str(error)), error
    assert name in str(error) and "thread" in str(error)
    assert error.file.endswith("faults.cu") and error.line in lines_of(name), error


@pytest.mark.parametrize("name", [f"{name}_right" for name in SAYS])
def test_right_twin_passes(faults, name):
    call(faults, name)


def test_a_launch_after_a_fault_is_sound(faults):
    for _ in range(3):
        for name in ("fills_its_stack", "shuffle_with_absent_lanes", "missing_barrier"):
            with pytest.raises(KernelError):
                call(faults, name)
            x, y = call(faults, "missing_barrier_right")
            np.testing.assert_array_equal(y, x[::-1])


def test_fast_mode_names_who_waits_for_whom():
    names = ("divergent_barrier", "return_before_barrier", "shuffle_with_absent_lanes", "fills_its_stack")
    lines = FAULTS.splitlines()
    text = [lines[k] for name in names for k in range(*span_of(name))] + [l for l in lines if l.startswith("#include")]
    start = FAULTS.index("__device__ float deep")
    kernels = load(FAULTS[start : FAULTS.index("__global__", start)] + "\n".join(text), check=False)
    for name in names:
        with pytest.raises(KernelError, match=name):
            call(kernels, name)


def test_lanes_that_the_block_does_not_have():
    kernel = load("__global__ void k(Out<int> y) {\n  y[threadIdx.x] = __any_sync(ALL_LANES, 1);\n}")
    kernel.k(1, 64, np.zeros(64, np.int32))
    with pytest.raises(KernelError, match=r"kernel.cu:2: .* for lane 16, but its warp ends at lane 15") as caught:
        kernel.k(1, 48, np.zeros(64, np.int32))
    assert caught.value.line == 2


LARGE = {
    "an array": "float a[N]; a[at] = 7; y[0] = a[at * 2 % N];",
    "an array of a function": "y[0] = deep<N>(at);",
    "after a barrier": "__syncthreads(); float a[N]; a[at] = 7; __syncthreads(); y[0] = a[at * 2 % N];",
    "a length known at the launch": "float* a = (float*)__builtin_alloca(n * 4); a[at] = 7; y[0] = a[at * 2 % n];",
}


@pytest.mark.parametrize("switch", ["", "#define SIMULATOR_UCONTEXT\n"], ids=["own switch", "ucontext"])
@pytest.mark.parametrize("check", [True, False], ids=["checking", "fast"])
def test_large_local_arrays_stay_in_their_stack(check, switch):
    """CUDA allows 512 kB a thread; a frame must not jump over the closed page below a stack."""
    text = (
        switch
        + '#include "tinynet.cuh"\n#line 1 "kernel.cu"\n'
        + ("template <int N> __device__ NOINLINE float deep(int at) { float a[N]; a[at] = 7; return a[at * 2 % N]; }\n")
        + "\n".join(
            f"template <int N> __global__ void k{k}(Out<float> y, int at, int n) {{ {body} }}"
            for k, body in enumerate(LARGE.values())
        )
    )
    kernels = load(text, check=check, N=("1000", *map(str, (20_000, 131_072, 20_000_000))))
    y = np.zeros(2, np.float32)
    for k in range(len(LARGE)):
        getattr(kernels, f"k{k}")(1, 1, y, 5, 1000, N=1000)  # makes the stacks
    around = [np.zeros(1 << 20, np.uint8) for _ in range(64)]  # new mappings lie below them
    for n in (20_000, 131_072, 20_000_000):
        for k in range(len(LARGE)):
            for threads in (1, 2):
                with pytest.raises(KernelError, match=rf"k{k}.*a full stack"):
                    getattr(kernels, f"k{k}")(1, threads, y, 5, n, N=n)
    assert not any(a.any() for a in around)
    kernels.k0(1, 1, y, 5, 1000, N=1000)


# ---- Right kernels -------------------------------------------------------------------------------


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5 if actual.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (5, 33), (2, 1000)])
def test_row_sum(right, rng, shape, dtype):
    x, y = rng.random(shape).astype(dtype), np.empty(shape[0], dtype)
    right.row_sum(shape[0], 128, x, y, *shape)
    close(y, x.sum(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiled_gemm(right, rng, dtype):
    m, n, k = 19, 33, 21
    a, b, c = rng.random((m, k)).astype(dtype), rng.random((k, n)).astype(dtype), np.empty((m, n), dtype)
    right.gemm((5, 3), (8, 8), a, b, c, m, n, k, TILE=8)
    close(c, a @ b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_im2col(right, rng, dtype):
    x, patches = rng.random((6, 7, 3)).astype(dtype), np.empty((4, 5, 3, 3, 3), dtype)
    right.im2col(2, 64, x, patches, x.shape)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
    np.testing.assert_array_equal(patches, windows.transpose(0, 1, 3, 4, 2))


def test_scalars_become_the_declared_type(right):
    for dtype in (np.float32, np.float64):
        x, y = np.arange(300, dtype=dtype), np.empty(300, dtype)
        right.scale(2, 64, x, y, 0.1, np.int32(300))
        np.testing.assert_array_equal(y, dtype(0.1) * x)


def test_dynamic_shared_memory_and_vectors(right, rng):
    x, y = rng.random((3, 64)).astype(np.float32), np.empty((3, 64), np.float32)
    right.reverse(3, 16, x, y, shared=64 * 4)
    np.testing.assert_array_equal(y, x[:, ::-1])


def test_atomics(right, rng):
    x = rng.integers(0, 10, 1000, dtype=np.int32)
    bins, largest = np.zeros(10, np.int32), np.zeros(1, np.int32)
    right.histogram(4, 64, x, bins, largest, 1000)
    np.testing.assert_array_equal(bins, np.bincount(x, minlength=10))
    assert largest[0] == x.max()


def test_votes(right):
    x = np.zeros(96, np.int32)
    x[:32], x[[33, 63]] = 1, 5
    ballots, some, every = np.zeros(3, np.uint32), np.zeros(3, np.int32), np.zeros(3, np.int32)
    right.votes(1, 96, x, ballots, some, every)
    assert ballots.tolist() == [2**32 - 1, 2 + 2**31, 0]
    assert some.tolist() == [1, 1, 0] and every.tolist() == [1, 0, 0]


@pytest.mark.parametrize("width", [8, 32])
def test_shuffles(right, width):
    lane = np.arange(32)
    first = lane - lane % width
    results = [np.zeros(32, np.int32) for _ in range(4)]
    right.shuffles(1, 32, *results, width)
    up, down = lane - 5, lane + 5
    expected = [first + 3, np.where(up < first, lane, up), np.where(down >= first + width, lane, down), lane ^ 1]
    np.testing.assert_array_equal(results, expected)


def test_high_halves_of_products(right, rng):
    x, a = rng.integers(0, 2**64, 64, np.uint64), rng.integers(-(2**31), 2**31, 64, np.int32)
    y, b = np.empty_like(x), np.empty_like(a)
    right.high_products(1, 64, x, y, a, b)
    assert y.tolist() == [int(v) * 0xD2E7470EE14C6C93 >> 64 for v in x]
    assert b.tolist() == [int(v) * -123456789 >> 32 for v in a]


def test_half_rounds_as_numpy_does(right):
    x = np.array([0, -1, 1 / 3, 6e-8, 1e-7, 65504, 21840, 21839, 1e-5, -2.5e-5, np.inf], np.float16)
    y = np.empty(11, np.float32)
    right.through(1, 11, x, y)
    with np.errstate(over="ignore"):
        expected = (x.astype(np.float32) * 3).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(y, expected)


def test_bfloat16_is_the_upper_half_of_a_float(right):
    x = np.array([1, 1 / 3, -2.7, 1e30], np.float32)
    y = np.empty(4, np.float32)
    right.through(1, 4, (x.view(np.uint32) >> 16).astype(np.uint16), y, Half="bfloat16")
    np.testing.assert_allclose(y, 3 * x, rtol=2**-6)
    assert not (y.view(np.uint32) & 0xFFFF).any()


def test_three_dimensions(right):
    y = np.empty(2 * 3 * 4 * 30, np.int32)
    right.where_am_i((2, 3, 4), (5, 3, 2), y)
    np.testing.assert_array_equal(y, (np.arange(24)[:, None] * 1000 + np.arange(30)).ravel())


def test_one_array_as_input_and_output(right):
    x = np.arange(100, dtype=np.float64)
    right.scale(2, 32, x, x, 2.0, 100)
    np.testing.assert_array_equal(x, np.arange(100) * 2.0)


def test_overlapping_arrays_share_their_records(right):
    x = np.arange(101, dtype=np.float32)
    if right._launcher.check:
        with pytest.raises(KernelError, match=r"writes y\[\d+\], which thread .* reads|reads x\[\d+\], which"):
            right.scale(1, 100, x[:100], x[1:], 2.0, 100)


# ---- Compiling -----------------------------------------------------------------------------------


def test_a_mistake_points_into_the_source():
    with pytest.raises(KernelError, match="does not compile") as caught:
        load("// one line of comment\n__global__ void k(Out<int> y) { y[0] = nothing; }").k(1, 1, np.zeros(1, np.int32))
    assert (caught.value.file, caught.value.line) == ("kernel.cu", 2)


def test_the_cache_is_used_and_compiling_twice_at_once_is_safe(tmp_path):
    program = (
        "import numpy as np; from tinynet.backends.cuda.simulator import load; y = np.zeros(1, np.int32);"
        "load('__global__ void k(Out<int> y) { y[0] = 7; }').k(1, 1, y); print(y[0])"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(FOLDER.parents[1])}
    both = [subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [p.communicate()[0].strip() for p in both] == [b"7", b"7"]
    (library,) = (tmp_path / "tinynet" / "simulator").iterdir()
    assert library.suffix == ".so"
    env["PATH"] = os.path.dirname(simulator.compiler())
    made = library.stat().st_mtime_ns
    assert subprocess.run([sys.executable, "-c", program], env=env, capture_output=True).stdout.strip() == b"7"
    assert library.stat().st_mtime_ns == made


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    y = np.zeros(1, np.int32)
    load("__global__ void k(Out<int> y) { y[0] = 8; }").k(1, 1, y)
    assert y[0] == 8


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match=r"needs a C\+\+ compiler.*no-such-compiler.*install"):
        SimulatorLauncher()


def test_the_portable_stack_switch():
    """Where there is no assembly for the processor; compiled for every one, so it can be tested on any."""
    text = '#define SIMULATOR_UCONTEXT\n#include "tinynet.cuh"\n#line 3 "kernel.cu"\n' + (
        "__global__ void k(In<float> x, Out<float> y) { SHARED(float, turn, 64);\n"
        "  turn[threadIdx.x] = x[threadIdx.x]; __syncthreads(); y[threadIdx.x] = turn[63 - threadIdx.x]; }"
    )
    x, y = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    load(text).k(1, 64, x, y)
    np.testing.assert_array_equal(y, x[::-1])


# ---- Arguments -----------------------------------------------------------------------------------


@pytest.fixture
def launcher():
    return SimulatorLauncher(check=True)


def test_launch_deduces_shape_and_types(launcher, rng):
    for dtype in (np.float32, np.float64):
        for shape in ((1, 1), (7, 33), (40, 300), (3, 0)):
            x = rng.random(shape).astype(dtype)
            for name in ("row_sum_naive", "row_sum_warp", "row_sum"):
                y = launcher.empty(shape[0], dtype)
                launcher.launch(name, launcher.asarray(x), y, *shape)
                close(launcher.asnumpy(y), x.sum(1))


def test_nothing_to_do_launches_nothing(launcher):
    launcher.launch("row_sum", launcher.empty((0, 5), np.float32), launcher.empty(0, np.float32), 0, 5)


def test_wrong_arguments(launcher):
    x, y = launcher.zeros((4, 8), np.float32), launcher.zeros(4, np.float32)
    for arguments, error, says in [
        ((x, y, 4), TypeError, r"row_sum takes 4 arguments \(x, y, rows, columns\); got 3"),
        ((x, np.zeros(4, np.float32), 4, 8), TypeError, "y must be an array of the simulator backend"),
        ((x, launcher.zeros(4, np.float64), 4, 8), TypeError, "y must be float32, not float64"),
        ((x.T, y, 4, 8), ValueError, "x must be C-contiguous"),
        ((x, y, 4.5, 8), TypeError, "float"),
        ((x, y, 2**70, 8), OverflowError, None),
        ((launcher.zeros(4, np.complex64), y, 4, 8), TypeError, "x is complex64"),
    ]:
        with pytest.raises(error, match=says):
            launcher.launch("row_sum", *arguments, grid=1, block=32)
    with pytest.raises(ValueError, match="a block has 1 to 1024 threads"):
        launcher.launch("row_sum", x, y, 4, 8, grid=1, block=2048)
    with pytest.raises(ValueError, match="a grid has at most"):
        launcher.launch("row_sum", x, y, 4, 8, grid=(1, 70000), block=32)
    with pytest.raises(ValueError, match="shared memory"):
        launcher.launch("row_sum", x, y, 4, 8, grid=1, block=32, shared=10**6)
    with pytest.raises(KeyError, match="no kernel 'row_summ'; there are"):
        launcher.launch("row_summ")
    with pytest.raises(TypeError, match="no template parameter Op"):
        launcher.launch("row_sum", x, y, 4, 8, Op="Add")


def test_launch_bounds_are_kept(right):
    with pytest.raises(ValueError, match="a block has 1 to 128 threads"):
        right.where_am_i(1, 256, np.zeros(256, np.int32))


def test_optional_arrays_and_integers_by_value():
    text = """
    template <typename T, bool SQUARE>
    __global__ void k(In<T> x, In<T> bias, Out<Acc<T>> y, Ints<4> shape, bool negate) {
        for (i64 i = thread_index(); i < shape[0] * shape[1]; i += thread_count()) {
            Acc<T> v = x[i];
            if (bias) v += Acc<T>(bias[i % shape[1]]);
            if (SQUARE) v *= v;
            y[i] = negate ? -v : v;
        }
        if (thread_index() == 0) y[shape[0] * shape[1]] = shape[3];
    }"""
    table = {"k.cu": {"k": Entry(lambda v: (1, 32, 0), {"SQUARE": ("true", "false")})}}
    launcher = SimulatorLauncher(table, {"k.cu": text}, check=True)
    x, bias = np.arange(6, dtype=np.float64).reshape(2, 3), np.array([10.0, 20, 30])
    for with_bias, square, negate in [(True, False, True), (False, True, False)]:
        y = launcher.empty(7, np.float64)
        b = launcher.asarray(bias) if with_bias else None
        launcher.launch("k", launcher.asarray(x), b, y, (2, 3), negate, SQUARE=square)
        expected = (x + bias * with_bias) ** (1 + square) * (1 - 2 * negate)
        np.testing.assert_array_equal(launcher.asnumpy(y), [*expected.ravel(), 0])
    with pytest.raises(ValueError, match="shape takes at most 4 integers; got 5"):
        launcher.launch("k", launcher.asarray(x), None, y, (1, 2, 3, 4, 5), False, SQUARE=True)
    with pytest.raises(TypeError, match="no array tells template parameter SQUARE"):
        launcher.launch("k", launcher.asarray(x), None, y, (2, 3), False)
    assert per_element("n")({"n": 257}) == (2, 256, 0)


def test_the_table_lists_the_kernels_of_the_files():
    for file, entries in TABLE.items():
        assert set(entries) == set(sources.kernels(sources.read(file))), file
    assert set(TABLE) == {f.name for f in sources.folder().iterdir() if f.name.endswith(".cu")}
    names = [name for entries in TABLE.values() for name in entries]
    assert len(names) == len(set(names))


# ---- Arrays --------------------------------------------------------------------------------------


def test_device_arrays_refuse_to_compute(launcher):
    x = launcher.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    y = launcher.empty((3, 4), np.float32)
    for what in [
        lambda: x + y,
        lambda: -x,
        lambda: x * 2,
        lambda: x == y,
        lambda: x.sum(),
        lambda: x.max(),
        lambda: x @ y.T,
        lambda: np.add(x, 1, out=y),
        lambda: np.sum(x),
        lambda: np.concatenate([x, y]),
        lambda: x.copy(),
        lambda: x.astype(np.float64),
        lambda: x.fill(0),
        lambda: x.item(0),
        lambda: float(x[0, 0]),
        lambda: np.exp(x),
        lambda: bool(x[0, 0]),
        lambda: x.tolist(),
        lambda: x[[0, 1]],
        lambda: x[x > 1],
        lambda: x[np.array([0])],
        lambda: x.T.reshape(12),
        lambda: x.T.ravel(),
        lambda: x.argmax(),
        lambda: x.take([0]),
        lambda: x.__setitem__(0, 1),
        lambda: list(x),
        lambda: x.dot(y.T),
        lambda: 1 in x,
        lambda: x.__iadd__(1),
        lambda: np.zeros((3, 4)) + x,
    ]:
        with pytest.raises(TypeError, match="on a simulator array"):
            what()


def test_device_arrays_have_views(launcher):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    x = launcher.asarray(host)
    for f in [
        lambda a: a.reshape(2, 6),
        lambda a: a.reshape((4, -1)),
        lambda a: a.T,
        lambda a: a[1:, ::2],
        lambda a: a[0],
        lambda a: a[1, 2, ...],
        lambda a: a[None],
        lambda a: np.broadcast_to(a, (2, 3, 4)),
        lambda a: a.ravel(),
        lambda a: np.transpose(a, (1, 0)),
        lambda a: np.moveaxis(a, 0, 1),
        lambda a: a.swapaxes(0, 1),
    ]:
        view = f(x)
        assert isinstance(view, DeviceArray) and np.shares_memory(view, x)
        np.testing.assert_array_equal(launcher.asnumpy(view), f(host))
    assert isinstance(x[1, 2], DeviceArray) and x[1, 2].shape == ()
    assert "DeviceArray" in repr(x)


def test_copies_go_through_the_launcher(launcher):
    host = np.arange(4, dtype=np.float64)
    x = launcher.asarray(host)
    assert not np.shares_memory(x, host) and launcher.asarray(x) is x
    y = launcher.empty(4, np.float64)
    assert np.isnan(launcher.asnumpy(y)).all()
    launcher.copyto(y, x)
    launcher.copyto(x, host[::-1].copy())
    assert launcher.asnumpy(y).tolist() == [0, 1, 2, 3] and launcher.asnumpy(x).tolist() == [3, 2, 1, 0]
    with pytest.raises(ValueError, match="does not fit"):
        launcher.copyto(y, launcher.zeros(5, np.float64))
    with pytest.raises(ValueError, match="C-contiguous"):
        launcher.copyto(y, host[::-1])


def test_one_module_serves_python_threads(right):
    from concurrent.futures import ThreadPoolExecutor

    def work(k):
        x, y = np.full(500, k, np.float32), np.empty(500, np.float32)
        for _ in range(20):
            right.scale(2, 64, x, y, 2.0, 500)
            assert (y == 2 * k).all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))


def test_sources_are_found_without_an_installed_package():
    assert (sources.folder() / "tinynet.cuh").is_file()
    assert ctypes.sizeof(ctypes.c_void_p) == 8  # slots of arguments hold a pointer and a 64-bit count


def test_the_first_kernel_of_the_readme():
    """Its code runs as it stands, with the message and the cure that the text gives."""
    readme = (FOLDER.parents[1] / "kernels" / "README.md").read_text()
    code = textwrap.dedent(re.search(r"    import numpy as np\n.*?\n\n(?=It needs)", readme, re.DOTALL)[0])
    code = code.replace("from tinynet.kernels import", "from tinynet.backends.cuda.simulator import")
    with pytest.raises(KernelError) as caught:
        exec(code, {})
    message = " ".join(re.search(r"    (kernel\.cu:.*?)\n\n", readme, re.DOTALL)[1].split())
    assert str(caught.value) == message
    cured = code.replace("    if (threadIdx.x < n) y", "    __syncthreads();\n    if (threadIdx.x < n) y")
    names: dict = {}
    exec(cured, names)
    np.testing.assert_array_equal(names["y"], names["x"][::-1])
