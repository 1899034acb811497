"""Does anything that a file or a command line holds break tinynet? Thousands of damaged files, hundreds of lines.

    python benchmarks/fuzz.py [--files 500] [--lines 500] [--seed 0] [--only KIND …] [--out FILE.json]

`--files` are of each kind: checkpoints (their description and arrays are changed, the digest is right again), IDX
files, CIFAR-10 batches, pictures, .npy files, settings of runs. Each is read as tinynet reads it, in a process that is
forked for the kind; each command line runs in a process of its own. A file must be read, or refused by the one error
of its kind, in one line; a command must end with a status from 0 to 2, without a traceback, and write no control
characters. Nothing may take 5 s or 1 GB. Linux only. Prints counts and the worst; exit status 1 where anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import tinynet as tn
from tinynet import checkpoint, cli
from tinynet.cli import runs
from tinynet.data import DataError, read_cifar10, read_idx, read_image
from tinynet.saving.checkpoint import CheckpointError

SMALL = ("train", "--model", "mlp", "--samples", "64", "--epochs", "1", "--workers", "1")
SECONDS, BYTES = 5.0, 1 << 30
ADDRESSES = 4 << 30  # of a worker: what is over BYTES shall be measured, not kill the machine
NONSENSE: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    3,
    2**31,
    2**63,
    10**40,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "auto",
    "relu",
    "numpy",
    "x" * 5000,
    "\x1b[31m\x07",
    "a\nb",
    "\udc80",
    "$x^{$",
    "..",
    "/dev/zero",
    [],
    [1],
    [1] * 40,
    [[[]]],
    {},
    {"module": "Dense", "args": [3], "kwargs": {}},
    {"tuple": [1, 2]},
    {"named": "activation.relu"},
)


class Hang(BaseException):
    """It takes too long; no `except Exception` shall swallow it."""


# ---- damage -------------------------------------------------------------------------------------------------


def damage(good: bytes, rng: random.Random) -> bytes:
    """Cut, changed, extended, repeated, or noise; half of the changes within the first 64 bytes."""
    data, kind, at = bytearray(good), rng.randrange(7), rng.randrange(len(good))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at % 64 % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data) if rng.random() < 0.5 else min(64, len(data)))] = rng.randrange(256)
    elif kind == 3:
        data += rng.randbytes(rng.randrange(1, 50))
    elif kind == 4:
        del data[at : at + rng.randrange(1, 30)]
    elif kind == 5:
        place = rng.randrange(max(1, min(64, len(data)) - 4))
        data[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff"))
    else:
        data = bytearray(good[: rng.randrange(16)] + rng.randbytes(rng.randrange(300)))
    return bytes(data)


def distort(value: Any, rng: random.Random) -> Any:
    """JSON with one node replaced, deleted or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        act = rng.random()
        if act < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if act < 0.15:
            return value | {str(rng.choice(NONSENSE)): value[key]}
        return value | {key: distort(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        act = rng.random()
        new = [] if act < 0.1 else [value[at]] * 3 if act < 0.2 else [distort(value[at], rng)]
        return [*value[:at], *new, *value[at + 1 :]]
    return rng.choice(NONSENSE)


def distort_arrays(arrays: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    name = rng.choice(list(arrays))
    value, kind = arrays[name], rng.randrange(6)
    if kind == 0:
        return {k: v for k, v in arrays.items() if k != name}
    changed = [
        value,
        value.ravel()[:1],
        value.astype(np.int64),
        value.astype(np.float64),
        np.full_like(value, np.nan),
        value[None],
    ][kind]
    return arrays | {name if rng.random() < 0.9 else name + "x": changed}


# ---- the kinds of files -------------------------------------------------------------------------------------


def checkpoints(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    data = tn.data.synthetic_digits(64)
    nets = [
        tn.models.mlp().build((28, 28, 1)),
        tn.models.mnist_small(),
        tn.nn.Sequential(
            tn.nn.Conv2d(4, 3, activation="gelu"),
            tn.nn.AvgPool2d(2),
            tn.nn.Flatten(),
            tn.nn.Dropout(0.1),
            tn.nn.Dense(10),
            input_shape=(28, 28, 1),
        ),
    ]
    goods = []
    for i, net in enumerate(nets):
        tn.save(net, folder / f"{i}.st")
        tn.fit(net, data, checkpoint=folder / f"run{i}.st", verbose=False)
        goods += [checkpoint.read(folder / f"{i}.st"), checkpoint.read(folder / f"run{i}.st")]
    raw, path = (folder / "run0.st").read_bytes(), folder / "x.st"

    def use(resume: bool) -> None:
        model = tn.load(path)
        if model.built:
            tn.evaluate(model, (np.zeros((2, *model.built), np.float32), np.zeros(2, np.int64)))
        if resume:
            tn.fit(tn.models.mlp().build((28, 28, 1)), data, checkpoint=path, resume=True, epochs=1, verbose=False)

    while True:
        arrays, description = rng.choice(goods)
        if rng.random() < 0.2:
            path.write_bytes(damage(raw, rng))
        else:
            for _ in range(rng.randrange(1, 4)):
                description = distort(description, rng)
            checkpoint.write(path, distort_arrays(arrays, rng) if rng.random() < 0.3 else arrays, description)
        yield lambda: use(rng.random() < 0.3)


def idx(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 9, 8), np.uint8)
    good = b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes()
    path = folder / "x-idx3-ubyte"
    while True:
        data = damage(good, rng)
        path.write_bytes(rng.choice((data, gzip.compress(data), damage(gzip.compress(good), rng))))
        yield lambda: read_idx(path)


def cifar(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    good = np.random.default_rng(1).integers(0, 10, (3, 3073), np.uint8).tobytes()
    path = folder / "data_batch_1.bin"
    while True:
        path.write_bytes(damage(good, rng))
        yield lambda: read_cifar10(path)


def pictures(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    from PIL import Image

    array, goods, path = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8), [], folder / "x.png"
    for form, mode in (
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "LA"),
        ("JPEG", "RGB"),
        ("BMP", "RGB"),
        ("GIF", "P"),
        ("TIFF", "RGB"),
        ("TIFF", "1"),
        ("WEBP", "RGBA"),
        ("PPM", "L"),
    ):
        exif, packed = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        noted = {"exif": exif} if form in ("PNG", "JPEG", "TIFF", "WEBP") else {}
        Image.fromarray(array).convert(mode).save(packed, form, **noted)
        goods.append(packed.getvalue())
    while True:
        good = rng.choice(goods)
        data = damage(good, rng)
        if good.startswith(b"\x89PNG") and rng.random() < 0.5:  # another header, with the right sum
            sides = (rng.choice((1, 8, 9, 8000, 1 << 16, 1 << 24, (1 << 31) - 1)) for _ in range(2))
            head = b"IHDR" + struct.pack(">II", *sides) + good[24:29]
            data = good[:12] + head + struct.pack(">I", zlib.crc32(head)) + good[33:]
        path.write_bytes(data)
        shape = rng.choice((None, (28, 28, 1), (32, 32, 3)))
        yield lambda shape=shape: read_image(path, shape)


def npy(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    path = folder / "x.npy"
    while True:
        packed = io.BytesIO()
        np.save(packed, np.zeros((9, 8, 3), rng.choice((np.uint8, np.float32, bool, np.uint16, np.complex64, "S3"))))
        data = packed.getvalue()
        if rng.random() < 0.4:
            new = rng.choice([(9, 8), (10**9, 1), (0, 4), (-1, 8), (9, 8, 3, 1), (1 << 63, 1), ("a",), None, True])
            data = data.replace(b"(9, 8, 3)", repr(new).encode(), 1)
        path.write_bytes(damage(data, rng) if rng.random() < 0.7 else data)
        shape = rng.choice((None, (28, 28, 1)))
        yield lambda shape=shape: read_image(path, shape)


def settings(folder: Path, rng: random.Random) -> Iterator[Callable[[], Any]]:
    run = folder / "run"
    os.chdir(folder)
    quiet(lambda: cli.main([*SMALL, "--out", "run"]))
    np.save(folder / "digit.npy", np.zeros((28, 28), np.float32))
    good = json.loads((run / runs.SETTINGS).read_text()) | {"status": "interrupted"}
    # "--epochs 1", as a billion of epochs is honest work
    commands = ("predict --run run digit.npy", "train --resume run --epochs 1", "evaluate run")
    while True:
        changed = distort(good, rng)
        if isinstance(changed, dict) and changed.get("samples", 64) is None:
            changed["samples"] = 64  # all 40,000 digits are honest work, too
        text = json.dumps(changed).encode()
        (run / runs.SETTINGS).write_bytes(damage(text, rng) if rng.random() < 0.3 else text)
        line = rng.choice(commands)
        yield lambda line=line: command(line.split())


KINDS: dict[str, tuple[Callable, tuple[type, ...]]] = {
    "checkpoint": (checkpoints, (CheckpointError,)),
    "idx": (idx, (DataError,)),
    "cifar": (cifar, (DataError,)),
    "picture": (pictures, (DataError,)),
    "npy": (npy, (DataError,)),
    "settings": (settings, ()),
}


# ---- command lines ------------------------------------------------------------------------------------------

WORDS = (
    "train",
    "evaluate",
    "predict",
    "gradcheck",
    "doctor",
    "--help",
    "--version",
    "--model",
    "mlp",
    "--data",
    "digits",
    "mnist",
    "--epochs",
    "--batch-size",
    "--lr",
    "--optimizer",
    "sgd",
    "--backend",
    "simulator",
    "cupy",
    "--workers",
    "--seed",
    "--samples",
    "--out",
    "--resume",
    "--run",
    "run",
    "run/checkpoint.safetensors",
    "fifo",
    "digit.npy",
    "/dev/zero",
    "relu",
    "exp",
    "1",
    "2",
    "0",
    "-1",
    "1e309",
    "nan",
    "10" * 3000,
    "1_0",
    "٣",
    "",
    " ",
    "-",
    "--",
    "\x1b[31m",
    "a\nb",
    "\udcff",
    "x" * 5000,
    "run/..",
    "nowhere/x.png",
    ".",
    "=",
    "--lr=",
    "--epochs=x",
    "@file",
    "--out=run",
    "--trained",
    "-h",
    "💣",
    "%s",
    "{}",
    "$HOME",
)
STARTS = (
    [*SMALL],
    ["evaluate", "run"],
    ["predict", "digit.npy", "--run", "run"],
    ["gradcheck", "relu"],
    ["doctor"],
    ["train", "--resume", "run"],
    [],
)
SURROUNDINGS = ("TINYNET_BACKEND", "TINYNET_DATA", "XDG_CACHE_HOME", "COLUMNS", "CXX", "TQDM_DISABLE", "HOME")


def line(rng: random.Random) -> tuple[list[str], dict[str, str]]:
    """A command line and what stands in its environment."""
    words = [*rng.choice(STARTS)]
    for _ in range(rng.randrange(0, 5)):
        if words and rng.random() < 0.25:
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words.insert(rng.randrange(len(words) + 1), rng.choice(WORDS))
    if words[:1] == ["train"] and "--resume" not in words:  # the honest work of a default run takes a minute
        words += SMALL[3:]
    if words == ["gradcheck"]:
        words.append("relu")
    around = {rng.choice(SURROUNDINGS): rng.choice(WORDS)} if rng.random() < 0.3 else {}
    return words, around


def quiet(work: Callable[[], Any]) -> tuple[Any, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return work(), out.getvalue(), err.getvalue()


def command(words: list[str]) -> None:
    """Run the command here. AssertionError where it ends in another way than a command should."""
    status, out, err = quiet(lambda: cli.main(words))
    assert status in (0, 1, 2), f"status {status}"
    assert "Traceback" not in out + err and "TINYNET_DEBUG=1 shows where" not in err, f"an error of the program: {err}"
    assert all(c.isprintable() or c == "\n" for c in out + err), f"control characters: {out + err!r}"
    assert status == 0 or (out + err).strip(), "no word on what is wrong"
    assert len(err) < 5000, f"{len(err)} characters of error"


# ---- running ------------------------------------------------------------------------------------------------


def attempt(work: Callable[[], Any], errors: tuple[type, ...]) -> dict[str, Any]:
    """Do it, measured. Returns seconds, megabytes (the process's peak) and the outcome: ok, refused, or the fault."""

    def hang(*_: Any) -> None:
        raise Hang

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
    began, fault, outcome = time.perf_counter(), None, "ok"
    try:
        quiet(work)
    except errors as error:
        outcome = "refused"
        if "\n" in str(error):
            fault = f"an error of several lines: {error}"
    except Hang:
        fault = "it hangs: " + "".join(traceback.format_exc().splitlines(True)[-8:])
    except BaseException:
        fault = "".join(traceback.format_exc().splitlines(True)[-8:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.perf_counter() - began
    rows = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) / 1024
    if fault is None and (seconds > SECONDS or peak * 2**20 > BYTES):
        fault = f"it takes {seconds:.1f} s and {peak:.0f} MB"
    return {"seconds": seconds, "megabytes": peak, "outcome": "fault" if fault else outcome, "fault": fault}


def apart(work: Callable[[Callable[[dict], None]], None], patience: float) -> tuple[list[dict], str | None]:
    """Run work(report) in a forked process. Returns what it reported, and how it died, if it did."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            with open(writing, "w") as pipe:

                def report(row: dict) -> None:
                    pipe.write(json.dumps(row) + "\n")
                    pipe.flush()

                work(report)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, patience)
    with open(reading) as pipe:
        rows = [json.loads(row) for row in pipe]
    _, status = os.waitpid(pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return rows, None if status == 0 else f"the process died: wait status {status}"


def fuzz_files(kind: str, count: int, seed: int) -> list[dict]:
    make, errors = KINDS[kind]

    def work(report: Callable[[dict], None]) -> None:
        rng = random.Random(f"{kind} {seed}")
        with tempfile.TemporaryDirectory() as folder:
            cases = make(Path(folder), rng)
            for i in range(count):
                use = next(cases)
                report({"case": f"{kind} {i}"} | attempt(use, errors))

    rows, death = apart(work, 60 + count)
    return rows + (
        [{"case": f"{kind} {len(rows)}", "outcome": "fault", "fault": death, "seconds": 0, "megabytes": 0}]
        if death
        else []
    )


def _run_line(case: dict, words: list[str], around: dict[str, str], report: Callable[[dict], None]) -> None:
    os.environ.update(around)
    report(case | attempt(lambda: command(words), ()))


def fuzz_lines(count: int, seed: int) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        quiet(lambda: cli.main([*SMALL, "--out", "run"]))
        np.save("digit.npy", np.zeros((28, 28), np.float32))
        os.mkfifo("fifo")
        for i in range(count):
            words, around = line(random.Random(f"line {seed} {i}"))
            case = {"case": f"line {i}: {words!r:.200} {around!r:.80}"}
            got, death = apart(partial(_run_line, case, words, around), 4 * SECONDS)
            rows += got or [case | {"outcome": "fault", "fault": death, "seconds": 0, "megabytes": 0}]
        os.chdir("/")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("--files", 500), ("--lines", 500), ("--seed", 0)):
        parser.add_argument(name, type=int, default=usual)
    parser.add_argument("--only", nargs="+", choices=[*KINDS, "line"], default=[*KINDS, "line"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out and arguments.out.resolve()
    warnings.simplefilter("ignore")
    os.environ["TINYNET_MIRROR"] = "none"  # no network
    sys.modules["tinynet.insight.plots"].can_plot = lambda: False  # drawing takes seconds, and has tests of its own
    result: dict[str, Any] = {}
    for kind in arguments.only:
        rows = (
            fuzz_lines(arguments.lines, arguments.seed)
            if kind == "line"
            else fuzz_files(kind, arguments.files, arguments.seed)
        )
        counts = Counter(row["outcome"] for row in rows)
        slow, big = (max(rows, key=lambda row: row[what]) for what in ("seconds", "megabytes"))
        result[kind] = {
            "cases": len(rows),
            **{name: counts[name] for name in ("ok", "refused", "fault")},
            "worst_seconds": round(slow["seconds"], 3),
            "worst_megabytes": round(big["megabytes"], 1),
            "slowest": slow["case"],
            "largest": big["case"],
        }
        print(
            f"{kind:<11} {len(rows):>5} cases: {counts['ok']:>4} read or done, {counts['refused']:>4} refused, "
            f"{counts['fault']:>3} faults; worst {slow['seconds']:.2f} s, {big['megabytes']:.0f} MB",
            flush=True,
        )
        for row in rows:
            if row["outcome"] == "fault":
                print(f"  FAULT {row['case']}\n    " + row["fault"].strip().replace("\n", "\n    "), flush=True)
    if out:
        with checkpoint.replacing(out) as temporary:
            text = json.dumps({"seed": arguments.seed, "numpy": np.__version__, "kinds": result}, indent=2)
            temporary.write_text(text + "\n")
    return int(any(row["fault"] for row in result.values()))


if __name__ == "__main__":
    sys.exit(main())
