"""The `tinynet` command."""

from .main import main
