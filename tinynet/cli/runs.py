"""The folders that `tinynet train` writes: one a run, with all that belongs to it.

runs/mnist_cnn-digits-1/
  settings.json             what was asked for, and how it ended
  checkpoint.safetensors    see checkpoint.py
  history.csv               a row an epoch
  learning.png  confusion.png  mistakes.png      where matplotlib is present
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..console import message, plain, say
from ..saving.checkpoint import read, replacing
from .usage import MOST_WORKERS, UsageError

ROOT = Path("runs")
SETTINGS, CHECKPOINT, HISTORY = "settings.json", "checkpoint.safetensors", "history.csv"
VOCABULARY = "vocabulary.json"  # beside them where a language model learnt a text
SETTINGS_LIMIT = 1 << 24  # bytes of settings.json


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _text(value: Any) -> bool:
    return isinstance(value, str)


KINDS: dict[str, Callable[[Any], bool]] = {  # what settings.json holds: the name, and what may stand there
    "model": _text,
    "data": _text,
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "lr": lambda value: value is None or (type(value) in (int, float) and 0 < value < math.inf),
    "optimizer": _text,
    "backend": _text,
    "workers": lambda value: value == "auto" or _whole(1, MOST_WORKERS)(value),
    "seed": _whole(0, 2**62 - 1),
    "samples": lambda value: value is None or _whole(1)(value),
    "status": _text,
    "classes": lambda value: isinstance(value, list) and all(map(_text, value)),
}


def root() -> Path:
    """The folder of all runs: `runs` here, or this one where it is called so."""
    return Path() if Path.cwd().name == ROOT.name and not ROOT.is_dir() else ROOT


def check_writable(folder: Path) -> None:
    """UsageError where nothing could be written into the folder, made or not: known before the work begins."""
    try:
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        with tempfile.TemporaryDirectory(prefix=".tinynet-", dir=place):
            pass
    except (OSError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "there is no such place"
        raise UsageError(f"{folder}: no run can be written there ({reason}); name another place by --out") from None


def new_folder(model: str, name: str, out: str | None) -> Path:
    """Make the folder of a new run: `out`, or the first free runs/<model>-<data>-<n>."""
    if out is not None:
        folder = Path(out)
        refuse_taken(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    stem = f"{model}-{re.sub(r'[^A-Za-z0-9_]+', '-', Path(name).name).strip('-') or 'data'}"
    place = root()
    place.mkdir(exist_ok=True)
    names = (re.fullmatch(rf"{stem}-(\d{{1,9}})", path.name) for path in place.glob(f"{stem}-*"))
    taken = [int(name[1]) for name in names if name]
    number = max(taken, default=0) + 1
    while True:
        try:
            (place / f"{stem}-{number}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return place / f"{stem}-{number}"


def refuse_taken(folder: Path) -> None:
    """UsageError where the folder holds a run already, or is none."""
    if (folder / SETTINGS).exists():
        raise UsageError(f"{folder} holds a run already: go on with it by --resume {folder}, or name another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder")


def newest(*, unfinished: bool = False, text: bool | None = None) -> Path:
    """The folder of the newest run that has a checkpoint, of a text (or of images) where that is said; or, with
    `unfinished`, of the newest that was interrupted."""
    found = []
    for path in root().glob(f"*/{SETTINGS}"):
        checkpoint = path.parent / CHECKPOINT
        if unfinished or (checkpoint.exists() and text in (None, (path.parent / VOCABULARY).exists())):
            try:
                done = read_settings(path.parent)["status"] == "finished"
            except UsageError:
                continue
            if not (unfinished and done):
                found.append(((checkpoint if checkpoint.exists() else path).stat().st_mtime_ns, path.parent))
    if not found:
        raise UsageError(
            f"there is no {'interrupted run' if unfinished else 'run'} in {root().resolve()}"
            f"{'' if text is None else ' that learnt a text' if text else ' that learnt images'}; "
            f"{'name its folder' if unfinished else 'train one with: tinynet train'}"
        )
    return max(found)[1]


def find_checkpoint(given: str | None, *, text: bool | None = None) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run's folder (by default the newest, of a text or of images where that is said), or a file,
    and the run's settings ({} without any)."""
    path = newest(text=text) if given is None else Path(given)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise UsageError(f"{path}: holds no {CHECKPOINT}")
        path = path / CHECKPOINT
    elif not path.exists():
        near = difflib.get_close_matches(path.name, [p.parent.name for p in path.parent.glob(f"*/{SETTINGS}")], 1)
        raise UsageError(
            f"{path}: no such run or checkpoint" + "".join(f"; did you mean {path.parent / n}?" for n in near)
        )
    if not (path.parent / SETTINGS).exists():
        return path, {}
    try:
        return path, read_settings(path.parent)
    except UsageError as error:
        say(f"tinynet: {message(error)}; going on without it", sys.stderr)
        return path, {}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """settings.json, atomically."""
    with replacing(folder / SETTINGS) as temporary:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        temporary.write_bytes(text.encode("utf-8", "surrogatepass"))  # a folder's name may be no UTF-8


@contextlib.contextmanager
def running(folder: Path, settings: dict[str, Any], next_step: str) -> Iterator[None]:
    """Within this context settings.json says that the run is running; Ctrl-C leaves it interrupted, and says the next
    step. A run that was to go on and is refused has the settings that it had."""
    path = folder / SETTINGS
    before = path.read_bytes() if path.exists() else None
    write_settings(folder, settings | {"status": "running"})
    try:
        yield
    except KeyboardInterrupt:
        write_settings(folder, settings | {"status": "interrupted"})
        raise KeyboardInterrupt(next_step) from None
    except Exception:
        if before is not None:
            with replacing(path) as temporary:
                temporary.write_bytes(before)
        raise


def read_settings(folder: Path) -> dict[str, Any]:
    """What write_settings wrote. UsageError where there is none, or it is damaged."""
    path = folder / SETTINGS
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SETTINGS_LIMIT:  # a pipe would be waited for
            raise UsageError(f"{path}: cannot be read: it is no file of at most {SETTINGS_LIMIT:,} bytes")
        with open(path, "rb") as file:
            settings = json.loads(file.read(SETTINGS_LIMIT).decode("utf-8", "surrogatepass"))
    except FileNotFoundError:
        raise UsageError(f"{folder}: holds no run ({SETTINGS} is missing)") from None
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: is damaged: it does not hold a run's settings")
    for name, fits in KINDS.items():
        if name not in settings or not fits(settings[name]):
            found = plain(repr(settings[name]), 60) if name in settings else "missing"
            raise UsageError(f"{path}: is damaged: it does not hold a run's settings ({name} is {found})")
    return settings


def recorded_workers(checkpoint: Path, otherwise: int | str) -> int | str:
    """The number of processes that a run to go on with had: its bits depend on it."""
    if not checkpoint.exists():
        return otherwise
    settings = read(checkpoint)[1].get("settings")
    recorded = settings.get("workers") if isinstance(settings, dict) else None
    return recorded if isinstance(recorded, int) else otherwise
