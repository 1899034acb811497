"""Weights and layouts of other frameworks."""

from .layout import from_torch, to_torch
