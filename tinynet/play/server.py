"""The page's server: this machine alone can reach it, and only who knows its address.

Every path begins with a token that is drawn anew at each start. A request is refused, with a sentence, where its Host
is not this server (a foreign name may be made to point here: DNS rebinding), where its Origin is another page's, or
where its body is larger than `LARGEST`.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..console import message
from .asked import PlayError
from .session import Session

HOST = "127.0.0.1"
LARGEST = 8_000_000  # bytes of a request
PATIENCE = 30  # seconds that a connection may stay silent
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "bytes": "application/octet-stream",
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Serves one session. `address` is what to open.

    Args: port: 0 for a free one. Raises: OSError where the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0):
        self.session, self.token = session, secrets.token_urlsafe(16)
        super().__init__((HOST, port), Handler)
        self.address = f"http://{HOST}:{self.server_port}/{self.token}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def server_bind(self) -> None:
        """Without asking for the machine's name, for which the network might be asked."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        self.session.close()


class Refused(Exception):
    """A request that gets this status and sentence."""

    def __init__(self, status: HTTPStatus, text: str):
        super().__init__(text)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tinynet", ""
    timeout = PATIENCE
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one piece: two would wait for each other's acknowledgement

    def do_GET(self) -> None:
        try:
            self._check()
            kind, answer = self._answer(self._body())
            self._send(HTTPStatus.OK, kind, answer)
        except Refused as refused:
            self._refuse(refused)
        except PlayError as error:
            self._refuse(Refused(HTTPStatus.BAD_REQUEST, message(error)))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # the page says it, and the server goes on
            text = f"{message(error)} ({type(error).__name__})"
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, text))

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal is the user's."""

    def _answer(self, body: bytes) -> tuple[str, bytes]:
        """(the kind, the bytes) of the answer to a request that may be made."""
        place = urlsplit(self.path)
        _, token, name = (*place.path.split("/", 2), "")[:3]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "open the address that tinynet play printed: this one is of no server")
        if name.startswith("api/"):
            return self._api(name.removeprefix("api/"), parse_qs(place.query).get("q", ["{}"])[0], body)
        if self.command != "GET":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "files are only read")
        name = name or "index.html"
        found = {path.name: path for path in files(__package__).joinpath("static").iterdir()}.get(name)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {name} here")
        return KINDS[name.rpartition(".")[2]], found.read_bytes()

    def _api(self, name: str, query: str, body: bytes) -> tuple[str, bytes]:
        act = self.server.session.acts.get((self.command, name))
        if act is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"the server does not know {self.command} {name}")
        try:
            request = json.loads(query)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "q must be an object in JSON")
        answer = act(request, body)
        if isinstance(answer, bytes):
            return KINDS["bytes"], answer
        return KINDS["json"], json.dumps(answer, allow_nan=False).encode()

    def _check(self) -> None:
        """Refused where the request is another page's."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this server is {HOST}, not {host[:80]!r}")
        if origin not in (None, f"http://{host}"):
            raise Refused(HTTPStatus.FORBIDDEN, "another page may not ask this server")

    def _body(self) -> bytes:
        """The request's body; Refused where it is too large, or its length is not told."""
        length = self.headers.get("Content-Length", "0" if self.command == "GET" else "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request must tell its length")
        left = int(length)
        if left <= LARGEST:
            return self.rfile.read(left)
        self.close_connection = True
        left = min(left, 4 * LARGEST)  # read on, or the browser would not hear the answer
        while left and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"this is {int(length) / 1e6:,.1f} MB; the page takes up to {LARGEST / 1e6:.0f} MB",
        )

    def _refuse(self, refused: Refused) -> None:
        self.close_connection |= self.command == "POST"  # its body may not have been read
        self._send(refused.status, KINDS["json"], json.dumps({"error": str(refused)}).encode())

    def _send(self, status: HTTPStatus, kind: str, answer: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(answer))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)
