"""The switch for fused operations: conv → relu → max-pool, and dense → relu, in one step each."""

from __future__ import annotations

from ..backends.switches import Switch

_fusion = True


def fusing() -> bool:
    """Whether fused operations may be used."""
    return _fusion


class set_fusion(Switch):
    """`set_fusion(False)` runs every layer as its own operation, from now on or for a `with` block.

    Fused and unfused agree to rounding; only speed and memory differ.
    """

    def __init__(self, flag: bool):
        super().__init__(bool(flag))

    @staticmethod
    def put(flag: bool) -> bool:
        global _fusion
        before, _fusion = _fusion, flag
        return before

    def __enter__(self) -> None:
        super().__enter__()
