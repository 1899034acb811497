"""The tests marked `gpu` without one: on CuPy's own arrays over host memory, where its wheel is installed; and the one
command for a GPU, `benchmarks/gpu_all.py`, on the stand-in for CuPy."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinynet as tn

ROOT = Path(__file__).resolve().parent.parent
WHEEL = (
    "the tests marked gpu run on the device here"
    if tn.backends.why_not("cupy") is None
    else None
    if importlib.util.find_spec("cupy")
    else "needs CuPy's wheel: pip install '.[test-gpu]'"
)
pytestmark = pytest.mark.skipif(tn.backends.why_not("simulator") is not None, reason="needs the simulator")


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(WHEEL is not None, reason=WHEEL or "")
def test_the_gpu_tests_pass_on_cupys_arrays(tmp_path):
    """Shapes, strides, views and attributes are CuPy's; a kernel of its own could not be launched."""
    said = run(
        "-m",
        "pytest",
        "tests",
        "-m",
        "gpu",
        "-n",
        "0",
        "-p",
        "tests.cupy_on_host",
        "-p",
        "no:cacheprovider",
        TINYNET_CUPY_ON_HOST="arrays",
        CUPY_CACHE_DIR=str(tmp_path),
    )
    assert int(re.search(r"(\d+) passed", said)[1]) > 300 and "failed" not in said


def test_the_command_for_a_gpu_runs(tmp_path):
    """On the stand-in and at tiny sizes: a typo would cost device time."""
    parts = ["starts", "first", "copies", "captured", "kernels", "sanitizer", "profile"]
    out = tmp_path / "results.jsonl"
    run("benchmarks/gpu_all.py", "--stand-in", "--out", str(out), "--only", *parts)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["part"] for row in rows if row.get("ok")] == ["start", *parts]
    assert all(row.get("good", True) for row in rows) and not any(row.get("late") for row in rows)
    assert all("seconds" in row for row in rows[1:])


FAULTY = """
import sys, time
sys.path.insert(0, "benchmarks")
import gpu_all

def good(options):
    "Good."
    yield {"check": "a", "good": True}

def bad(options):
    "Bad."
    yield {"check": "b", "good": False}
    print("no JSON")

def dies(options):
    "Dies."
    yield {"check": "c", "good": True}
    raise RuntimeError("the device is lost")

def hangs(options):
    "Hangs."
    yield {"check": "d", "good": True}
    time.sleep(600)

gpu_all.PARTS = {f.__name__: (1 if f is hangs else 60, f) for f in (good, bad, dies, hangs)}
gpu_all.__file__ = __file__
if __name__ == "__main__":
    gpu_all.missing = lambda options: ["the module x"] if "--lacks" in sys.argv else []
    sys.exit(gpu_all.main([a for a in sys.argv[1:] if a != "--lacks"]))
"""


def test_a_part_costs_no_other_its_time(tmp_path):
    """One that fails, dies or hangs ends by itself or at its limit, what it found is kept, and the next one runs."""
    script, out = tmp_path / "parts.py", tmp_path / "results.jsonl"
    script.write_text(FAULTY)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}

    def rows(*options):
        done = subprocess.run(
            [sys.executable, str(script), "--out", str(out), *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, [json.loads(line) for line in out.read_text().splitlines()]

    code, found = rows()
    assert code == 1
    ends = {row["part"]: (row["ok"], row.get("late")) for row in found if "ok" in row}
    assert ends == {
        "start": (True, None),
        "good": (True, False),
        "bad": (False, False),
        "dies": (False, False),
        "hangs": (False, True),
    }
    assert [row["check"] for row in found if "check" in row] == ["a", "b", "c", "d"]
    assert {row["printed"] for row in found if "printed" in row} == {"no JSON"}
    assert "the device is lost" in next(row["error"] for row in found if row["part"] == "dies" and "error" in row)
    assert rows("--lacks") == (2, [found[0] | {"ok": False, "missing": ["the module x"]}])
