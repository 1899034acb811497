"""PyTorch's layouts to tinynet's and back. Nothing here imports PyTorch: arrays go in, NumPy arrays come out.

                      PyTorch             tinynet
    images            (N, C, H, W)        (N, H, W, C)
    conv weight       (F, C, KH, KW)      (KH, KW, C, F)
    dense weight      (out, in)           (in, out)

The first dense layer after Flatten also sees its inputs in another order (C, H, W against H, W, C); give the
shape of the flattened image as `image=(H, W, C)` to permute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = ("images", "conv", "dense", "plain")


def _kind(x: np.ndarray, kind: str | None, weights: bool) -> str:
    if x.dtype.hasobject:
        raise TypeError("from_torch, to_torch: want one array or tensor, or a state dict; of a model, its state_dict()")
    if kind is None:
        kind = {4: "conv" if weights else "images", 2: "dense"}.get(x.ndim, "plain")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind={kind!r:.60} is unknown; choose one of {', '.join(KINDS)}")
    if kind != "plain" and x.ndim != (2 if kind == "dense" else 4):
        raise ValueError(f"kind={kind!r} does not fit an array of shape {x.shape}")
    return kind


def _host(x: Any) -> np.ndarray:
    for step in ("detach", "cpu", "numpy"):  # a torch tensor, or a Tensor
        x = getattr(x, step)() if hasattr(x, step) else x
    return np.asarray(x)


def from_torch(value: Any, kind: str | None = None, *, image: Any = None) -> Any:
    """A PyTorch array in tinynet's layout, or a whole state dict of weights.

    Args:
        value: an array or torch tensor, or a mapping of names to them (a state dict).
        kind: "images", "conv", "dense" or "plain". By default 4 axes are images (in a state dict: convolution
            weights), 2 axes dense weights, others stay as they are.
        image: (H, W, C) of the image that was flattened before this dense weight; for a state dict a mapping from
            the weight's name.
    Returns: a C-contiguous NumPy array of its own memory, or a dict of them, that `load_state_dict` takes.
    Raises: ValueError where an image is not of as many numbers as the weight has inputs, or of no weight here.
    """
    if isinstance(value, Mapping):
        images = _images(value, image)
        return {name: _from(_host(x), kind, images.get(name), True) for name, x in value.items()}
    return _from(_host(value), kind, image, False)


def _images(state: Mapping, image: Any) -> Mapping:
    """`image` of a state dict, checked."""
    if image is not None and not isinstance(image, Mapping):
        raise TypeError(f"image={image!r:.60}: of a state dict it must be a mapping, {{'fc.weight': (H, W, C)}}")
    if unknown := [name for name in image or () if name not in state]:
        raise ValueError(f"image: the state dict has no {unknown[0]!r:.60}; it has {', '.join(state):.200}")
    return image or {}


def _size(image: Any, x: np.ndarray) -> tuple[int, int, int]:
    """(H, W, C), where so many numbers are an input of the dense weight x (out, in)."""
    h, w, c = image
    if h * w * c != x.shape[1]:
        raise ValueError(f"image={tuple(image)} has {h * w * c} numbers, the weight takes {x.shape[1]} inputs")
    return h, w, c


def _from(x: np.ndarray, kind: str | None, image: Any, weights: bool) -> np.ndarray:
    kind = _kind(x, kind, weights)
    if kind == "dense":
        if image is not None:
            h, w, c = _size(image, x)
            x = x.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(x), -1)
        return np.array(x.T, order="C")
    axes = {"images": (0, 2, 3, 1), "conv": (2, 3, 1, 0)}.get(kind)
    return np.array(x.transpose(axes) if axes else x, order="C")


def to_torch(value: Any, kind: str | None = None, *, image: Any = None) -> Any:
    """The way back: tinynet's layout in PyTorch's. Arguments as `from_torch`; wrap with torch.from_numpy."""
    if isinstance(value, Mapping):
        images = _images(value, image)
        return {name: _to(_host(x), kind, images.get(name), True) for name, x in value.items()}
    return _to(_host(value), kind, image, False)


def _to(x: np.ndarray, kind: str | None, image: Any, weights: bool) -> np.ndarray:
    kind = _kind(x, kind, weights)
    if kind == "dense":
        x = x.T
        if image is not None:
            h, w, c = _size(image, x)
            x = x.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(len(x), -1)
    axes = {"images": (0, 3, 1, 2), "conv": (3, 2, 0, 1)}.get(kind)
    return np.array(x.transpose(axes) if axes else x, order="C")
