"""The CUDA backend, twice: on a GPU through CuPy, and on the CPU through the simulator.

Both are the same code, a module a topic, which allocates, views, copies and launches the kernels of
`kernels/`; only the launcher differs. The topics stand on one another as a chain of classes, from
`arrays.py` up to here, so that a kernel's method finds those below it on `self`.
"""

from __future__ import annotations

from typing import Any

from .conv import Conv


class Cuda(Conv):
    """A backend as `tinynet.backends.contract` describes it."""


def make(name: str) -> Any:
    """The backend called "cupy" or "simulator"; raises BackendError, with the remedy, where it cannot run."""
    if name == "cupy":
        from .cupy_launcher import CupyLauncher as Launcher
    else:
        from .simulator import SimulatorLauncher as Launcher  # type: ignore[assignment]
    return Cuda(name, Launcher())
