"""What holds for a while: switches that are set for good or for a `with` block, and scopes that decorate functions."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, ClassVar


class Switch:
    """Sets a global value when it is made: for good, or, as `with Name(value):`, for the block's length.

    Each is a class of its own, `class set_speed(Switch, title="speed")`, that checks the value; `now` is what holds.
    One object may be entered again, also inside itself; each time the value is set.
    """

    now: ClassVar[Any] = None

    def __init_subclass__(cls, title: str):
        SWITCHES[title] = cls

    def __init__(self, value: Any):
        self.value, self.before, self.fresh = value, [self.put(value)], True

    @classmethod
    def put(cls, value: Any) -> Any:
        """Sets the value; returns the one before."""
        before, cls.now = cls.now, value
        return before

    @classmethod
    def get(cls) -> Any:
        """What holds, as a value that can be compared and written to a file."""
        return cls.now

    def __enter__(self) -> Any:
        if not self.fresh:
            self.before.append(self.put(self.value))
        self.fresh = False
        return self

    def __exit__(self, *_: object) -> None:
        self.put(self.before.pop())

    def __call__(self, *_: Any) -> Any:
        if self.fresh:  # it was set on the way here
            self.__exit__()
        name = type(self).__name__
        raise TypeError(f"{name} is no decorator; write `with {name}({self.value!r}):` inside the function")


SWITCHES: dict[str, type[Switch]] = {}  # by title


def snapshot() -> dict[str, Any]:
    """What all switches are at, by title: a run's settings, and what a copy of this process must have alike."""
    return {title: switch.get() for title, switch in SWITCHES.items()}


def decorated(scope: Callable[[], Any], function: Callable) -> Callable:
    """`function`, each call within a new `scope()`; of a generator, each of its steps, and nothing between them.

    Raises TypeError for a coroutine function, in whose pauses others would run within the scope, and for what is no
    function.
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(
            f"only functions are decorated with this, not {function!r:.60}; decorate the methods of a "
            "class, below @staticmethod, @classmethod and @property"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{getattr(function, '__qualname__', function)} is a coroutine function: others run while it "
            "waits; write a `with` block around those of its lines that do not await"
        )

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with scope():
            result = function(*args, **kwargs)
        return _steps(scope, result) if inspect.isgenerator(result) else result

    return wrapped


def _steps(scope: Callable[[], Any], generator: Any) -> Generator:
    """The same generator, each step within a scope of its own."""
    step: Any = generator.send
    sent: Any = None
    while True:
        try:
            with scope():
                value = step(sent)
        except StopIteration as stop:
            return stop.value
        try:
            step, sent = generator.send, (yield value)
        except GeneratorExit:
            with scope():
                generator.close()
            raise
        except BaseException as error:
            step, sent = generator.throw, error


def scope(function: Callable[..., Iterator]) -> Callable[..., Any]:
    """`contextlib.contextmanager`, whose results decorate generator functions rightly, too, and may be used again."""
    make = contextlib.contextmanager(function)

    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> _Scope:
        return _Scope(functools.partial(make, *args, **kwargs))

    return made


class _Scope:
    def __init__(self, make: Callable[[], contextlib.AbstractContextManager]):
        self.make = make
        self.entered: list[contextlib.AbstractContextManager] = []

    def __enter__(self) -> Any:
        manager = self.make()
        value = manager.__enter__()
        self.entered.append(manager)
        return value

    def __exit__(self, *error: Any) -> Any:
        return self.entered.pop().__exit__(*error)

    def __call__(self, function: Callable) -> Callable:
        return decorated(self.make, function)
