"""Files that are the old ones or the new ones, whenever the process is killed or the power fails.

What is written goes to a temporary file in the same folder, which then takes the file's place in one step. Its name
tells whose it is (host, process, the process's start, number of the write), so that writers never meet, and what killed
processes left is found and deleted by the next writer of the same file.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAY = 86_400  # seconds; a temporary file of another host that nobody wrote to for so long has no owner
STEM = 30  # characters of a file's name in that of its temporary file, which may have 255 bytes

_numbers = itertools.count()
_writing: set[Path] = set()  # this process's temporary files


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new, empty file in the same folder; what is written there takes the place of `path`, all at once.

    Readers, and a run that is killed at any moment, see the old file or the new one, never a part. Folders on the way
    are made; a symbolic link is followed. When the block raises, the old file stays.
    Raises: OSError where the file cannot be written; where `path` is a folder, a FIFO or a device, which are never
        replaced.
    """
    with _temporary(path) as (target, temporary):
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now what `replacing(path)` would raise later. The folder is made, but no file."""
    with _temporary(path) as (target, _):
        folder = target.parent.stat()
        if (
            folder.st_mode & stat.S_ISVTX
            and target.exists()
            and (os.geteuid() not in (0, folder.st_uid, target.stat().st_uid))
        ):
            raise PermissionError(f"{target}: belongs to another user, and only he may replace it in this folder")


@contextmanager
def _temporary(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """The file to replace, links followed, and a new temporary file beside it, which is deleted in the end."""
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    owner = f"{os.getpid()}-{_started(os.getpid())}-{next(_numbers)}-{_host()}"
    temporary = path.with_name(f".{path.name[:STEM]}.{owner}.tmp")
    _writing.add(temporary)
    try:
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # follows no link put there
        except OSError as error:
            error.filename = os.fspath(path)  # the name that the caller knows
            raise
        yield path, temporary
    finally:
        temporary.unlink(missing_ok=True)
        _writing.discard(temporary)


def sweep(path: str | os.PathLike[str]) -> None:
    """Delete the temporary files that processes which are no more left beside `path`."""
    path = _target(path)
    name = re.compile(rf"\.{re.escape(path.name[:STEM])}\.(\d+)(?:-(\d*)-\d+-(.*))?\.tmp", re.DOTALL)
    try:
        beside = os.listdir(path.parent)
    except FileNotFoundError:
        return
    for entry in beside:
        found = name.fullmatch(entry)
        left = path.with_name(entry)
        if found and left not in _writing and not _owned(left, int(found[1]), found[2], found[3]):
            left.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file itself where `path` is a link to one. OSError where there is something that must not be replaced."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:  # or a link to a file that is not there yet
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{os.fspath(path)}: is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise OSError(f"{os.fspath(path)}: is no regular file (a FIFO, a socket or a device); it is not replaced")
    return Path(os.path.realpath(path))


def _host() -> str:
    """A name of the machine and, on Linux, of the space in which its process numbers count (containers have their
    own)."""
    space = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""
    return re.sub(r"[^\w.]", "", f"{platform.node()[:60]}.{space}")


def _started(process: int) -> str:
    """When the process was started, in ticks since the machine was; "" where that is not told, "-" for a dead one."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before may hold spaces
            return "-" if fields[0] in b"ZX" else fields[19].decode()
    except (OSError, IndexError):
        return ""


def _owned(left: Path, process: int, started: str | None, host: str | None) -> bool:
    """Whether the writer of a temporary file may still be at work."""
    if host is not None and host != _host():
        try:
            return time.time() - left.lstat().st_mtime < DAY
        except OSError:
            return True  # gone meanwhile
    if process == os.getpid():
        return False  # this process knows its own
    if sys.platform == "win32":
        return True  # os.kill would end the process there
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's process
    now = _started(process)
    return now in ("", started) or (not started and now != "-")
