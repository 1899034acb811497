"""Contenders' processes as the parent sees them: environments, commands, memory, processor time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVS = Path(os.environ.get("TINYNET_BENCH_ENVS") or HERE / ".envs")
PROBE = """
import importlib.util, json
print(json.dumps([n for n in %r if importlib.util.find_spec(n)]))
"""


class Failed(Exception):
    """A worker cannot go on; `unsupported` where its engine lacks what the network needs."""

    def __init__(self, message: str, unsupported: bool = False):
        super().__init__(message)
        self.unsupported = unsupported


def environments(folder: Path, packages: set[str]) -> dict[str, str]:
    """{package: interpreter that can import it}: this one, and those of the virtual environments in `folder`.

    Where several have a package, the environment of the package's name wins, then the smallest.
    """
    found: dict[str, list[tuple]] = {}
    candidates = [sys.executable, *map(str, sorted(folder.glob("*/bin/python")))]
    for python in candidates:
        run = subprocess.run([python, "-c", PROBE % sorted(packages)], capture_output=True, text=True, check=False)
        names = json.loads(run.stdout) if run.returncode == 0 else []
        for name in names:
            own = Path(python).parent.parent.name.startswith(name)
            found.setdefault(name, []).append((not own and python != sys.executable, len(names), python))
    return {name: min(pythons)[2] for name, pythons in found.items()}


def settings(cores: int, tinynet: bool) -> dict[str, str]:
    """The environment variables of a worker."""
    env = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = str(cores)
    env.update(
        OMP_WAIT_POLICY="passive",
        TF_CPP_MIN_LOG_LEVEL="3",
        KERAS_BACKEND="tensorflow",
        JAX_PLATFORMS="cpu",
        CUDA_VISIBLE_DEVICES="",
        TORCHINDUCTOR_COMPILE_THREADS="1",
        PYTHONWARNINGS="ignore",
        MPLBACKEND="agg",
    )
    env.pop("PYTHONPATH", None)
    if tinynet:
        env["PYTHONPATH"] = str(HERE.parent)
    return env


class Worker:
    """A contender's process; `ask` sends a command and waits for the answer."""

    def __init__(self, python: str, spec: dict, *, log: Path, script: str = "worker.py"):
        self.log = log.open("w")
        self.process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            bufsize=1,
            start_new_session=True,
            env=settings(len(spec["cores"]), spec["module"] == "with_tinynet"),
        )
        self.pid = self.process.pid

    def read(self, timeout: float) -> dict:
        """The next answer."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
            how = f"ended with status {self.process.poll()}" if ready else f"gave no answer in {timeout:.0f} s"
            last = Path(self.log.name).read_text(errors="replace").strip().splitlines()[-1:]
            raise Failed(f"{how} {last[0][:200] if last else ''}".strip())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"], answer["unsupported"])
        return answer

    def ask(self, do: str, timeout: float = 180, **arguments) -> dict:
        """Send a command and give its answer."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read(timeout)

    def stop(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(OSError):
            self.process.stdin.write('{"do": "stop"}\n')
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return found


def fields(path: str) -> dict[str, int]:
    """The "Name: 123 kB" lines of a file in /proc, in bytes."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return {parts[0][:-1]: 1024 * int(parts[1]) for parts in lines if len(parts) == 3 and parts[2] == "kB"}


def memory(pid: int) -> int:
    """Bytes that a process and its children hold, what they share among them counted once.

    Pages of libraries' files count in full, though another contender may map the same file.
    """
    total = library = 0
    for one in tree(pid):
        with contextlib.suppress(OSError, KeyError):
            rollup, status = fields(f"/proc/{one}/smaps_rollup"), fields(f"/proc/{one}/status")
            total += rollup["Pss_Anon"] + rollup["Pss_Shmem"]
            library = max(library, status["RssFile"])
    return total + library


def high_water(pid: int) -> int:
    """The sum of the processes' own peaks (VmHWM): an upper bound, with imports, compilation and shared pages."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError, KeyError):
            total += fields(f"/proc/{one}/status")["VmHWM"]
    return total


def busy(pid: int) -> float:
    """Seconds of processor time that a process and its living children have spent."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Sampler:
    """Looks at a process's memory again and again while a `with` block runs; `peak` is the most that it saw."""

    def __init__(self, pid: int):
        self.pid, self.peak, self.stopped = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.stopped.is_set():
            self.peak = max(self.peak, memory(self.pid))
            self.stopped.wait(0.002)

    def __enter__(self) -> Sampler:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()


def cores_of(text: str) -> list[int]:
    """The cores that an option such as "0,1" names; by default all that this process may use."""
    return [int(c) for c in text.split(",") if c] or sorted(os.sched_getaffinity(0))


def scratch() -> Path:
    """A fresh folder for logs and weights."""
    return Path(tempfile.mkdtemp(prefix="tinynet-bench-"))
