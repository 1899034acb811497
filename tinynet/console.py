"""What people see: text from anywhere made harmless, streams of any kind, bars that no environment can break."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

try:
    from tqdm import tqdm
except ValueError:  # the environment has a setting for tqdm, such as TQDM_NCOLS, that it cannot read
    _hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("TQDM_")}
    try:
        from tqdm import tqdm
    finally:
        os.environ.update(_hidden)


def plain(value: object, limit: int = 200) -> str:
    """The value as one line of harmless text.

    Whatever is not printable (escape sequences, line ends, marks that turn the direction of writing, surrogates) is
    shown as Python writes it, `\\x1b`; of more than `limit` characters the middle is left out.
    """
    text = str(value)
    if len(text) > limit:  # before the escaping, which a text of megabytes need not go through
        ends = (limit - 1) // 2
        text = f"{text[: limit - 1 - ends]}…{text[len(text) - ends :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def message(error: BaseException) -> str:
    """An error's message, or its class: the line ends are kept, all else is `plain`."""
    return "\n".join(plain(line, 2000) for line in (str(error) or type(error).__name__).splitlines()[:20])


def harmless(text: str) -> str:
    """A text of many lines, each of them `plain`."""
    return "\n".join(plain(line, len(line) + 1) for line in text.split("\n"))


def say(text: str = "", stream: Any = None) -> None:
    """Print a line at once, to standard output or `stream`, whatever kind of object that is.

    Characters that its encoding lacks become "?". A process may have no standard output (None): then nothing is done.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None:
        return
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError as error:
        stream.write(text.encode(error.encoding, "replace").decode(error.encoding, "replace") + "\n")
    if hasattr(stream, "flush"):
        stream.flush()


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; the stand-ins of notebooks and loggers, and a closed one, are none."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


class Bar(tqdm):
    """A tqdm bar without its thread, so that processes may be forked beside it, and without its settings from the
    environment (some would make it fail as it is drawn), but for TQDM_DISABLE, which is obeyed."""

    monitor_interval = 0

    def __init__(self, *, disable: bool = False, **options: Any):
        disable |= os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false")
        init = vars(tqdm)["__init__"]
        getattr(init, "func", init)(self, disable=disable, **options)  # .func: without the environment's settings


def columns(stream: Any) -> int:
    """The width of a terminal; 80 where that is not known, and 200 in a notebook, whose lines fold."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except Exception:  # no terminal, or a stand-in for one
        return 200 if in_notebook() else 80


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, which shows what is printed in a web page."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def bar(stream: Any, **options: Any) -> Any:
    """A bar on `stream`: a widget in a notebook that has ipywidgets, else text."""
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as widget  # it looks for ipywidgets as it is imported

        made = type("NotebookBar", (widget,), {"monitor_interval": 0})  # without a thread, as Bar
        return made(file=stream, dynamic_ncols=True, **options)
    return Bar(file=stream, dynamic_ncols=True, **options)
