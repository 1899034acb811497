"""The backend switch: which arrays new tensors are made of, and whose kernels run on them.

>>> import tinynet as tn
>>> tn.use("numpy")                     # from now on
>>> with tn.use("simulator"):           # or for a while
...     x = tn.tensor([1.0, 2.0])
"""

from __future__ import annotations

import ctypes
import importlib
import os
from typing import ClassVar

from .contract import Backend
from .errors import BackendError
from .switches import Switch

NAMES = ("numpy", "cupy", "simulator")
_loaded: dict[str, Backend] = {}


def get(name: str | Backend) -> Backend:
    """The backend called `name` ("numpy", "cupy" or "simulator").

    Raises ValueError for another name, BackendError where it cannot run on this machine.
    """
    if not isinstance(name, str):
        return name
    if name not in _loaded:
        if name not in NAMES:
            meant = {"cpu": "numpy"}.get(name, "cupy" if name.startswith(("cuda", "gpu")) else "")
            raise ValueError(
                f"backend {name!r} is unknown; choose one of {', '.join(map(repr, NAMES))}"
                + (f"; in tinynet: {meant!r}" if meant else "")
            )
        if name == "numpy":
            _loaded[name] = importlib.import_module(".cpu", __name__)  # type: ignore[assignment]
        else:
            _loaded[name] = importlib.import_module(".cuda", __name__).make(name)
    return _loaded[name]


def current() -> Backend:
    """The backend of new tensors: the last `use`, else $TINYNET_BACKEND, else numpy."""
    if use.now is None:
        name = use.get()
        if name not in NAMES:
            raise ValueError(f"TINYNET_BACKEND={name!r:.60} is no backend; choose one of {', '.join(NAMES)}")
        use.now = get(name)
    return use.now


class use(Switch, title="backend"):
    """Make new tensors on a backend: at once and for good, or for the length of a `with` block.

    Args: name: "numpy", "cupy" (a GPU through CuPy) or "simulator" (the same CUDA kernels, run on the CPU).
    Raises: BackendError with the remedy where it cannot run here; ValueError for an unknown name.
    """

    now: ClassVar[Backend | None]

    def __init__(self, name: str):
        super().__init__(name)

    @classmethod
    def put(cls, name: str | Backend | None) -> Backend | None:
        return super().put(None if name is None else get(name))

    @classmethod
    def get(cls) -> str:
        return os.environ.get("TINYNET_BACKEND") or "numpy" if cls.now is None else cls.now.name

    def __enter__(self) -> Backend:
        super().__enter__()
        return current()

    def __repr__(self) -> str:
        return f"<tinynet backend {current().name!r}>"


def why_not(name: str) -> str | None:
    """None where backend `name` runs here, else one sentence that says what is missing. Never raises."""
    try:
        get(name)
    except Exception as error:
        return str(error)
    return None


def available() -> tuple[str, ...]:
    """The names of the backends that run on this machine. Never raises."""
    return tuple(name for name in NAMES if why_not(name) is None)


def cuda_runs() -> bool:
    """Whether this process has a CUDA context, made by whatever library: then it must not be forked. Starts none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1", os.RTLD_NOLOAD)  # raises where the process has not loaded it
    except (OSError, AttributeError):
        return False
    count, device, flags, active = (ctypes.c_int() for _ in range(4))
    if driver.cuDeviceGetCount(ctypes.byref(count)):  # not initialised: no context either
        return False
    for k in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), k)
        failed = driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        if failed or active.value:
            return True
    return False
