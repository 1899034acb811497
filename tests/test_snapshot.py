"""Whatever a module holds and whatever happens to it: replicas compute what one process computes, or say why not."""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinynet as tn
from tests.replica_runs import double
from tinynet import nn, optim, parallel
from tinynet.parallel.snapshot import Snapshot

forked = pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")
SAMPLES = 8


# ---- modules at random ------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """An object to keep things in."""

    last: object = None
    inside: dict = field(default_factory=lambda: {"deep": [None]})


def keeper(where):
    """(holder, put, get): a place of some kind to keep one thing in."""
    if where == "list":
        holder = [None]
        return holder, functools.partial(holder.__setitem__, 0), lambda: holder[0]
    if where == "dict":
        holder = {"a": {}}
        return holder, lambda v: holder["a"].update(b=v), lambda: holder["a"].get("b")
    if where == "tuple":
        holder = ([], {})
        return holder, lambda v: holder[0].append(v), lambda: holder[0][-1] if holder[0] else None
    if where == "deque":
        holder = deque(maxlen=2)
        return holder, holder.append, lambda: holder[0] if holder else None
    if where == "object":
        holder = Notes()
        return holder, lambda v: setattr(holder, "last", v), lambda: holder.last
    if where == "deep":
        holder = {"x": (Notes(), SimpleNamespace(n=1))}
        deep = holder["x"][0].inside["deep"]
        return holder, functools.partial(deep.__setitem__, 0), lambda: deep[0]
    assert where == "closure"
    kept = None

    def put(value):
        nonlocal kept
        kept = value

    return put, put, lambda: kept


KEPT = {
    "input": lambda x, z: x.detach(),
    "array": lambda x, z: x.numpy(),
    "activation": lambda x, z: z.detach(),
    "graph": lambda x, z: z,
    "mean": lambda x, z: tn.tensor(x.numpy().mean(0)),
    "size": lambda x, z: len(x),
    "first": lambda x, z: x.numpy()[:1].copy(),
    "constant": lambda x, z: 0.5,
}
PLACES = ("list", "dict", "tuple", "deque", "object", "deep", "closure")
WHEN = {
    "always": lambda n, m: True,
    "training": lambda n, m: m.training,
    "evaluation": lambda n, m: not m.training,
    "once": lambda n, m: n.get() is None,
    "never": lambda n, m: False,
}
STEPS = 4


class Random(nn.Module):
    """A module drawn by Hypothesis: layers in containers, things kept in other containers, and perhaps used."""

    scale = 1.0

    def __init__(self, nesting, shared, where, what, when, used, mixes):
        first, last = nn.Dense(4, activation="tanh"), nn.Dense(3)
        middle = first if shared else nn.Dense(4)
        self.layers = {
            "list": [first, middle, last],
            "dict": {"a": first, "b": middle, "c": last},
            "nested": [[first], {"b": [middle], "c": (last, 1)}],
            "object": [first, middle, last],
        }[nesting]
        self.nesting, self.what, self.when, self.used, self.mixes = nesting, what, when, used, mixes
        self.settings = {"scale": 1.0, "more": [1.0, {"shift": 0.0}]}
        self.other = Notes(last=np.ones(4))
        self.box = SimpleNamespace()
        self.box.holder, self.box.put, self.box.get = keeper(where)

    def parts(self):
        if self.nesting == "nested":
            return self.layers[0][0], self.layers[1]["b"][0], self.layers[1]["c"][0]
        return tuple(self.layers.values() if self.nesting == "dict" else self.layers)

    def forward(self, x):
        kept = self.box.get()
        if self.used and kept is not None:
            kept = kept.detach() if isinstance(kept, tn.Tensor) else kept
            x = x + 0.1 * (kept.mean() if isinstance(kept, tn.Tensor | np.ndarray) else kept)
        if self.mixes:
            x = x - x.mean(0)
        first, middle, last = self.parts()
        z = first(x * self.settings["scale"] * self.other.last * self.scale)
        z = middle(z + self.settings["more"][1]["shift"]) * self.settings["more"][0]
        if WHEN[self.when](self.box, self):
            self.box.put(KEPT[self.what](x, z))
        return last(z)


def new_layer(like):
    tn.seed(9)
    return double(nn.Dense(like.weight.shape[1], activation="relu").build(like.weight.shape[0]))


def replace_layer(m, opt):
    if m.nesting == "nested":
        m.layers[0][0] = new_layer(m.parts()[0])
    else:
        m.layers["a" if m.nesting == "dict" else 0] = new_layer(m.parts()[0])


CHANGES = {
    "nothing": lambda m, opt: None,
    "layer": replace_layer,
    "setting": lambda m, opt: m.settings.update(scale=2.0),
    "deep setting": lambda m, opt: m.settings["more"][1].update(shift=0.5),
    "list item": lambda m, opt: m.settings["more"].__setitem__(0, 1.5),
    "array in place": lambda m, opt: m.other.last.__imul__(1.5),
    "array replaced": lambda m, opt: setattr(m.other, "last", np.arange(4.0)),
    "class attribute": lambda m, opt: setattr(type(m), "scale", 1.25),
    "freeze": lambda m, opt: m.parts()[1].freeze(),
    "unfreeze": lambda m, opt: m.parts()[1].unfreeze(),
    "new frozen parameter": lambda m, opt: setattr(
        m.parts()[1], "bias", nn.Parameter(np.full(4, 0.3)).requires_grad_(False)
    ),
    "data": lambda m, opt: setattr(m.parts()[2].weight, "data", m.parts()[2].weight.data * 0.5),
    "data in place": lambda m, opt: m.parts()[1].bias.data.__iadd__(0.25),
    "hook": lambda m, opt: m.parts()[2].register_forward_hook(lambda *_: None),
    "eval": lambda m, opt: m.eval(),
    "train": lambda m, opt: m.train(),
    "kept": lambda m, opt: m.box.put(0.75),
    "learning rate": lambda m, opt: setattr(opt, "lr", 0.3),
}


def run(workers, drawn, frozen, changes, sizes):
    """Losses, evaluations, final parameters and the note, or the first exception's type."""
    tn.seed(0)
    kind = type("Drawn", (Random,), {"scale": 1.0})
    model = double(kind(*drawn).build(4))
    if frozen:
        model.parts()[0].freeze()
    opt = optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
    rng, seen = np.random.default_rng(1), []
    with parallel.trainer(model, opt, workers=workers) as step:
        buffer = np.empty((SAMPLES, 4))
        for i, n in enumerate(sizes):
            CHANGES[changes.get(i, "nothing")](model, opt)
            buffer[...] = rng.standard_normal((SAMPLES, 4))
            x, y = buffer[:n].copy(), rng.integers(0, 3, n)
            try:
                seen.append(step(x, y).item())
                if i == 2:
                    seen.append(step.evaluate(x, y)[0])
            except ValueError as error:
                seen.append(-1.0)
                assert workers == 1 or step.workers == 1 or "in replica" not in str(error)
        note, made = step.note, step.workers
    return seen, [p.numpy().copy() for p in model.parameters()], note, made


@forked
@given(
    st.tuples(
        st.sampled_from(["list", "dict", "nested", "object"]),
        st.booleans(),
        st.sampled_from(PLACES),
        st.sampled_from(sorted(KEPT)),
        st.sampled_from(sorted(WHEN)),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
    st.booleans(),
    st.dictionaries(st.integers(1, STEPS - 1), st.sampled_from(sorted(CHANGES)), max_size=2),
    st.lists(st.sampled_from([SAMPLES, SAMPLES, 5, 1]), min_size=STEPS, max_size=STEPS),
)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_replicas_compute_what_one_process_computes(drawn, frozen, changes, sizes):
    one, two = (run(workers, drawn, frozen, changes, sizes) for workers in (1, 2))
    np.testing.assert_allclose(two[0], one[0], rtol=1e-9, err_msg=str(two[2]))
    for a, b in zip(one[1], two[1], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-10, err_msg=str(two[2]))
    assert (two[3] == 2) == (two[2] is None)
    if drawn[4] == "never" and not drawn[6]:
        assert two[2] is None  # a model that keeps nothing is shared


# ---- what is followed --------------------------------------------------------------------------------------------


class Slotted:
    __slots__ = ("value",)


class Holds(nn.Module):
    kept_by_the_class: ClassVar[list] = [0]

    def __init__(self, value):
        self.value, self.layer = value, nn.Dense(2)

    def forward(self, x):
        return self.layer(x)


def closure():
    inside = [1]
    return lambda x: (inside, x)


CHANGED = {  # value, how it changes
    "attribute": (1, lambda m: setattr(m, "value", 2)),
    "new attribute": (1, lambda m: setattr(m, "other", 2)),
    "attribute removed": (1, lambda m: delattr(m, "value")),
    "a float's sign": (0.0, lambda m: setattr(m, "value", -0.0)),
    "list": ([1, 2], lambda m: m.value.append(3)),
    "an equal list": ([1, 2], lambda m: setattr(m, "value", [1, 2])),
    "dict in a tuple": (({"a": 1},), lambda m: m.value[0].update(a=2)),
    "key": ({"a": None}, lambda m: m.value.update({"b": m.value.pop("a")})),
    "set": ({1}, lambda m: m.value.add(2)),
    "deque": (deque([1, 2], 2), lambda m: m.value.append(3)),
    "object": (SimpleNamespace(a=[1]), lambda m: m.value.a.append(2)),
    "array": (np.zeros(3), lambda m: m.value.__setitem__(1, 1)),
    "a view of an array": (np.zeros((4, 4))[::2, 1:], lambda m: m.value.__setitem__((1, 1), np.nan)),
    "tensor": (tn.tensor([1.0, 2.0]), lambda m: m.value.data.__imul__(2)),
    "a tensor's data": (tn.tensor([1.0]), lambda m: setattr(m.value, "data", np.ones(1, np.float32))),
    "closure": (closure(), lambda m: m.value(0)[0].append(2)),
    "partial": (functools.partial(np.add, [1]), lambda m: m.value.args[0].append(2)),
    "bound method": ([].append, lambda m: m.value(1)),
    "module in a list": ([nn.Dense(2)], lambda m: setattr(m.value[0], "more", 1)),
    "hook": (1, lambda m: m.layer.register_forward_hook(print)),
    "class": (1, lambda m: m.kept_by_the_class.append(1)),
    "class attribute": (1, lambda m: setattr(type(m), "new", 1)),
    "a layer's weight": (1, lambda m: setattr(m.layer, "weight", nn.Parameter(np.ones((2, 2), np.float32)))),
    "frozen": (1, lambda m: m.freeze()),
}


@pytest.mark.parametrize("what", sorted(CHANGED))
def test_a_change_is_found_and_put_back(what):
    value, change = CHANGED[what]
    model = Holds(value).build(2)
    snapshot = Snapshot([("model", model)])
    assert snapshot.change() is None and not snapshot.strangers
    change(model)
    assert snapshot.change().startswith(("model", "Holds"))
    snapshot.restore()
    assert snapshot.change() is None and Snapshot([("model", model)]).change() is None


@pytest.mark.parametrize("value", [0.5, "text", (1, (2.0, "a")), float("nan"), np.float32(3), None])
def test_an_equal_constant_and_the_mode_are_no_change(value):
    model = Holds(value).build(2)
    snapshot = Snapshot([("model", model)])
    model.value = eval(repr(value), {"nan": float("nan"), "np": np})
    model.eval()
    assert snapshot.change() is None
    model.layer.note = 1
    assert snapshot.change() == "model.layer"


@pytest.mark.parametrize(
    "value",
    [np.random.default_rng(0), threading.Lock(), iter([1]), Slotted(), [ValueError()], np.array([None])],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_followed_is_named(value):
    model = Holds({"in": value}).build(2)
    (stranger,) = Snapshot([("model", model)]).strangers
    assert stranger.startswith("model.value['in']")
    if sys.platform == "linux":
        with parallel.trainer(model, optim.SGD(model.parameters()), workers=2) as step:
            assert step.workers == 1 and "they cannot follow Holds.value['in']" in step.note
            assert np.isfinite(step(np.ones((4, 2), np.float32), np.zeros(4, int)).item())


def of_globals(forward):
    """A module whose `forward` reads and writes globals of its own script."""
    held = {"__name__": "script", "tn": tn, "random": random, "np": np, "n": 0, "kept": [0], "deep": {"a": [0]}}
    held |= {"array": np.zeros(1), "notes": Notes(last=0), "last": deque([0], 2)}
    exec(
        "class Config:\n    n = 0\n"
        "def helper(): helper.n += 1; return helper.n\n"
        "helper.n = 0\n"
        f"def forward(self, x):\n    global n\n    {forward}\n    return self.layer(x) * k",
        held,
    )
    return type("Scripted", (Holds,), {"forward": held["forward"]}), held


GLOBALS = {
    "nothing": "k = 2.0",
    "int": "n += 1; k = 1 + n % 5",
    "list": "kept[0] += 1; k = 1 + kept[0] % 5",
    "dict": "deep['a'].append(1); k = 1 + len(deep['a']) % 5",
    "array": "array[0] += 1; k = 1 + array[0] % 5",
    "object": "notes.last += 1; k = 1 + notes.last % 5",
    "deque": "last.append(x.shape[0]); k = 1 + sum(last)",
    "class": "Config.n += 1; k = 1 + Config.n % 5",
    "function": "k = 1 + helper() % 5",
    "random": "k = random.random()",
    "numpy.random": "k = np.random.rand()",
    "read only": "k = 1 + n + kept[0]",
}


@forked
@pytest.mark.parametrize("what", sorted(GLOBALS))
def test_globals_that_forward_names_are_followed(what):
    def run(workers):
        tn.seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        kind, held = of_globals(GLOBALS[what])
        model = kind(0)
        model.layer.build(2)
        model.built, losses = (2,), []
        with parallel.trainer(double(model), optim.SGD(model.parameters(), 0.1), workers=workers) as step:
            for i in range(6):
                losses.append(step(np.arange(16.0).reshape(8, 2), np.arange(8) % 2).item())
                if what == "read only" and i == 2:
                    held["n"] = held["kept"][0] = 1
            assert (
                (step.workers, step.note is None) == (2, True)
                if workers == 2 and what in ("nothing", "read only")
                else True
            )
        return losses

    state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        np.testing.assert_allclose(run(2), run(1), rtol=1e-12)
    finally:
        random.setstate(state[0]), np.random.set_state(state[1])  # noqa: NPY002


@forked
def test_what_hooks_hold_is_followed():
    def run(workers):
        tn.seed(0)
        model, seen = Holds(0).build(2), []
        model.layer.register_forward_hook(lambda layer, x, y: seen.append(len(x)) or y * (1 + len(seen) % 3))
        with parallel.trainer(double(model), optim.SGD(model.parameters(), 0.1), workers=workers) as step:
            return [step(np.arange(16.0).reshape(8, 2), np.arange(8) % 2).item() for _ in range(4)], seen

    assert run(2) == run(1)


@forked
def test_what_is_made_at_first_use_leaves_the_replicas():
    def run(workers):
        tn.seed(0)
        model = Lazy()
        model.layer.build(2)
        model.built = (2,)
        with parallel.trainer(double(model), optim.SGD(model.parameters(), 0.1), workers=workers) as step:
            losses = [step(np.arange(16.0).reshape(8, 2), np.arange(8) % 2).item() for _ in range(4)]
            assert (step.workers, step.note) == (workers, None)
        return losses

    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


class Lazy(Holds):
    def __init__(self):
        super().__init__(None)

    def forward(self, x):
        if self.value is None:
            self.value = x.numpy().std(0)  # of the whole first batch
        return self.layer(x / self.value)


@forked
def test_a_loss_that_is_no_mean_is_left_to_one_process():
    def run(workers, loss):
        tn.seed(0)
        model = double(nn.Sequential(nn.Dense(2), input_shape=2))
        with parallel.trainer(model, optim.SGD(model.parameters(), 0.1), loss, workers=workers) as step:
            losses = [step(np.arange(16.0).reshape(8, 2), np.arange(8) % 2).item() for _ in range(3)]
            return losses, step.note

    def total(out, y):
        return tn.ops.softmax_cross_entropy(out, y) * len(y)

    losses, note = run(2, total)
    assert losses == run(1, total)[0] and "is not the mean of its parts'" in note
