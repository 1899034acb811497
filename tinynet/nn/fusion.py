"""The switch for fused operations: convolution → relu → max-pool, batch normalisation → relu, … in one step each."""

from __future__ import annotations

from ..backends.switches import Switch


def fusing() -> bool:
    """Whether fused operations may be used."""
    return set_fusion.now


class set_fusion(Switch, title="fusion"):
    """`set_fusion(False)` runs every layer as its own operation, from now on or for a `with` block.

    Fused and unfused agree to rounding; only speed and memory differ.
    """

    now = True

    def __init__(self, flag: bool):
        super().__init__(bool(flag))

    def __enter__(self) -> None:
        super().__enter__()
