"""The CUDA sources of tinynet, and `load`, which runs a kernel of one's own on the CPU.

See README.md beside this file: how to write, launch and debug a first kernel without a GPU.
"""

from tinynet.backends.cuda.launcher import KernelError
from tinynet.backends.cuda.simulator import load

__all__ = ["KernelError", "load"]
