"""Where tinynet keeps what it may lose: the user's cache, and whether others could plant code there."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import tempfile
from pathlib import Path


def cache_folder(topic: str) -> Path | None:
    """The folder of one topic in the user's cache, made or not; None where this user has no home.

    It is `$XDG_CACHE_HOME/tinynet/topic`, by default `~/.cache/tinynet/topic`. A variable that is empty or holds a
    relative path counts as not set (XDG Base Directory Specification): it would mean another folder in each
    current directory. (Own code, not platformdirs: only its latest releases treat relative paths so, and it names a
    folder for a user without a home, too.)
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME", "")
        home = home if os.path.isabs(home) else _home_of_record()
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return Path(base) / "tinynet" / topic


def _home_of_record() -> str:
    """The home of the user database, "" for a user without an entry."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except ImportError:  # Windows
        return os.path.expanduser("~")
    except KeyError:
        return ""


@functools.cache
def _temporary_of(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tinynet-"))  # closed to others

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def temporary_folder() -> Path:
    """A private folder that lasts as long as this process."""
    folder = _temporary_of(os.getpid())
    folder.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have been here
    return folder


def who_else_may_write(folder: Path) -> str | None:
    """Why code in `folder`, an existing one without symbolic links, could be somebody else's; None where it is safe.

    The folder must be this user's and nobody else may write it. Each folder above it must be this user's or root's,
    and written by nobody else; with the sticky bit (/tmp) others may write beside ours, but not rename it.
    """
    if not hasattr(os, "getuid"):  # Windows: a user's profile is closed to others
        return None
    me = os.getuid()
    for place in (folder, *folder.parents):
        status = os.stat(place)
        if status.st_uid not in ((me,) if place == folder else (me, 0)):
            return f"{place} belongs to user {status.st_uid}"
        if place != folder and status.st_mode & stat.S_ISVTX:
            continue
        if status.st_mode & stat.S_IWOTH:
            return f"every user may write {place}"
        if status.st_mode & stat.S_IWGRP and not _own_group(status.st_gid):
            return f"group {status.st_gid} may write {place}"
    return None


def _own_group(gid: int) -> bool:
    """Whether a group has this user alone: many systems give each user such a group, and let it write by default."""
    import grp
    import pwd

    try:
        me, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == me.pw_gid and group.gr_name == me.pw_name and set(group.gr_mem) <= {me.pw_name}
