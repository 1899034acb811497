"""The CUDA backend, twice: on a GPU through CuPy, and on the CPU through the simulator.

Both are the same code, a module a topic, which allocates, views, copies and launches the kernels of
`kernels/`; only the launcher differs. The topics are siblings over `arrays.py`; here, and nowhere else, they become
one backend.
"""

from __future__ import annotations

from typing import Any

from .conv import Conv, chosen_path
from .elementwise import Elementwise
from .loss import Loss
from .matmul import Matmul
from .norm import Norm
from .optim import Optim
from .pool import Pool
from .random import Random
from .recurrent import Recurrent
from .reduce import Reduce
from .shape import Shape


class Cuda(Elementwise, Reduce, Shape, Matmul, Conv, Pool, Norm, Loss, Random, Recurrent, Optim):
    """A backend as `tinynet.backends.contract` describes it."""


def make(name: str) -> Any:
    """The backend called "cupy" or "simulator"; raises BackendError, with the remedy, where it cannot run."""
    if name == "cupy":
        from .cupy_launcher import CupyLauncher as Launcher
    else:
        from .simulator import SimulatorLauncher as Launcher  # type: ignore[assignment]
    path = chosen_path()
    be = Cuda(name, Launcher())
    be.conv_path = path
    return be
