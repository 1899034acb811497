"""Downloads against a server on this machine that cuts, spoils, stalls, refuses, and ignores ranges."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tinynet.data import DataError, datasets, mnist
from tinynet.data.datasets import IDX_FILES
from tinynet.data.download import fetch

CONTENT = np.random.default_rng(0).integers(0, 40, 300_000, np.uint8).tobytes()
FILE = gzip.compress(CONTENT)
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; `server.plan` says, request by request, what goes wrong ("" nothing)."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        plan = server.plan.pop(0) if server.plan else ""
        data = server.files.get(self.path)
        if plan.isdigit() or data is None:
            return self.send_error(int(plan or 404))
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and plan != "no ranges" else 0
        if asked and start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if plan == "wrong range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if plan not in ("no length", "endless"):
            self.send_header("Content-Length", str(10**12 if plan == "huge" else len(data) - start))
        self.end_headers()
        body = data[start:]
        if plan == "spoil":
            body = body[:1000] + bytes(500) + body[1500:]
        if plan in ("cut", "stall"):
            body = body[: len(body) // 2]
        try:
            self.wfile.write(body)
            self.wfile.flush()
            if plan == "endless":
                while True:
                    self.wfile.write(bytes(1 << 16))
        except OSError:
            return
        if plan == "stall":
            server.release.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.plan, server.requests, server.release = {"/f.gz": FILE}, [], [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    def call(*plan, path="/f.gz", sum=SUM, **options):
        server.plan[:] = plan
        return fetch(
            [server.url + path], tmp_path / "new" / "f.gz", sum, **{"timeout": 5, "wait": 0, "attempts": 3, **options}
        )

    call.part = tmp_path / "new" / "f.gz.part"
    call.target = tmp_path / "new" / "f.gz"
    return call


def whole(get):
    assert get.target.read_bytes() == FILE
    assert [p.name for p in get.target.parent.iterdir()] == ["f.gz"]


def ranges(server):
    return [asked for _, asked in server.requests]


def test_good(get, server):
    assert get() == get.target
    whole(get)
    assert ranges(server) == [None]


def test_length_not_told(get):
    get("no length")
    whole(get)


def test_cut_short_goes_on_where_it_stopped(get, server):
    get("cut", "cut")
    whole(get)
    half = len(FILE) // 2
    assert ranges(server) == [None, f"bytes={half}-", f"bytes={half + (len(FILE) - half) // 2}-"]


def test_cut_short_every_time_leaves_only_the_part(get, server):
    with pytest.raises(DataError, match=r"the connection ended after [\d,]+ of"):
        get("cut", "cut", "cut")
    assert not get.target.exists() and 0 < get.part.stat().st_size < len(FILE)
    get()
    whole(get)
    assert ranges(server)[-1].startswith("bytes=")


def test_server_without_ranges_starts_anew(get):
    get("cut", "no ranges")
    whole(get)


def test_wrong_range_is_not_appended(get, server):
    get("cut", "wrong range")
    whole(get)
    assert ranges(server)[-1] is None


def test_part_that_is_whole_already(get, server):
    get.part.parent.mkdir()
    get.part.write_bytes(FILE)
    get()
    whole(get)


def test_part_that_is_rubbish_is_replaced(get):
    for rubbish in (bytes(100), bytes(len(FILE)), bytes(2 * len(FILE))):
        get.part.parent.mkdir(exist_ok=True)
        get.part.write_bytes(rubbish)
        get()
        whole(get)
        get.target.unlink()


def test_spoilt_is_fetched_again(get):
    get("spoil")
    whole(get)


def test_spoilt_every_time_is_refused(get):
    with pytest.raises(DataError, match="is not the published file"):
        get("spoil", "spoil", "spoil")
    assert not list(get.target.parent.iterdir())


def test_another_file_is_refused(get):
    with pytest.raises(DataError, match=f"SHA-256 {SUM}, not 00"):
        get(sum="0" * 64)
    assert not get.target.exists()


def test_sum_of_the_file_itself(get):
    get(sum=hashlib.sha256(FILE).hexdigest(), unpack=False)
    whole(get)


def test_stalled_times_out_and_goes_on(get, server):
    begin = time.monotonic()
    get("stall", timeout=0.3)
    assert time.monotonic() - begin < 15
    whole(get)
    assert ranges(server)[1].startswith("bytes=")


def test_stalled_every_time(get):
    with pytest.raises(DataError, match="timed out"):
        get("stall", "stall", timeout=0.2, attempts=2)
    assert not get.target.exists() and get.part.exists()


@pytest.mark.parametrize("code", ["403", "404"])
def test_refused_is_not_asked_again(get, server, code):
    with pytest.raises(DataError, match=f"the server answers {code}"):
        get(code)
    assert len(server.requests) == 1
    assert not list(get.target.parent.iterdir())


def test_busy_is_asked_again(get, server):
    get("503", "429")
    whole(get)
    assert len(server.requests) == 3


def test_nobody_there(tmp_path, server):
    with pytest.raises(DataError, match=r"refused(.|\n)*refused"):
        fetch(["http://127.0.0.1:1/f.gz", "http://127.0.0.1:1/g.gz"], tmp_path / "f.gz", SUM, wait=0)
    assert fetch(["http://127.0.0.1:1/f.gz", server.url + "/f.gz"], tmp_path / "f.gz", SUM, wait=0).exists()


def test_too_much_is_refused(get):
    with pytest.raises(DataError, match="offers 1,000,000,000,000 bytes"):
        get("huge", attempts=1)
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        get("endless", attempts=1, limit=1_000_000)
    assert not get.target.exists()


def test_other_schemes_are_refused(tmp_path):
    with pytest.raises(DataError, match="must start with http"):
        fetch([f"file://{tmp_path}/x"], tmp_path / "f", SUM)


def test_interrupted_leaves_a_part_to_go_on_with(get, server, monkeypatch):
    from tinynet.data import download

    class Interrupting(download.Bar):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "Bar", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            get()
    assert not get.target.exists() and 0 < get.part.stat().st_size < len(FILE)
    get()
    whole(get)
    assert ranges(server)[-1] is not None


@pytest.fixture
def published(monkeypatch):
    """A tiny MNIST, as its publisher would serve it."""
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784)
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 3, 4])
    contents = dict(zip(IDX_FILES, (images, labels, images, labels), strict=True))
    sums = {f"{name}.gz": hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(datasets, "MNIST", datasets.MNIST._replace(sums=sums, urls=("http://127.0.0.1:1",)))
    return {f"/pub/mnist/{name}.gz": gzip.compress(data) for name, data in contents.items()}


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_mnist_from_a_mirror_once(server, published, tmp_path, monkeypatch, how):
    server.files = published
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setenv("TINYNET_MIRROR", server.url + "/pub" if how == "environment" else "http://127.0.0.1:1")
    mirror = server.url + "/pub/" if how == "argument" else None
    for _ in range(2):
        (_, y), _ = mnist(mirror=mirror)
        assert y.tolist() == [3, 4]
    assert len(server.requests) == 4
    kept = sorted(path.name for path in (tmp_path / "tinynet/mnist").iterdir())
    assert kept == sorted(f"{name}.gz" for name in IDX_FILES)


def test_mnist_not_to_be_had_says_what_to_do(server, tmp_path):
    with pytest.raises(DataError, match=r"404(.|\n)*TINYNET_MIRROR, or put train-images-idx3-ubyte\.gz"):
        mnist(tmp_path, mirror=server.url)
