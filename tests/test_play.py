"""The page's server, without a browser: who may ask, what it answers, and that its numbers are the network's."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.cli import main
from tinynet.cli.play import NETWORKS, Tools
from tinynet.data import synthetic_digits
from tinynet.play import Network, Server, Session, draw, plane, read, server
from tinynet.play.packed import packed, unpacked
from tinynet.play.watch import histogram
from tinynet.tensor import tensor

from .pages import page as page_of

STATIC = server.files("tinynet.play").joinpath("static")


class Client:
    """Asks one server as a page would."""

    def __init__(self, serving):
        self.serving = serving
        self.place = urlsplit(serving.address)

    def raw(self, method, path, body=None, headers=None):
        """(status, headers, body) of a request."""
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, method, name, request=None, body=b""):
        """The header and the arrays of an answer; its error where there is one."""
        path = f"{self.place.path}api/{name}?q={quote(json.dumps(request or {}))}"
        status, headers, answer = self.raw(method, path, body if method == "POST" else None)
        if headers["Content-Type"] == "application/octet-stream":
            return unpacked(answer)
        found = json.loads(answer)
        assert (status == 200) == ("error" not in found)
        return found

    def look(self, name, ink, **request):
        return self.ask("POST", name, {"from": "drawing", "height": 256, "width": 256, **request}, ink.tobytes())


def three():
    """A drawing (256, 256) as the page sends it."""
    digit = synthetic_digits(64, 5)[0][np.flatnonzero(synthetic_digits(64, 5)[1] == 3)[0], ..., 0]
    return np.pad(np.kron((digit * 255).astype(np.uint8), np.ones((8, 8), np.uint8)), 16)


@pytest.fixture
def client(monkeypatch):
    """A server with an untrained network, in a thread of this process."""
    monkeypatch.setattr("tinynet.cli.play.IMAGES", 400)
    tn.seed(3)
    model = tn.models.mnist_small()
    network = Network("run", model, [*"0123456789"], "digits", "untrained", lambda: synthetic_digits(30, 7))
    serving = Server(Session(network, Tools()))
    thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Client(serving)
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


# ---- who may ask ----------------------------------------------------------------------------------------------------


def test_the_page_and_its_files_come_with_the_token_alone(client):
    root = client.place.path
    status, headers, text = client.raw("GET", root)
    assert status == 200 and b"<title>tinynet play" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Referrer-Policy"] == "no-referrer"
    for path in ("/", "/x/", "/" + "a" * 22 + "/", f"{root[:-2]}/", "/é/".encode().decode("latin-1")):
        status, _, answer = client.raw("GET", quote(path))
        assert status == 403 and b"<title>" not in answer
    for name in ("../server.py", "%2e%2e/server.py", "static/app.js", "nothing.js", "app.js/"):
        assert client.raw("GET", root + name)[0] == 404
    assert client.raw("POST", root + "app.js", b"")[0] == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://127.0.0.1:{port}"}, 403),
    ],
)
def test_other_hosts_and_origins_are_refused(client, headers, status):
    sent = {name: value.format(port=client.place.port) for name, value in headers.items()}
    path = client.place.path + "api/state"
    got, _, answer = client.raw("GET", path, headers=sent)
    assert got == status and (status == 200 or "error" in json.loads(answer))


def test_it_listens_on_loopback_alone(client):
    assert client.serving.server_address[0] == "127.0.0.1"


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_ten_megabytes_are_refused_with_a_sentence(client):
    status, _, answer = client.raw("POST", client.place.path + "api/look", bytes(10_000_000))
    assert status == 413 and json.loads(answer)["error"] == "this is 10.0 MB; the page takes up to 8 MB"
    assert client.ask("GET", "state")["networks"]["run"]["about"] == "untrained"


@pytest.mark.parametrize("length", ["", "-1", "x", "²"])
def test_a_body_without_a_length_is_refused(client, length):
    path = client.place.path + "api/look"
    connection = http.client.HTTPConnection(client.place.hostname, client.place.port, timeout=60)
    connection.putrequest("POST", path)
    if length:
        connection.putheader("Content-Length", length.encode("utf-8"))
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


WRONG = [
    ("POST", "look", {}, b"", "must be a drawing or a picture"),
    ("POST", "look", {"from": "drawing", "height": 256, "width": 256}, b"123", "65,536 bytes, got 3"),
    ("POST", "look", {"from": "drawing", "height": 9999, "width": 1}, b"", "height must be a whole number"),
    ("POST", "look", {"from": "drawing", "height": True, "width": 1.5}, b"", "height must be a whole number"),
    ("POST", "look", {"from": "sample", "number": 99}, b"", "there are 30 samples"),
    ("POST", "look", {"from": "sample", "number": 1, "network": "training"}, b"", "train one on pictures"),
    ("POST", "unit", {"from": "sample", "number": 1, "layer": "nine", "channel": 0}, b"", "no such layer"),
    ("POST", "unit", {"from": "sample", "number": 1, "layer": "0", "channel": 32}, b"", "no such layer"),
    ("POST", "unit", {"from": "sample", "number": 1, "layer": "0", "channel": -1}, b"", "channel must be"),
    ("POST", "overlay", {"from": "sample", "number": 1, "what": "cam", "target": 10}, b"", "target must be"),
    ("POST", "overlay", {"from": "sample", "number": 1, "what": "dream", "target": 1}, b"", "what must be one of"),
    ("GET", "source", {"operation": "../conv"}, b"", "there is no '../conv'"),
    ("GET", "nothing", {}, b"", "does not know GET nothing"),
    ("POST", "train/run", {}, b"", "nothing in training yet"),
    ("POST", "train/rate", {"rate": 0}, b"", "a number above 0"),
    ("POST", "train/start", {"data": "spirals", "network": "16 x"}, b"", "activation must be"),
]


@pytest.mark.parametrize(("method", "name", "request_", "body", "said"), WRONG)
def test_what_makes_no_sense_is_told(client, method, name, request_, body, said):
    assert said in client.ask(method, name, request_, body)["error"]


def test_an_error_of_the_program_is_told_and_the_server_goes_on(client, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("of all things")

    monkeypatch.setitem(client.serving.session.acts, ("GET", "state"), fail)
    assert client.ask("GET", "state")["error"] == "of all things (ZeroDivisionError)"
    assert client.ask("GET", "source", {"operation": "relu"})["operation"] == "relu"


def test_packing():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 4)), "c": np.array([1, 2])}
    header, found = unpacked(packed({"é": [1, None]}, arrays))
    assert header == {"é": [1, None]} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


# ---- Draw -----------------------------------------------------------------------------------------------------------


def test_a_drawing_is_seen_as_the_network_learnt_them(client):
    """Centred by its mass in 28 × 28; the answers are the model's own."""
    header, arrays = client.look("look", three())
    model, image = client.serving.session.run.model, arrays["input"]
    assert image.shape == (28, 28, 1) and image.min() >= 0 and image.max() == 1 and not header["empty"]
    centre = (image.sum((1, 2)) @ np.arange(28) / image.sum(), image.sum((0, 2)) @ np.arange(28) / image.sum())
    np.testing.assert_allclose(centre, 14, atol=0.6)
    np.testing.assert_allclose(arrays["probabilities"], tn.predict(model, image[None])[0], atol=1e-6)
    assert [layer["kind"] for layer in header["layers"]] == ["conv", "max", "dense"]
    with tn.no_grad():
        for layer, depth in zip(header["layers"], (1, 2, 4), strict=True):
            expected = model[:depth](tensor(image[None])).numpy()[0]
            np.testing.assert_allclose(arrays[layer["name"]], expected, rtol=1e-5, atol=1e-6)
            assert layer["shape"] == list(expected.shape)


def test_where_it_is_drawn_and_how_large_does_not_matter(client):
    small = np.zeros((256, 256), np.uint8)
    small[3:115, 140:252] = three()[16:240:2, 16:240:2]
    a, b = (client.look("look", ink)[1]["input"] for ink in (three(), small))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


def test_nothing_drawn(client):
    header, arrays = client.look("look", np.zeros((256, 256), np.uint8))
    assert header["empty"] and not arrays["input"].any()


def test_a_sample_is_shown_with_its_class(client):
    x, y = synthetic_digits(30, 7)
    header, arrays = client.ask("POST", "look", {"from": "sample", "number": 4})
    np.testing.assert_array_equal(arrays["input"], x[4])
    assert header["truth"] == y[4]
    header, arrays = client.ask("GET", "samples", {"start": 24, "count": 24})
    np.testing.assert_array_equal(arrays["pictures"], x[24:])
    assert header == {"labels": y[24:].tolist(), "total": 30}


def test_a_picture_is_read_as_predict_reads_it(client):
    digit = synthetic_digits(64, 5)[0][3, ..., 0]
    photograph = page_of(np.random.default_rng(0), digit, height=300, width=400)
    pixels = (np.repeat(photograph[..., None], 3, axis=2) * 255).astype(np.uint8)
    request = {"from": "picture", "height": 300, "width": 400}
    image = client.ask("POST", "look", request, pixels.tobytes())[1]["input"]
    assert np.corrcoef(image.ravel(), digit.ravel())[0, 1] > 0.8
    blank = np.full((300, 400, 3), 200, np.uint8)
    assert "nothing is drawn" in client.ask("POST", "look", request, blank.tobytes())["error"]


def recomputed(header, arrays):
    """The map of a unit, computed from what the page was given, as unit.js does."""
    x, y = arrays["x"], arrays["y"]
    if header["kind"] == "dense":
        return np.atleast_1d(x @ arrays["w"] + header["bias"])
    (sh, sw), (dh, dw) = header["stride"], header["dilation"]
    kh, kw = arrays["w"].shape[:2] if header["kind"] == "conv" else header["kernel"]
    made = np.empty(y.shape)
    for i, j in np.ndindex(*y.shape):
        window = x[i * sh : i * sh + (kh - 1) * dh + 1 : dh, j * sw : j * sw + (kw - 1) * dw + 1 : dw]
        made[i, j] = (window * arrays["w"]).sum() + header["bias"] if header["kind"] == "conv" else window.max()
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: tn.models.mnist_small(),
        lambda: tn.nn.Sequential(
            tn.nn.Conv2d(4, (3, 2), padding="same", activation="tanh"),
            tn.nn.Conv2d(6, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="edge"),
            tn.nn.MaxPool2d(3, stride=2, padding=1),
            tn.nn.Flatten(),
            tn.nn.Dense(10),
            input_shape=(28, 28, 1),
        ),
    ],
)
def test_a_value_is_the_sum_of_what_is_shown(client, make):
    """Each kind of layer: the numbers that the page is given add up to the values of the map."""
    client.serving.session.run.model = make()
    layers = client.look("look", three())[0]["layers"]
    for layer in layers:
        channel = layer["shape"][-1] - 1
        header, arrays = client.look("unit", three(), layer=layer["name"], channel=channel)
        made = recomputed(header, arrays)
        if header["activation"]:
            made = getattr(ops, header["activation"])(tensor(made)).numpy()
        np.testing.assert_allclose(arrays["y"], made, rtol=1e-4, atol=1e-5)
        shown = client.look("look", three())[1][layer["name"]][..., channel]
        np.testing.assert_allclose(np.squeeze(arrays["y"]), shown, rtol=1e-5, atol=1e-6)


def test_the_receptive_field_holds_all_that_a_value_depends_on(client):
    """Ink outside of it changes nothing, ink within it does."""
    model = client.serving.session.run.model
    header, arrays = client.look("unit", three(), layer="1", channel=2)
    field, image = header["field"], client.look("look", three())[1]["input"]
    top, left = (int(field["start"][i] + 5 * field["jump"][i]) for i in (0, 1))
    assert field["size"] == [4, 4]
    rng = np.random.default_rng(0)
    noise = rng.random(image.shape).astype(np.float32)
    outside, inside = noise.copy(), image.copy()
    outside[top : top + 4, left : left + 4] = image[top : top + 4, left : left + 4]
    inside[top : top + 4, left : left + 4] = noise[top : top + 4, left : left + 4]
    with tn.no_grad():
        same, other = (model[:2](tensor(x[None])).numpy()[0, 5, 5, 2] for x in (outside, inside))
    np.testing.assert_allclose(same, arrays["y"][5, 5], rtol=1e-5)
    assert abs(other - same) > 1e-4


@pytest.mark.parametrize("what", draw.OVERLAYS)
def test_overlays_are_maps_over_the_picture(client, what):
    header, arrays = client.look("overlay", three(), what=what, target=7)
    assert arrays["map"].shape == (28, 28) and np.isfinite(arrays["map"]).all()
    if what == "toward":
        model, image = client.serving.session.run.model, client.look("look", three())[1]["input"]
        changed = image + arrays["map"][..., None]
        assert changed.min() >= 0 and changed.max() <= 1
        np.testing.assert_allclose(tn.predict(model, changed[None])[0, 7], header["probability"], atol=1e-3)
        assert header["probability"] > 1.5 * tn.predict(model, image[None])[0, 7] and 0 < header["steps"] <= 60


def test_colour_pictures_and_networks_of_no_pictures(client):
    client.serving.session.run = Network("run", tn.models.cifar_small(), [*"abcdefghij"], "cifar10")
    _, arrays = client.look("look", three())
    assert arrays["input"].shape == (32, 32, 3) and arrays["input"].max() == 1  # paper is white
    client.serving.session.run = Network("run", tn.models.mlp(4, 3), [*"abc"])
    assert "not pictures" in client.look("look", three())["error"]


def test_the_model_stays_as_it_was(client):
    model = client.serving.session.run.model
    model.train()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    for name in ("look", "unit", "overlay"):
        client.look(name, three(), layer="0", channel=0, what="toward", target=7)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


# ---- Train ----------------------------------------------------------------------------------------------------------

SPIRALS = {
    "data": "spirals",
    "network": "16 16",
    "activation": "relu",
    "optimizer": "adam",
    "rate": 0.01,
    "batch": 32,
}


def watch(client, until, since=-1):
    """The pictures of a training, until one is such."""
    for _ in range(6000):
        found = client.ask("GET", "train", {"since": since})
        if isinstance(found, tuple):
            since = found[0]["version"]
            if until(found):
                return found
        assert "error" not in found
        time.sleep(0.02)
    raise AssertionError(f"it never came; the last picture was number {since}")


def test_the_spirals_are_learnt_and_the_rate_changes_while_it_runs(client):
    client.ask("POST", "train/start", SPIRALS)
    header, arrays = watch(client, lambda found: True)
    assert header["step"] == 0 and not header["running"] and header["gradients"] == []
    client.ask("POST", "train/run")
    assert client.ask("POST", "train/rate", {"rate": 0.02}) == {"rate": 0.02}
    header, arrays = watch(client, lambda found: found[1]["tests"][-1, 2] >= 0.95 or found[0]["step"] > 5000)
    assert arrays["tests"][-1, 2] >= 0.95 and header["plan"]["rate"] == 0.02
    assert client.serving.session.training.optimizer.lr == 0.02
    client.ask("POST", "train/pause")
    header, arrays = watch(client, lambda found: not found[0]["running"])
    step = header["step"]
    client.ask("POST", "train/step")
    header, arrays = watch(client, lambda found: found[0]["step"] > step)
    assert header["step"] == step + 1 and not header["running"]
    assert arrays["losses"][-1, 0] == step + 1 and arrays["plane"].shape == (64, 64, 2)
    assert {f"hidden {i}" for i in (0, 1)} <= arrays.keys() and arrays["confusion"].sum() == 150
    for layer in header["activations"]:
        assert arrays[f"activation {layer['name']}"].sum() > 0 and 0 <= layer["zero"] <= 1
    assert [g["name"] for g in header["gradients"]] == ["0.weight", "1.weight", "2.weight"]


def test_the_plane_is_the_networks(client):
    """A point's colour is what the network says of it, the top row the largest y."""
    client.ask("POST", "train/start", SPIRALS | {"data": "blobs"})
    client.ask("POST", "train/step")
    header, arrays = watch(client, lambda found: found[0]["step"] == 1)
    model, shown = client.serving.session.training.model, header["shown"]
    at = (np.arange(64) + 0.5) / 64 * 2 * shown - shown
    points = np.array([[at[5], -at[60]], [at[40], -at[2]]], np.float32)
    np.testing.assert_allclose(arrays["plane"][[60, 2], [5, 40]], tn.predict(model, points), atol=1e-5)


def test_pictures_are_learnt_and_may_be_drawn_for(client):
    client.ask("POST", "train/start", SPIRALS | {"data": "digits", "network": "mnist_small", "rate": 0.003})
    for _ in range(3):
        client.ask("POST", "train/step")
    header, arrays = watch(client, lambda found: found[0]["step"] == 3)
    assert arrays["filters"].shape == (32, 3, 3, 1) and arrays["mistakes"].shape[1:] == (28, 28, 1)
    assert len(header["mistakes"]) == len(arrays["mistakes"]) > 0
    assert all(truth != said for truth, said in header["mistakes"])
    assert client.ask("GET", "state")["networks"]["training"]["samples"]
    assert client.look("look", three(), network="training")[1]["probabilities"].shape == (10,)


def test_drawing_goes_on_while_it_trains_in_two_tabs(client):
    client.ask("POST", "train/start", SPIRALS)
    client.ask("POST", "train/run")
    errors = []

    def draw_and_watch():
        try:
            for _ in range(5):
                client.look("look", three())
                client.ask("GET", "train", {"since": -1})
        except Exception as error:
            errors.append(error)

    tabs = [threading.Thread(target=draw_and_watch) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert errors == [] and client.ask("GET", "state")["plan"]["data"] == "spirals"


def test_what_cannot_be_drawn_ends_no_training_for_good(client, monkeypatch):
    client.ask("POST", "train/start", SPIRALS)
    training = client.serving.session.training
    with monkeypatch.context() as broken:
        broken.setattr(training, "_show", lambda: 1 / 0)
        client.ask("POST", "train/step")
        for _ in range(1000):
            if training.trouble:
                break
            time.sleep(0.01)
    assert "ZeroDivisionError" in training.trouble and training.thread.is_alive()
    client.ask("POST", "train/start", SPIRALS)
    client.ask("POST", "train/step")
    assert watch(client, lambda found: found[0]["step"] == 1)


def test_large_values_have_a_histogram():
    place, counts = histogram(np.array([3e38, -3e38, 0, np.inf], np.float32))
    assert counts.sum() == 2 and place["high"] == -place["low"] == pytest.approx(3e38)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(client):
    client.ask("POST", "train/start", SPIRALS | {"optimizer": "sgd", "rate": 1e30})
    client.ask("POST", "train/run")
    header, _ = watch(client, lambda found: found[0]["trouble"])
    assert not header["running"] and "start again with a lower rate" in header["trouble"]


def test_every_data_set_has_a_network_that_fits():
    shapes = {"cifar10": (32, 32, 3)}
    for data, names in NETWORKS.items():
        for name in names:
            model = tn.models.MODELS[name](classes=10)
            assert model.build(shapes.get(data, (28, 28, 1))).output_shape == (10,)


@pytest.mark.parametrize("name", plane.PLANES)
def test_the_planes_are_within_what_is_shown(name):
    points = plane.points(name)
    x = np.concatenate([points.train[0], points.test[0]])
    assert len(x) == plane.COUNT and 0.5 * plane.SPAN < np.abs(x).max() < 1.2 * plane.SPAN
    assert set(points.train[1]) == set(range(len(points.classes)))


def test_a_table_of_ones_own(client):
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{'yes' if a * b > 0 else 'no'}" for a, b in rng.normal(5, 2, (60, 2)) - 5]
    text = "height,weight,class\n" + "\n".join(lines)
    assert client.ask("POST", "train/table", body=text.encode()) == {"points": 60, "classes": ["no", "yes"]}
    client.ask("POST", "train/start", SPIRALS | {"data": "table"})
    header, arrays = watch(client, lambda found: True)
    assert header["axes"] == ["height", "weight"] and header["classes"] == ["no", "yes"]
    assert np.abs(arrays["x"]).max() <= 1.0001 * plane.SPAN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,a\n" * 5, "from 10 to 20,000 lines, it has 5"),
        ("1,2,a\n" * 9 + "1,x,b\n", "line 10 must be two numbers and a class"),
        ("1,2,a\n" * 9 + "1,nan,b\n", "line 10"),
        ("1,2,3,a\n" * 12, "line 1 must be"),
        ("1,2,a\n" * 12, "from 2 to 10 classes, it has 1"),
        ("\n".join(f"1,2,{i}" for i in range(12)), "it has 12"),
        ("", "it has 0"),
        (b"\xff\xfe\x00", "this is no text"),
    ],
)
def test_what_is_no_table_is_told_by_its_line(client, text, said):
    body = text if isinstance(text, bytes) else text.encode()
    assert said in client.ask("POST", "train/table", body=body)["error"]
    assert "drop a table first" in client.ask("POST", "train/start", SPIRALS | {"data": "table"})["error"]


# ---- Read -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", read.OPERATIONS)
def test_the_code_is_that_which_is_installed(operation):
    """Each of the three panes holds every piece that is named, at the lines where it stands."""
    panes = read.sources(operation)["panes"]
    for pane, (file, names) in zip(panes, read.OPERATIONS[operation], strict=True):
        text = read.cuda.read(file) if file.endswith(".cu") else server.files("tinynet").joinpath(file).read_text()
        assert len(pane["parts"]) == len(names)
        for part in pane["parts"]:
            code = part["code"].split("\n")
            assert text.split("\n")[part["line"] - 1 :][: len(code)] == code
    assert any("grad" in part["code"] or "slope" in part["code"] for part in panes[1]["parts"])


# ---- the page's files -----------------------------------------------------------------------------------------------


def test_the_page_is_light_and_asks_nobody_else():
    held = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert sum(map(len, held.values())) <= 300_000
    for name, data in held.items():
        text = data.decode()
        assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        for other in re.findall(r'(?:from|import) "\./([\w.]+)"|(?:href|src)="([\w.]+)"', text):
            assert "".join(other) in held, f"{name} wants {other}"


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c(place):
    process = subprocess.Popen(
        [sys.executable, "-m", "tinynet", "play", "--no-browser"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = [process.stdout.readline() for _ in range(2)]
        address = urlsplit(re.search(r"http://\S+", said[1])[0])
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        connection.request("GET", address.path + "api/state")
        found = json.loads(connection.getresponse().read())
        connection.close()
        assert found["networks"]["run"]["about"].startswith("mlp, trained on digits") and "mlp" in said[0]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (0, "the page has ended", "")


def test_without_a_run_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def stop(self, poll_interval):
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", stop)
    assert main(["play", "--no-browser"]) == 0
    assert "there is no run yet" in capsys.readouterr().out
    assert main(["play", "nowhere", "--no-browser"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_a_port_that_is_taken(client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["play", "--no-browser", "--port", str(client.place.port)]) == 2
    assert f"port {client.place.port} is not free" in capsys.readouterr().err
    assert main(["play", "--port", "70000"]) == 2
