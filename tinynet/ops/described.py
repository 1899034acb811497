"""What is the same for all operations: `help` shows signatures without quotes, and lists are arrays."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..integers import operand
from ..tensor import Tensor

DTYPES = {
    "int64": "Integers and bools are computed in int64.",
    "float64": "Integers and bools are computed in float64.",
    "kept": "Integers and bools keep their dtype.",
}


def describe(function: Callable, elementwise: bool) -> None:
    """Resolve the annotations of a composed operation; add shapes, result and errors to an elementwise one's text."""
    if not hasattr(function, "__signature__"):
        with contextlib.suppress(NameError):
            function.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    if elementwise and "Args:" not in (text := inspect.cleandoc(function.__doc__ or "")):
        operands = [name for name in inspect.signature(function).parameters if name in ("condition", "x", "y")]
        several = len(operands) > 1
        shapes = "of shapes that broadcast together as in NumPy; numbers take the tensor's dtype" if several else ""
        whole = DTYPES.get(getattr(function, "integers", ""), "")
        function.__doc__ = (
            f"{text}\n\nArgs: {', '.join(operands)}: {'tensors' if several else 'a tensor'}, arrays or numbers "
            f"{shapes or 'of any shape'}. {whole}\nReturns: a Tensor of {'the broadcast' if several else 'the same'} "
            f"shape.\nRaises: {'ValueError where shapes do not broadcast or backends differ; ' if several else ''}"
            f"TypeError for uint64 and for what is no real number."
        )


def with_lists(function: Callable) -> Callable:
    """A composed operation whose tensors may be given as lists, too, as those of `@op` may."""
    if hasattr(function, "integers"):  # made by @op
        return function
    parameters = enumerate(inspect.signature(function, eval_str=True).parameters.values())
    places = {key for i, p in parameters if p.annotation in (Tensor, Tensor | None) for key in (i, p.name)}

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if list in map(type, args):
            args = tuple([operand(x) if type(x) is list and i in places else x for i, x in enumerate(args)])
        if list in map(type, options.values()):
            options = {key: operand(x) if type(x) is list and key in places else x for key, x in options.items()}
        return function(*args, **options)

    return call
