"""Modules that moved into folders stay importable under their old names: `import tinynet.checkpoint`."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

MOVED = {
    "architecture": "saving.architecture",
    "backends.cpu.team": "parallel.team",
    "checkpoint": "saving.checkpoint",
    "diagnose": "training.nonfinite",
    "doctor": "cli.doctor",
    "gradcheck_cases": "ops.cases",
    "habits": "hints",
    "loop": "training.run",
    "nn.layout": "interchange.layout",
    "progress": "training.progress",
    "replicas": "parallel.replicas",
    "report": "insight.report",
    "runs": "cli.runs",
}
PREFIX = __name__.partition(".")[0] + "."


class Moved(MetaPathFinder, Loader):
    """Finds a module under its old name: the very module that has a new one."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name.removeprefix(PREFIX) in MOVED and PREFIX in name else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(PREFIX + MOVED[spec.name.removeprefix(PREFIX)])
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own  # the import has written the old name there


sys.meta_path.append(Moved())
