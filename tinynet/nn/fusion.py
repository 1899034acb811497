"""The switch for fused operations: conv → relu → max-pool, and dense → relu, in one step each."""

from __future__ import annotations

_fusion = True


def fusing() -> bool:
    """Whether fused operations may be used."""
    return _fusion


class set_fusion:
    """`set_fusion(False)` runs every layer as its own operation, from now on or for a `with` block.

    Fused and unfused agree to rounding; only speed and memory differ.
    """

    def __init__(self, flag: bool):
        global _fusion
        self._previous, _fusion = _fusion, bool(flag)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        global _fusion
        _fusion = self._previous
