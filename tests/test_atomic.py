"""Files that are the old or the new one: what is followed, what is refused, and whose leftovers are swept."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.saving import atomic
from tinynet.saving.atomic import check_writable, replacing, sweep

posix = pytest.mark.skipif(os.name != "posix", reason="links, FIFOs and signals")
NAMES = ["run.st", "c[1]*?.st", "with space", "line\nbreak", "(a|b)+$.x", "größe.日本", "x" * 255, ".hidden", "-"]


def put(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def leftover(path, *, process=None, started=None, host=None):
    """A temporary file as a process leaves it when it is killed: this one's, but for what is given."""
    with replacing(path) as temporary:
        name = temporary.name
        temporary.write_text("half")
    own = f".{os.getpid()}-{atomic._started(os.getpid())}-"
    assert own in name and name.endswith(f"-{atomic._host()}.tmp")
    started = atomic._started(os.getpid()) if started is None else started
    name = name.replace(own, f".{process or os.getpid()}-{started}-")
    left = path.with_name(name.replace(atomic._host(), host or atomic._host()))
    left.write_text("half")
    path.unlink()
    return left


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_written_and_swept(name, tmp_path):
    path = tmp_path / name
    left = leftover(path)  # of this very process, which is not writing
    put(path, "new")
    assert path.read_text() == "new" and not left.exists() and os.listdir(tmp_path) == [name]


@posix
def test_leftovers_of_the_dead_are_swept_and_the_work_of_the_living_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    path, other = tmp_path / "run", os.getppid()
    swept = [leftover(path), leftover(path, process=other, started="1"), leftover(path, process=10**9)]
    stays = [
        leftover(path, process=other, started=atomic._started(other)),
        leftover(path, process=other, started=""),
        leftover(path, host="elsewhere"),
        leftover(path, host="elsewhere", process=10**9),
    ]
    old = leftover(path, host="long-gone")
    os.utime(old, (time.time() - 2 * atomic.DAY,) * 2)
    while atomic._started(dead.pid) not in ("-", ""):  # a zombie: ended, but nobody asked for its status yet
        time.sleep(0.01)
    if sys.platform == "linux":
        swept.append(leftover(path, process=dead.pid, started="1"))
    alien = tmp_path / ".other.1-2-3-x.tmp"
    alien.write_text("another file's")
    with replacing(path) as temporary:
        temporary.write_text("at work")
        for left in swept:
            left.touch()
        sweep(path)
        assert temporary.read_text() == "at work"
    dead.wait()
    assert not any(left.exists() for left in [*swept, old]) and all(left.exists() for left in [*stays, alien])


def test_threads_that_write_to_one_file_do_not_meet(tmp_path):
    path, errors = tmp_path / "file", []

    def work(text):
        try:
            for _ in range(30):
                put(path, text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(letter * 1000,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(set(path.read_text())) == 1 and os.listdir(tmp_path) == ["file"]


@posix
def test_a_killed_writer_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    path = tmp_path / "file"
    put(path, "old")
    code = (
        "import sys, time\nfrom tinynet.saving.atomic import replacing\nwith replacing(sys.argv[1]) as t:\n"
        "    t.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(tn.__file__).parents[1])},
    )
    assert writer.stdout.readline() == "writing\n"
    writer.stdout.close()
    sweep(path)
    assert len(os.listdir(tmp_path)) == 2  # it is at work
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert path.read_text() == "old"
    put(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


@posix
def test_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    real, near = tmp_path / "far" / "real", tmp_path / "near"
    near.symlink_to("latest")
    (tmp_path / "latest").symlink_to(real)  # of a file that is not there yet
    put(near, "first")
    put(near, "second")
    assert real.read_text() == "second" and near.is_symlink() and (tmp_path / "latest").is_symlink()
    assert os.listdir(tmp_path / "far") == ["real"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError):
        put(tmp_path / "loop", "x")


@posix
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "link to a fifo"])
def test_what_is_no_file_is_refused_and_stays(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path("special")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("special")
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    else:
        os.mkfifo("special" if kind == "fifo" else "far")
        if kind != "fifo":
            path.symlink_to("far")
    before = os.lstat(path)
    model, data = nn.Sequential(nn.Dense(2), input_shape=3), (np.zeros((4, 3), np.float32), np.zeros(4, int))
    for use in (
        lambda: put(path, "x"),
        lambda: tn.save(model, path),
        lambda: tn.fit(model, data, checkpoint=path, verbose=False),
        lambda: tn.fit(model, data, csv=path, verbose=False),
    ):
        with pytest.raises(OSError, match=r"no regular file|is a folder"):
            use()
    after = os.lstat(path)
    assert (after.st_ino, stat.S_IFMT(after.st_mode)) == (before.st_ino, stat.S_IFMT(before.st_mode))


@posix
def test_file_and_folder_reach_the_disk_in_this_order(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(fd):
        calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"file of {os.fstat(fd).st_size}")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    put(tmp_path / "file", "abc")
    assert calls == ["file of 3", "replace", "folder"]


def test_places_are_tried_without_a_trace(tmp_path):
    check_writable(tmp_path / "new" / "file")
    assert os.listdir(tmp_path) == ["new"] and os.listdir(tmp_path / "new") == []
    put(tmp_path / "file", "old")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    for bad in tmp_path / "file" / "below", tmp_path / ("x" * 256), tmp_path / "new":
        with pytest.raises(OSError) as caught:
            check_writable(bad)
        assert ".tmp" not in str(caught.value)


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("mode", [0o555, 0o1777], ids=["read-only", "sticky"])
def test_places_of_others_are_refused(mode, tmp_path):
    path = tmp_path / "shared" / "file"
    put(path, "root's")
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        if folder != Path("/tmp") and os.stat(folder).st_uid == 0:
            os.chmod(folder, os.stat(folder).st_mode | 0o111)
    path.parent.chmod(mode)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match="file"):
            check_writable(path)
    finally:
        os.seteuid(0)
    assert path.read_text() == "root's" and os.listdir(path.parent) == ["file"]
