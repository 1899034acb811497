"""The page of `tinynet play`: draw and watch a network think, train one and watch it learn, read what it computes."""

from .server import Server
from .session import Network, Session

__all__ = ["Network", "Server", "Session"]
