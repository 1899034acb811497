"""What was typed: the parser, kinds of arguments, and errors that suggest what was meant."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .. import backends
from ..console import plain

MOST_WORKERS = 1024  # processes


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat what was typed as harmless text."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message, 2000))


def debugging() -> bool:
    """Whether TINYNET_DEBUG asks for tracebacks."""
    return os.environ.get("TINYNET_DEBUG", "0") not in ("", "0")


class UsageError(ValueError):
    """What the user asked for makes no sense; the message says what would."""


def choose(what: str, name: str, names: Iterable[str]) -> str:
    """The name, if it is one of `names`; else a UsageError that suggests the nearest."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1, 0.5)
    raise UsageError(
        f"{what} {name!r} is unknown{f'; did you mean {near[0]!r}?' if near else '.'} There are: {', '.join(names)}"
    )


def chosen_backend(arguments: argparse.Namespace) -> str | None:
    """The backend that --backend or $TINYNET_BACKEND names, None where neither does."""
    given = getattr(arguments, "backend", None)
    name = given if given is not None else os.environ.get("TINYNET_BACKEND") or None
    return None if name is None else choose("TINYNET_BACKEND" if given is None else "--backend", name, backends.NAMES)


def count(text: str) -> int:
    return number(text, int, lambda n: n >= 1, "a whole number, 1 or more")


def seed(text: str) -> int:
    return number(text, int, lambda n: 0 <= n < 2**62, "a whole number from 0 to 2**62 - 1")


def rate(text: str) -> float:
    return number(text, float, lambda x: 0 < x < float("inf"), "a number above 0")


def temperature(text: str) -> float:
    return number(text, float, lambda x: 0 <= x < float("inf"), "a number, 0 or more")


def workers(text: str) -> int | str:
    return (
        "auto"
        if text == "auto"
        else number(text, int, lambda n: 1 <= n <= MOST_WORKERS, f"auto, or a whole number from 1 to {MOST_WORKERS:,}")
    )


def number(text: str, kind: Callable, fits: Callable, wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
