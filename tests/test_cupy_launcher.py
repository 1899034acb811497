"""The real `cupy_launcher.py` without a GPU: on the stand-in for CuPy, whose device is late in five ways.

`python -m tests.mutate_launcher` breaks the launcher and shows that these tests notice.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet as tn
from tests import cuda_calls, cuda_parity, fake_cupy
from tests.fake_cuda import SCHEDULES, CUDARuntimeError
from tinynet import folders
from tinynet.backends import BackendError
from tinynet.backends.cuda import Cuda, cupy_launcher
from tinynet.backends.cuda.launcher import KernelError
from tinynet.backends.cuda.table import Entry
from tinynet.parallel import start

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
SHAPES = [(8, 5), (8, 5), (3, 5), (9, 5), (9, 5), (8, 5), (8, 5), (2, 5)]


@pytest.fixture(autouse=True, scope="module")
def needs_the_simulator():
    """Its compiled libraries run the stand-in's kernels. In CI they must."""
    reason = tn.backends.why_not("simulator")
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run the simulator: {reason}")
    if reason:
        pytest.skip(reason)
    fake_cupy.simulator().prepare()


@contextlib.contextmanager
def backend(schedule="eager", module=cupy_launcher, **options):
    """(the backend on a new stand-in device, the device)."""
    with fake_cupy.installed(schedule, **options) as device:
        yield Cuda("cupy", module.CupyLauncher()), device


def pictures(k):
    return np.random.default_rng(k).standard_normal(SHAPES[k % len(SHAPES)]).astype(np.float32)


# ---- training ----------------------------------------------------------------------------------------------------


def trained(be):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((56, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 56)
    tn.seed(0)
    with tn.use(be):
        model = tn.models.mnist_small()
        rows = tn.fit(model, (x, y), epochs=2, batch_size=16, validation=(x[:20], y[:20]), verbose=False)
        return [(r["loss"], r["val_loss"]) for r in rows], [p.numpy() for p in model.parameters()]


@pytest.fixture(scope="module")
def expected():
    return trained("simulator")


@every_schedule
def test_fit_to_the_simulators_bits(schedule, expected):
    with backend(schedule) as (be, device):
        losses, weights = trained(be)
        assert losses == expected[0]
        assert all((a == b).all() for a, b in zip(weights, expected[1], strict=True))
        assert len(device.streams) == 2, "each epoch, and each evaluation, uses the same stream for its copies"
        del weights
        gc.collect()
        assert device.used <= 512, "more stays behind than the 1 that backward starts from"


# ---- every kernel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cuda_calls.CALLS)
def test_kernel(name, module=cupy_launcher):
    """Each kernel of the contract, with CuPy's packing of its arguments and its rules for names."""
    with backend("random", module) as (be, _):
        cuda_calls.each(name, 3, lambda call: cuda_parity.check(be, name, call))


def test_half_types(module=cupy_launcher):
    with backend("lazy", module) as (be, _):
        for size in (1, 33, 300):
            y = be.empty((2,), np.float16)
            be.launch("row_sum", be.asarray(np.ones((2, size), np.float16)), y, 2, size)
            assert be.numpy(y).tolist() == [size, size]


# ---- copies that run ahead ---------------------------------------------------------------------------------------


def test_large_batches_are_copied_by_a_thread(monkeypatch, module=cupy_launcher):
    """While the step before is queued. The next batch is drawn when that is done, so its array may be used again."""
    monkeypatch.setattr(module, "LARGE", 0)
    threads, copyto, array = set(), np.copyto, np.empty((2, 3), np.float32)

    def late(to, source):
        threads.add(threading.current_thread().name)
        time.sleep(0.02)
        copyto(to, source)

    def drawn():
        for k in range(5):
            array[:] = k
            yield array, k

    with backend("eager", module) as (be, _):
        monkeypatch.setattr(np, "copyto", late)
        seen = [(k, be.negative(x)) for x, k in be.ahead(drawn())]
        monkeypatch.undo()
        assert threads == {"tinynet-pinned"}
        assert [k for k, _ in seen] == list(range(5))
        for k, x in seen:
            assert set(be.numpy(x).ravel().tolist()) == {-k}
    assert not [t for t in threading.enumerate() if t.name == "tinynet-pinned"]


@every_schedule
def test_batches_ahead(schedule, module=cupy_launcher):
    """Each batch arrives as it is, though kernels are late, memory is used again, and one epoch follows another."""
    with backend(schedule, module, seed=1) as (be, device):
        kept = []
        for _ in range(3):
            for k, (x, y) in enumerate(be.ahead((pictures(k), k) for k in range(12))):
                assert y == k and x.dtype == np.float32
                kept.append((k, be.negative(x)))
                del x
        for k, x in kept:
            np.testing.assert_array_equal(-be.numpy(x), pictures(k))
        assert [k for k, _ in kept] == 3 * list(range(12))
        assert len(device.streams) == 2 and len(device.pinned) <= 6


def test_one_batch_ahead(module=cupy_launcher):
    """While a step uses a batch, the next one is being copied, from pinned memory, and a third one to there; it
    takes no memory of the device."""
    drawn = []
    with backend("lazy", module) as (be, device):
        for k, _ in enumerate(be.ahead((drawn.append(k), (pictures(k), k))[1] for k in range(5))):
            assert len(drawn) == min(k + 3, 5)
        assert device.pageable == 0, "the host waits for copies from pageable memory"


@every_schedule
def test_batches_ahead_of_two(schedule, module=cupy_launcher):
    """An evaluation within an epoch, an epoch that is left, and one whose data ends with an error."""

    def broken():
        yield pictures(0), 0
        yield pictures(1), 1
        raise OSError("the disk is gone")

    with backend(schedule, module, seed=2) as (be, device):
        kept = []
        for _ in range(2):
            for k, (x, _) in enumerate(be.ahead((pictures(k), k) for k in range(5))):
                kept.append((k, be.negative(x)))
                for j, (z, _) in enumerate(be.ahead((pictures(j), j) for j in range(4))):
                    kept.append((j, be.negative(z)))
                    if j == 2:
                        break
                del z
            with pytest.raises(OSError, match="the disk is gone"):
                for k, (x, _) in enumerate(be.ahead(broken())):
                    kept.append((k, be.negative(x)))
        for k, x in kept:
            np.testing.assert_array_equal(-be.numpy(x), pictures(k))
        assert len(device.streams) == 3, "the null stream, and one for each of two at a time"
        assert list(be.ahead(())) == []


@every_schedule
@pytest.mark.parametrize("end", ["closed", "dropped", "exhausted"])
def test_pinned_memory_is_given_back_after_its_copies(schedule, end, module=cupy_launcher):
    """However `ahead` ends, and though its launcher is gone at once: else another would overwrite what is copied."""
    with backend(schedule, module) as (be, device):
        ahead = be.ahead((pictures(k), k) for k in range(2))
        arrays = [next(ahead)[0]] if end != "exhausted" else [x for x, _ in ahead]
        if end == "closed":
            ahead.close()
        del ahead, be
        gc.collect()
        assert all(stream.done == stream.queued for stream in device.streams[1:])
        others = [fake_cupy.cuda.alloc_pinned_memory(160) for _ in range(4)]
        for other in others:
            other[:] = 0xEE
        for k, x in enumerate(arrays):
            np.testing.assert_array_equal(fake_cupy.asnumpy(x), pictures(k))


def test_a_batch_that_does_not_fit(module=cupy_launcher):
    """Says so, and the next epoch uses the same stream."""
    with backend("lazy", module) as (be, device):
        for _ in range(2):
            device.refuse = 1
            with pytest.raises(MemoryError, match=r"an array \(3, 70\) float32 asks for"):
                list(be.ahead([(np.zeros((3, 70), np.float32), 0)]))
            be.launcher.cupy.get_default_memory_pool().free_all_blocks()
        assert len(device.streams) == 2 and fake_cupy.cuda.get_current_stream() is device.streams[0]


# ---- arrays ------------------------------------------------------------------------------------------------------


def test_out_of_memory(module=cupy_launcher):
    with backend("lazy", module, total=1 << 20) as (be, device):
        kept = be.empty((100_000,), np.float32)
        for make in (
            lambda: be.empty((300, 1000), np.float64),
            lambda: be.launcher.zeros((300, 1000), np.float64),
            lambda: be.asarray(np.ones((300, 1000))),
        ):
            with pytest.raises(MemoryError) as caught:
                make()
            assert str(caught.value).startswith(
                "the GPU is out of memory: an array (300, 1000) float64 asks for 2.4 MB; tinynet uses 0.4 MB and keeps"
                " 0.0 MB for reuse; of the device's 1.0 MB 0.6 MB are free. Use a smaller batch"
            )
        assert device.used == 400_384 and kept.size
        be.asarray(np.ones(10_000)), be.asarray(np.ones(60_000))  # what arrays left is used for others


def test_zeros(module=cupy_launcher):
    with backend("lazy", module) as (be, _):
        for shape, dtype in (((3, 5), np.float32), ((), np.float64), ((0, 2), np.int64), ((7,), bool)):
            x = be.launcher.zeros(shape, dtype)
            assert (x.shape, x.dtype) == (shape, np.dtype(dtype)) and not be.numpy(x).any()


def test_asarray(module=cupy_launcher):
    with backend("lazy", module) as (be, _):
        launcher, host = be.launcher, np.arange(6.0).reshape(2, 3).T
        x = launcher.asarray(host)
        assert launcher.asarray(x) is x and launcher.asarray(x, np.float64) is x
        host[:] = 9  # pageable memory may change at once
        assert launcher.asnumpy(x).tolist() == [[0, 3], [1, 4], [2, 5]]
        assert launcher.asarray(np.arange(3), np.float32).dtype == np.float32


@every_schedule
def test_copyto(schedule, module=cupy_launcher):
    """Between device and host in every direction, in the order of the given stream."""
    with backend(schedule, module) as (be, device):
        launcher, other = be.launcher, fake_cupy.cuda.Stream(non_blocking=True)
        for stream in (None, other):
            used = stream or device.streams[0]
            x, y, back = be.asarray(pictures(0)), be.empty(SHAPES[0], np.float32), np.empty(SHAPES[0], np.float32)
            launcher.synchronize()
            before = [s.queued for s in device.streams]
            launcher.copyto(x, pictures(1), stream)
            launcher.copyto(y, x, stream)
            launcher.copyto(back, y, stream)
            np.testing.assert_array_equal(back, pictures(1))
            assert [s.queued - b for s, b in zip(device.streams, before, strict=True)] == [
                3 * (s is used) for s in device.streams
            ]


def test_copyto_refuses(module=cupy_launcher):
    with backend("eager", module) as (be, _):
        x = be.empty((2, 3), np.float32)
        for source in (np.ones((3, 2), np.float32), np.ones((2, 3)), be.empty((2, 3), np.int32)):
            with pytest.raises(ValueError, match=r"copyto: \(\d, \d\) \w+ does not fit \(2, 3\) float32"):
                be.launcher.copyto(x, source)
        for to, source in ((x, np.ones((3, 2), np.float32).T), (be.transpose(x, (1, 0)), np.ones((3, 2), np.float32))):
            with pytest.raises(ValueError, match="both arrays must be C-contiguous"):
                be.launcher.copyto(to, source)


def test_synchronize(module=cupy_launcher):
    with backend("lazy", module) as (be, device):
        be.launcher.zeros((3,), np.float32)
        assert device.streams[0].done < device.streams[0].queued
        be.launcher.synchronize()
        assert device.streams[0].done == device.streams[0].queued > 0


# ---- launches ----------------------------------------------------------------------------------------------------

OWN = """__global__ void own(Out<float> y, i64 n) {
    SHARED_TEXT
    i64 i = thread_index();
    if (i < n) y[i] = float(i);
}"""


def own(module, text):
    return module.CupyLauncher({"own.cu": {"own": Entry(None)}}, {"own.cu": text})


def test_a_kernel_in_a_stream(module=cupy_launcher):
    with backend("lazy", module) as (_, device):
        launcher, stream = own(module, OWN.replace("SHARED_TEXT", "")), fake_cupy.cuda.Stream(non_blocking=True)
        y = launcher.empty((4,), np.float32)
        launcher.launch("own", y, 4, grid=1, block=32, stream=stream)
        assert (device.streams[0].queued, stream.queued) == (0, 1) and stream.done == 0
        stream.synchronize()
        assert launcher.asnumpy(y).tolist() == [0, 1, 2, 3]


def test_much_shared_memory(module=cupy_launcher):
    """Above 48 KiB a kernel must be allowed to take it."""
    with backend("eager", module) as (_, device):
        launcher = own(module, OWN.replace("SHARED_TEXT", ""))
        y = launcher.empty((4,), np.float32)
        sizes = [0, 48 << 10, 60 << 10, 100 << 10, 60 << 10]
        for shared in sizes:
            launcher.launch("own", y, 4, grid=1, block=32, shared=shared)
        assert device.launched == [("own", (1, 1, 1), (32, 1, 1), shared) for shared in sizes]
        assert launcher.asnumpy(y).tolist() == [0, 1, 2, 3]


def test_a_kernel_that_does_not_compile(module=cupy_launcher):
    with backend("eager", module):
        launcher = own(module, OWN.replace("SHARED_TEXT", "no such type;"))
        with pytest.raises(KernelError, match=r"(?s)the kernel does not compile:\n.*own.cu:2"):
            launcher.launch("own", launcher.empty((4,), np.float32), 4, grid=1, block=32)


# ---- whether it runs here ----------------------------------------------------------------------------------------


def missing(monkeypatch, module=cupy_launcher, **changes):
    """Why the launcher does not start, with attributes of the stand-in changed: `cuda__nvrtc__getVersion=…`."""
    with monkeypatch.context() as m, fake_cupy.installed():
        for name, value in changes.items():
            *path, last = [name] if name.startswith("__") else name.split("__")
            owner = fake_cupy
            for part in path:
                owner = getattr(owner, part)
            m.setattr(owner, last, value)
        with pytest.raises(BackendError) as caught:
            module.CupyLauncher()
        return str(caught.value)


def raises(error):
    def call(*args):
        raise error

    return call


def test_what_is_missing(monkeypatch, module=cupy_launcher):
    assert "pip install" in missing(monkeypatch, module, __version__="13.6.0") and "14.2" in missing(
        monkeypatch, module, __version__="14.1.9"
    )
    for error, says in (
        ("cudaErrorInsufficientDriver: too old", "no NVIDIA driver"),
        ("cudaErrorNoDevice", "finds no"),
        ("cudaErrorUnknown", "CUDA does not start: cudaErrorUnknown"),
    ):
        text = missing(monkeypatch, module, cuda__runtime__getDeviceCount=raises(CUDARuntimeError(error)))
        assert says in text and 'tn.use("simulator") runs the same kernels' in text
    assert "finds no CUDA device" in missing(monkeypatch, module, cuda__runtime__getDeviceCount=lambda: 0)
    for error in (ImportError("libnvrtc.so.13"), RuntimeError("Failure finding libnvrtc"), OSError("libnvrtc")):
        text = missing(monkeypatch, module, cuda__nvrtc__getVersion=raises(error))
        assert "NVRTC" in text and "libnvrtc" in text and "pip install 'tinynet[gpu]'" in text


def test_headers_are_missing(monkeypatch, module=cupy_launcher):
    """Where NVRTC is a wheel of its own, CuPy asks the pathfinder for the headers, and so is asked here."""
    found = [None]
    pathfinder = SimpleNamespace(find_nvidia_header_directory=lambda name: {"cudart": found[0]}[name])
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(pathfinder=pathfinder))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    assert "CUDA's headers were not found" in missing(monkeypatch, module, cuda__get_cuda_path=lambda: None)
    found[0] = "/somewhere/include"
    with monkeypatch.context() as m, fake_cupy.installed():
        m.setattr(fake_cupy.cuda, "get_cuda_path", lambda: None)
        module.CupyLauncher()


@pytest.mark.parametrize(
    ("home", "cache", "given", "expected"),
    [
        ("/home/me", None, None, None),  # CuPy's own choice, ~/.cupy
        ("", "/cache", None, "/cache/tinynet/cupy"),
        ("relative", "/cache", None, "/cache/tinynet/cupy"),
        (None, "/cache", "/elsewhere", "/elsewhere"),
        (None, None, None, "a temporary folder"),
    ],
)
def test_where_compiled_kernels_are_kept(monkeypatch, home, cache, given, expected, module=cupy_launcher):
    """In a process without a home CuPy would make a folder called ~ in the current one."""
    monkeypatch.setattr(folders, "_home_of_record", lambda: "")
    for name, value in (("HOME", home), ("XDG_CACHE_HOME", cache), ("CUPY_CACHE_DIR", given)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    with fake_cupy.installed():
        module.CupyLauncher()
    chosen = os.environ.get("CUPY_CACHE_DIR")
    if expected == "a temporary folder":
        assert chosen == str(folders.temporary_folder() / "cupy")
    else:
        assert chosen == expected


def test_no_way_to_convolve(monkeypatch):
    """A word in the environment that means nothing is named; nothing breaks that does not need it."""
    monkeypatch.setattr(tn.backends, "_loaded", {})
    monkeypatch.setenv("TINYNET_CUDA_CONV", "fastest")
    with pytest.raises(
        BackendError, match="TINYNET_CUDA_CONV='fastest' is no way to convolve; choose one of implicit, im2"
    ):
        tn.use("simulator")
    assert "simulator" not in tn.backends.available()
    for word, path in (("", "implicit"), ("im2col", "im2col"), ("implicit", "implicit")):
        monkeypatch.setattr(tn.backends, "_loaded", {})
        monkeypatch.setenv("TINYNET_CUDA_CONV", word)
        assert tn.backends.get("simulator").conv_path == path


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="the cupy backend needs CuPy: pip install"):
        cupy_launcher.CupyLauncher()
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=raises(ImportError("libcublas", name="x")))])
    with pytest.raises(BackendError, match="CuPy is installed but does not load: libcublas"):
        cupy_launcher.import_cupy()


def test_asking_starts_nothing(module=cupy_launcher):
    """Neither memory nor a stream nor a module, which would make a context: the process may still be forked."""
    with backend("lazy", module) as (_, device):
        assert (len(device.streams), device.memory, device.pinned) == (1, [], [])
        assert device.streams[0].queued == 0


@pytest.mark.skipif(sys.platform != "linux", reason="replicas are for Linux only")
def test_replicas_beside_cupy(monkeypatch):
    """A process that loaded cupy may be forked, until CUDA runs in it."""
    model = tn.models.mlp(3, 2)
    adam = tn.optim.Adam(model.parameters())
    with backend() as (be, _):
        monkeypatch.setitem(tn.backends._loaded, "cupy", be)
        assert start._alone_because(adam) is None
        monkeypatch.setattr(tn.backends, "cuda_runs", lambda: True)
        assert start._alone_because(adam) == "CUDA runs in this process, which must not be forked then"


# A driver whose second device has a context once `start` was called.
DRIVER = """
static int active = 0, initialised = 0;
int cuInit(unsigned flags) { initialised = 1; return 0; }
int cuDeviceGetCount(int* n) { *n = 2; return initialised ? 0 : 3; }
int cuDeviceGet(int* device, int k) { *device = 40 + k; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* state) {
    if (device < 40 || device > 41) return 101;
    *state = active && device == 41;
    return 0;
}
void start() { active = 1; }
"""
ASKS = """
import ctypes, sys
from tinynet.backends import cuda_runs
assert not cuda_runs()
driver = ctypes.CDLL(sys.argv[1])
assert not cuda_runs(), "loaded, not initialised"
driver.cuInit(0)
assert not cuda_runs(), "initialised, no context"
driver.start()
assert cuda_runs()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="replicas, which ask, are for Linux only")
def test_whether_cuda_runs(tmp_path):
    """Asked of the driver, where the process has loaded it: of a driver with one, in each of its states."""
    from tinynet.backends.cuda.simulator import compiler

    library = tmp_path / "driver.so"
    subprocess.run(
        [compiler(), "-x", "c++", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), "-"],
        input=f'extern "C" {{{DRIVER}}}',
        text=True,
        check=True,
    )
    subprocess.run([sys.executable, "-c", ASKS, str(library)], check=True)
