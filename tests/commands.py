"""The command in a process of its own, and a small run that tests share (the fixtures `place` and `here`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUICK = ["--model", "mlp", "--samples", "640", "--workers", "1"]


def command(*arguments, cwd, **environment):
    """`python -m tinynet …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tinynet", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **environment},
    )
