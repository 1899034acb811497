"""What a training run shows: a bar on terminals and in notebooks, of any width, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import time
import types

import pytest

from tests.training_runs import data, network
from tinynet import console
from tinynet.training import fit
from tinynet.training.progress import Display


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Slow:
    """Steps that take as long as larger networks' do."""

    def on_step_end(self, info):
        time.sleep(0.002)


def test_plain_lines_have_no_control_characters(capsys):
    fit(network(), data(), validation=data(50, 1), epochs=2)
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if "threads" not in line and "thread for" not in line]
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss ") and lines[1].endswith(" images/s")
    assert "val_accuracy" in lines[0] and "%" in lines[0] and shown.err == ""
    assert not set(shown.out) & {"\r", "\x1b", "\b"}


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    before = threading.active_count()
    fit(network(), data(200), batch_size=1, epochs=1, callbacks=[Slow()])  # the bar is drawn ten times a second
    shown = terminal.getvalue()
    assert "\r" in shown and "epoch 1/1" in shown and "images/s" in shown and "100% |" in shown and " left" in shown
    assert shown.splitlines()[-1].startswith("epoch 1/1  loss")
    assert threading.active_count() == before


class Clock:
    """A time of one's own for the display and for tqdm."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("tinynet.training.progress.time", self)

    def monotonic(self):
        return self.now


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of its own")
@pytest.mark.parametrize("samples", [60_000, None])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_what_a_terminal_shows_fits_its_width(width, samples, monkeypatch):
    import fcntl
    import pty
    import struct
    import termios

    clock = Clock(monkeypatch)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        display = Display(10, samples, stream=terminal)
        display.start(9, 0)
        if display.bar is not None:
            display.bar.mininterval = 0
        clock.now += 10
        display.step(30_000, {"loss": 1.98304, "accuracy": 0.8691, "top_5": 0.99, "an_error": 0.5, "none": None})
        display.note("validation")
        display.close()
    drawn = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed and all is read
        while part := os.read(master, 4096):  # a terminal may hand on its text in several parts
            drawn += part
    os.close(master)
    lines = re.split("[\r\n]+", drawn.decode())
    assert max(map(len, lines)) < max(width, 30)
    if width >= 40:
        (line,) = [line for line in lines if "loss 1.9830" in line]
        assert line.startswith("epoch 10/10" if width >= 60 or not samples else "10/10")
        for text, least in (("0:10 left", 60), ("accuracy 86.91%", 80), ("3,000/s", 120), ("an_error 0.5000", 120)):
            assert text not in line if width < least - 20 else text in line or width < least or samples is None
        if samples:
            assert " 50% |" in line and re.search(r"\|[█ ▏▎▍▌▋▊▉]{8,40}\|", line)
            assert any("validation" in line and "50%" in line for line in lines)


class Shell:
    kernel = object()


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_gets_a_bar(widgets, monkeypatch):
    """A widget where ipywidgets is installed, else a bar of text; standard output is no terminal there."""
    stream, made = io.StringIO(), []

    class Widget(console.Bar):
        def __init__(self, **options):
            made.append(self)
            super().__init__(**options)

    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=Shell))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", types.SimpleNamespace(tqdm=Widget))
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: widgets or None)
    threads = threading.active_count()
    for _ in range(2):  # a cell that is run again
        fit(network(), data(50), epochs=2)
    assert len(made) == (4 if widgets else 0) and all(bar.monitor_interval == 0 for bar in made)
    shown = stream.getvalue()
    assert "100% |" in shown and shown.count("epoch 2/2  loss") == 2 and threading.active_count() == threads


def test_a_shell_without_a_kernel_is_no_notebook(monkeypatch):
    for ipython in (types.SimpleNamespace(get_ipython=lambda: None), types.SimpleNamespace(get_ipython=object)):
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert not console.in_notebook()
    assert console.columns(io.StringIO()) == 80


def test_no_standard_output_is_no_mistake(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert len(fit(network(), data(50))) == 1


def test_long_epochs_say_something_in_a_log(monkeypatch):
    monkeypatch.setattr("tinynet.training.progress.PAUSE", 0.0)
    stream = io.StringIO()
    display = Display(3, 100, stream=stream)
    display.start(0, 0)
    display.step(40, {"loss": 0.5, "accuracy": 0.25})
    assert stream.getvalue().startswith("epoch 1/3  40/100  loss 0.5000  accuracy 25.00%")
