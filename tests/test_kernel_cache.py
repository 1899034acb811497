"""Compiled kernels: only whole ones of this user are loaded; every compiler and folder that fails says so."""

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tinynet import folders
from tinynet.backends import BackendError
from tinynet.backends.cuda import simulator
from tinynet.backends.cuda.simulator import KernelError
from tinynet.data import DataError, mnist
from tinynet.folders import cache_folder, who_else_may_write

ROOT = Path(__file__).parents[1]
root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give files to another user")


def source(answer):
    return f'extern "C" __attribute__((visibility("default"))) int answer() {{ return {answer}; }} // Σ\n'


def answer(number=42):
    return simulator.build(source(number), check=False).answer()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder, of a user who has compiled nothing."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    folders._temporary_of.cache_clear()
    simulator._note.cache_clear()
    yield tmp_path / "cache" / "tinynet" / "simulator"
    folders._temporary_of.cache_clear()


# ---- Damage --------------------------------------------------------------------------------------

DAMAGE = {
    "empty": lambda data: b"",
    "cut after a page": lambda data: data[:4096],
    "cut before its end": lambda data: data[:-1],
    "a byte changed": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "longer": lambda data: data + b"\0",
    "another file": lambda data: b"once upon a time",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_library_is_built_anew(folder, kind):
    assert answer() == 42
    (library,) = folder.iterdir()
    whole = library.read_bytes()
    (folder / "new").write_bytes(DAMAGE[kind](whole))
    os.replace(folder / "new", library)  # the process still has the old one mapped
    assert answer() == 42
    assert [p.read_bytes() for p in folder.iterdir()] == [whole]


def test_a_whole_library_of_another_system_is_built_anew(folder):
    assert answer() == 42
    (library,) = folder.iterdir()
    foreign = b"\x7fELF of a machine with another processor"
    library.unlink()
    name = f"{library.name.split('-')[0]}-{hashlib.sha256(foreign).hexdigest()[: simulator.DIGITS]}.so"
    (folder / name).write_bytes(foreign)
    assert answer() == 42
    assert [p.name for p in folder.iterdir()] == [library.name]


def test_what_is_there_is_not_compiled_again(folder, monkeypatch):
    assert answer() == 42
    monkeypatch.setattr(simulator, "_compile", None)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)  # nothing is written: a cache may be read-only
    assert answer() == 42


# ---- Others' code --------------------------------------------------------------------------------

OTHER = 65534
UNSAFE = {
    "everyone writes the folder": lambda f: f.chmod(0o777),
    "everyone may add to the folder": lambda f: f.chmod(0o1777),
    "everyone writes a folder above": lambda f: f.parents[1].chmod(0o777),
    "another group writes the folder": lambda f: (os.chown(f, -1, OTHER), f.chmod(0o770)),
    "another group writes a folder above": lambda f: (os.chown(f.parent, -1, OTHER), f.parent.chmod(0o775)),
    "another's folder": lambda f: os.chown(f, OTHER, OTHER),
    "another's folder above": lambda f: os.chown(f.parent, OTHER, OTHER),
}


@root
@pytest.mark.parametrize("kind", UNSAFE)
def test_code_that_others_could_plant_is_not_loaded(folder, tmp_path, kind, capfd):
    """The other user knows the name, as it is a sum of public text, and the sum of what they plant."""
    assert answer() == 42
    (library,) = folder.iterdir()
    key = library.name.split("-")[0]
    assert answer(13) == 13
    (evil,) = set(folder.iterdir()) - {library}
    os.replace(evil, folder / f"{key}-{evil.name.split('-')[1]}")
    library.unlink()
    UNSAFE[kind](folder)
    assert answer() == 42
    assert "compiled kernels are not kept" in capfd.readouterr().err
    assert answer() == 42
    assert not capfd.readouterr().err  # said once
    assert len(list((tmp_path / "tmp").glob("tinynet-*/*.so"))) == 1


@root
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_link_leads_to_the_folder_that_is_examined(folder, tmp_path, place, capfd):
    where = (folder, *folder.parents)[place]
    real = tmp_path / "real"
    real.joinpath(folder.relative_to(where)).mkdir(parents=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.symlink_to(real)
    assert answer() == 42 and not capfd.readouterr().err
    real.chmod(0o777)
    assert answer(43) == 43 and "every user may write" in capfd.readouterr().err


def test_the_cache_is_made_for_this_user_alone(folder):
    before = os.umask(0)
    try:
        assert answer() == 42
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in (folder, *folder.parents[:2])} == {0o700}
    assert who_else_may_write(folder.resolve()) is None


def test_a_group_of_this_user_alone_may_write(folder, monkeypatch):
    import grp

    folder.mkdir(parents=True)
    folder.chmod(0o770)
    me = pwd.getpwuid(os.getuid())
    status = os.stat(folder)
    monkeypatch.setattr(
        pwd, "getpwuid", lambda uid: pwd.struct_passwd((me.pw_name, "x", uid, status.st_gid, "", me.pw_dir, ""))
    )
    group = ["somebody", "x", status.st_gid, []]
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(group))
    assert "group" in who_else_may_write(folder)
    group[0] = me.pw_name
    assert who_else_may_write(folder) is None
    group[3] = [me.pw_name, "somebody"]
    assert "group" in who_else_may_write(folder)


# ---- No home -------------------------------------------------------------------------------------


@pytest.fixture
def homeless(folder, tmp_path, monkeypatch):
    """A user without HOME and without an entry in the user database, in a folder with one named ~."""
    (tmp_path / "~").mkdir()
    (tmp_path / "relative").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    return monkeypatch


@pytest.mark.parametrize(
    "variables",
    [{}, {"HOME": ""}, {"HOME": "~"}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "relative"}, {"XDG_CACHE_HOME": ""}],
)
def test_without_a_home(homeless, tmp_path, variables, capfd):
    for name, value in variables.items():
        homeless.setenv(name, value)
    assert cache_folder("simulator") is None
    assert answer() == 42
    assert "this user has no home folder" in capfd.readouterr().err
    assert not list((tmp_path / "~").iterdir()) and not list((tmp_path / "relative").iterdir())
    homeless.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    homeless.delenv("TINYNET_DATA", raising=False)
    with pytest.raises(DataError, match=r"mnist is in none of .*share.*TINYNET_DATA/mnist, or name a folder") as error:
        mnist()
    assert "\n" not in str(error.value)


def test_the_home_of_the_user_database(homeless, tmp_path):
    homeless.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("me", "x", uid, 0, "", str(tmp_path), "")))
    assert cache_folder("mnist") == tmp_path / ".cache" / "tinynet" / "mnist"
    homeless.setenv("HOME", "/elsewhere")
    assert cache_folder("mnist") == Path("/elsewhere/.cache/tinynet/mnist")
    homeless.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("mnist") == Path("/cache/tinynet/mnist")


@root
def test_data_beside_a_home_that_is_closed(tmp_path):
    """HOME=/root in a process of another user: files elsewhere are still found."""
    (tmp_path / "home").mkdir(mode=0o700)
    code = (
        "import os; from tinynet.data import DataError, mnist; os.setgid(12345); os.setuid(12345)\n"
        "try: mnist(download=False)\nexcept DataError as error: print(error)"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "TINYNET_DATA")}
    env |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "XDG_DATA_DIRS": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.startswith("mnist is in none of ") and not done.stderr


def test_no_folder_can_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="set XDG_CACHE_HOME or TMPDIR") as error:
        answer()
    assert "\n" not in str(error.value)


def test_the_temporary_folder_goes_with_its_process(folder, tmp_path):
    code = (
        "import os, sys; from tinynet import folders; from tinynet.backends.cuda import simulator\n"
        "b = lambda n: simulator.build(sys.argv[1].replace('42', str(n)), check=False).answer()\n"
        "assert b(42) == 42\n"
        "if os.fork() == 0: sys.exit(0)\n"  # a child's end leaves its parent's folder alone
        "os.wait(); assert b(43) == 43; import shutil, tempfile\n"
        "assert len(os.listdir(tempfile.gettempdir())) == 1\n"
        "shutil.rmtree(folders.temporary_folder()); assert b(44) == 44"
    )  # a cleaner came by
    env = os.environ | {"XDG_CACHE_HOME": "/dev/null", "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, source(42)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "tmp").iterdir())


# ---- Compilers -----------------------------------------------------------------------------------

COMPILERS = {
    "a mistake in Latin-1": (r"printf 'k.cu:3:1: error: f\374r' >&2; exit 1", KernelError, "k.cu:3:1: error: f"),
    "a mistake": (r"echo 'kernel.cu:3:1: error: no' >&2; exit 1", KernelError, "does not compile:\nkernel.cu:3:1"),
    "silent failure": ("exit 3", BackendError, "ended with status 3 and says nothing"),
    "no output": ("exit 0", BackendError, "made no library and says nothing"),
    "killed": ("echo hm >&2; kill -9 $$", BackendError, "was ended by signal 9: hm"),
    "hangs": ("sleep 1000 & wait", BackendError, r"did not end within 1 s"),
    "hangs deaf": ("exec <&-; trap '' INT TERM; sleep 1000", BackendError, r"did not end within 1 s"),
    "a full disk": ("echo 'x.s: No space left on device' >&2; exit 1", BackendError, "found no folder .* is full"),
    "no library": ('echo text > "${@: -1}"', BackendError, "found no folder .*(too short|invalid ELF|not a mach-o)"),
}


def compiler_that(says, tmp_path, monkeypatch, first="#!/bin/bash"):
    path = tmp_path / "compiler"
    path.write_text(f"{first}\n{says}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("kind", COMPILERS)
def test_a_compiler_that_fails(folder, tmp_path, monkeypatch, kind):
    says, error, match = COMPILERS[kind]
    compiler_that(says, tmp_path, monkeypatch)
    monkeypatch.setattr(simulator, "PATIENCE", 1)
    with pytest.raises(error, match=match):
        answer()
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kind == "no library" or not left


@pytest.mark.parametrize("first", ["#!/no/such/interpreter", "\x00\x01 no program"])
def test_a_compiler_that_does_not_start(folder, tmp_path, monkeypatch, first):
    compiler_that("", tmp_path, monkeypatch, first)
    with pytest.raises(BackendError, match=r"C\+\+ compiler .*compiler does not run: (No such file|Exec format)"):
        answer()


def test_the_compiler_speaks_english_and_writes_beside_the_library(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
    compiler_that('#!/bin/sh\necho "$LC_ALL $TMPDIR" >&2; exit 1', tmp_path, monkeypatch)
    with pytest.raises(KernelError, match=rf"\nC {folder}/"):
        answer()


def test_source_text_beyond_the_locale(tmp_path):
    """Σ in a comment, where Python's own encoding is ASCII."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k != "LANG"}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "XDG_CACHE_HOME": str(tmp_path)}
    code = (
        "from tinynet.backends.cuda import simulator; import sys; assert sys.flags.utf8_mode == 0\n"
        "print(simulator.build(ascii(sys.argv[1])[1:-1].encode().decode('unicode_escape'), check=False).answer())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source(42)], env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "42", done.stderr
