"""Fetching a published file: with progress, resume, a check, and never half a file in its place."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..console import Bar, is_terminal, plain, say
from .files import LIMIT, DataError, PathLike, reading

BLOCK = 1 << 16


def fetch(
    urls: Sequence[str],
    target: Path,
    sha256: str,
    *,
    timeout: float = 30,
    attempts: int = 4,
    wait: float = 1,
    limit: int = LIMIT,
    unpack: bool = True,
) -> Path:
    """Download a file to `target`, from the first of `urls` that has it whole; returns `target`.

    The bytes go to `target.part`; when its content has the SHA-256 sum, it is renamed, so `target` is whole
    or absent. A part file that is left behind (the network went, Ctrl-C) is where the next call goes on. With
    `unpack` the sum is that of a gzip file's content, which every mirror's compression has in common.

    Each url gets `attempts` tries, `wait` seconds apart (doubled each time), and gives up a try after
    `timeout` seconds without a byte. More than `limit` bytes are refused.

    Raises DataError, which names every url with what went wrong there; `target` is absent then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures, problem = [], ""
    for url in urls:
        say(f"{target.name}: asking {plain(url)}", sys.stderr)  # a server that does not answer takes its time
        if not re.match(r"https?://[^/]", url):
            raise DataError(f"a mirror's address must start with http:// or https://, got {url!r}")
        for attempt in range(attempts):
            if attempt:
                pause = wait * 2 ** (attempt - 1)
                say(f"{target.name}: {plain(problem)}; trying again in {pause:g} s", sys.stderr)
                time.sleep(pause)
            try:
                _transfer(url, part, timeout, limit)
                _check(part, sha256, unpack)
                os.replace(part, target)
                return target
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"the server answers {error.code} {error.reason}"
                if error.code < 500 and error.code not in (408, 429):
                    break  # asking again will not help
            except DataError as error:
                problem = str(error)
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
        failures.append(f"{url}: {problem}")
    raise DataError("\n  ".join([f"{target.name} could not be downloaded:", *failures]))


def sum_of(path: PathLike, unpack: bool = True) -> str:
    """The SHA-256 sum, in hex, of a file; with `unpack`, of the content of a gzip file."""
    total = hashlib.sha256()
    if unpack:
        with reading(path) as stream:
            _blocks(stream.read, total.update)
    else:
        with open(path, "rb") as file:
            _blocks(file.read, total.update)
    return total.hexdigest()


def _transfer(url: str, part: Path, timeout: float, limit: int) -> None:
    """Bring `part` to the full length of what the server has, from where it stops."""
    have = part.stat().st_size if part.exists() else 0
    # Without "identity" a server may compress on the way, and a range of that is not a range of the file.
    request = urllib.request.Request(url, headers={"User-Agent": "tinynet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing beyond what we have: let the sum decide
            error.close()
            return
        raise
    with answer:
        came = answer.headers.get("Content-Range", "")
        went_on = answer.status == 206 and came.startswith(f"bytes {have}-")
        if answer.status == 206 and not went_on:
            part.unlink(missing_ok=True)
            raise DataError("the server sent another part than asked for")
        have = have if went_on else 0
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length is not None else None
        if whole is not None and whole > limit:
            raise DataError(f"the server offers {whole:,} bytes; at most {limit:,} are taken")
        with (
            open(part, "ab" if went_on else "wb") as file,
            Bar(
                total=whole,
                initial=have,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=not is_terminal(sys.stderr),
            ) as bar,
        ):

            def write(block: bytes) -> None:
                nonlocal have
                have += len(block)
                if have > limit:
                    raise DataError(f"the server sent more than {limit:,} bytes")
                file.write(block)
                bar.update(len(block))

            _blocks(answer.read1, write)
            file.flush()
            os.fsync(file.fileno())
        if whole is not None and have < whole:
            raise DataError(f"the connection ended after {have:,} of {whole:,} bytes")


def _check(part: Path, sha256: str, unpack: bool) -> None:
    """Leave a part file whose content has this sum; remove any other and raise DataError."""
    try:
        found = sum_of(part, unpack)
    except DataError:
        found = "none: it is damaged"
    if found != sha256:
        part.unlink(missing_ok=True)
        raise DataError(f"what arrived is not the published file (SHA-256 {found}, not {sha256})")


def _blocks(read: Callable[[int], bytes], use: Callable[[bytes], Any]) -> None:
    while block := read(BLOCK):
        use(block)
