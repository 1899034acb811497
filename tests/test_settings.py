"""What a run's checkpoint is compared by, and what the run itself changed: other settings are refused, named."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import logging
import os
import random
import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.data import Loader, compose, random_flip, random_shift
from tinynet.optim.schedules import cosine, step_decay
from tinynet.saving.checkpoint import CheckpointError, load, read, write
from tinynet.training import EarlyStopping, fit, settings

FACTOR, TABLE = 0.5, np.arange(3)


def data(n=32, channels=1):
    x = np.random.default_rng(0).standard_normal((n, 6, 6, channels)).astype(np.float32)
    return x, (x.sum((1, 2, 3)) > 0).astype(np.int64)


def convolution(**options):
    return nn.Sequential(nn.Conv2d(2, 3, **{"padding": 1, **options}), nn.Flatten(), nn.Dense(2))


def network(*layers):
    return nn.Sequential(nn.Flatten(), nn.Dense(4), *layers, nn.Dense(2))


class Own(nn.Module):
    def __init__(self, scale=1.0, table=(1, 2)):
        self.inner, self.scale, self.table, self._calls = nn.Dense(2), scale, table, 0

    def forward(self, x):
        return self.inner(ops.flatten(x)) * self.scale


class OwnAgain(Own):
    def forward(self, x):
        return self.inner(ops.flatten(x)) * self.scale + 1.0


OwnAgain.__name__ = "Own"


def closure(factor):
    def schedule(step, *, power=1):
        return factor**power

    return schedule


def by_default(factor):
    return lambda step, factor=factor: factor


class Schedule:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, step):
        return self.factor

    def rate(self, step):
        return self.factor


def scaled(factor):
    return lambda out, y: ops.softmax_cross_entropy(out, y) * factor


def of_global(value):
    """A function that reads a global, as in a script whose constant was edited."""
    namespace = {"__name__": "script", "RATE": value, "helper": eval(f"lambda: {value}")}
    exec("def schedule(step):\n    return RATE + helper()", namespace)
    return namespace["schedule"]


def of_held_global(held, read):
    """The same, where the constant is within something."""
    namespace = {"__name__": "script", "HELD": held}
    exec(f"def schedule(step):\n    return {read}", namespace)
    return namespace["schedule"]


def by_class(factor, body="return self.factor"):
    """An object whose setting, or whose code, is its class's."""
    namespace = {"__name__": "script", "factor": factor}
    exec(f"class Constant:\n    factor = factor\n    def __call__(self, step): {body}", namespace)
    return namespace["Constant"]()


def of_class(**attributes):
    return type("Own", (Own,), attributes)()


def hooked(factor):
    model = convolution()
    model[0].register_forward_hook(lambda layer, x, y: y * factor)
    return model


def scored(value):
    return lambda out, y: np.full(len(y), value)


def edited(pixel):
    x, y = data()
    x[pixel] += 1
    return x, y


def augmented(augment):
    return Loader(*data(), batch_size=8, seed=1, augment=augment)


MODELS = [
    functools.partial(convolution, **options)
    for options in (
        {},
        {"activation": "relu"},
        {"activation": "tanh"},
        {"padding": "same", "padding_mode": "edge"},
        {"dilation": 2},
        {"activation": lambda x: x * 2.0},
        {"activation": lambda x: x * 3.0},
    )
]
MODELS += [
    functools.partial(network, *layers)
    for layers in (
        [],
        [nn.ReLU],
        [nn.GELU],
        [lambda: nn.Dropout(0.1)],
        [lambda: nn.Dropout(0.2)],
        [lambda: nn.LeakyReLU(0.1)],
        [lambda: nn.LeakyReLU(0.2)],
    )
] + [Own, lambda: Own(2.0), lambda: Own(table=(1, 3)), OwnAgain]
MODELS += [
    functools.partial(of_class, **attributes)
    for attributes in (
        {"slope": 0.1},
        {"slope": 0.2},
        {"table_of": {"a": 1}},
        {"table_of": {"a": 2}},
        {"of": staticmethod(lambda: 1.0)},
        {"of": staticmethod(lambda: 2.0)},
        {"of": property(lambda self: 1.0)},
        {"of": property(lambda self: 2.0)},
    )
] + [functools.partial(hooked, 1.5), functools.partial(hooked, 2.5)]
SCHEDULES = [
    None,
    functools.partial(cosine, total=8),
    functools.partial(cosine, total=80),
    functools.partial(step_decay, every=8),
    functools.partial(cosine, total=8, warmup=2),
    closure(0.5),
    closure(0.25),
    by_default(0.5),
    by_default(0.25),
    Schedule(0.5),
    Schedule(0.25),
    Schedule(0.5).rate,
    Schedule(0.25).rate,
    lambda step: 0.5,
    lambda step: 0.25,
    lambda step: {0.5}.pop(),
    lambda step: FACTOR,
    of_global(0.5),
    of_global(0.25),
    by_class(0.5),
    by_class(0.25),
    by_class(0.5, "return self.factor / 2"),
]
SCHEDULES += [
    of_held_global(hold(value), read)
    for hold, read in (
        (lambda v: {"rate": v}, "HELD['rate']"),
        (lambda v: [[v]], "HELD[0][0]"),
        (lambda v: deque([v]), "HELD[0]"),
        (lambda v: {"many": [0.0] * 1000 + [v]}, "HELD['many'][-1]"),
        (lambda v: SimpleNamespace(rate=v), "HELD.rate"),
        (lambda v: argparse.Namespace(rate=v), "HELD.rate"),
        (lambda v: functools.partial(float, v), "HELD()"),
        (lambda v: type("Config", (), {"rate": v}), "HELD.rate"),
        (lambda v: type("Config", (), {"rate": v})(), "HELD.rate"),
        (Schedule, "HELD.factor"),
    )
    for value in (0.5, 0.25)
]
LOSSES = [
    ops.softmax_cross_entropy,
    scaled(1.0),
    scaled(2.0),
    lambda out, y: ops.softmax_cross_entropy(out * 2.0, y),
    functools.partial(lambda out, y, by: ops.softmax_cross_entropy(out, y) * by, by=2.0),
    lambda out, y: ops.softmax_cross_entropy(out, TABLE[y]),
]
AUGMENTS = [
    augmented(a)
    for a in (
        None,
        random_shift(1),
        random_shift(2),
        random_flip(),
        random_flip(0.4),
        compose(random_flip(), random_shift(1)),
        compose(random_shift(1), random_flip()),
    )
]
TRAIN = [data(), edited((0, 0, 0, 0)), edited((17, 3, 2, 0)), edited((-1, -1, -1, -1)), data(31)]
KINDS = {
    "model": MODELS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "metrics": [{"m": scored(0.0)}, {"m": scored(1.0)}, {"n": scored(1.0)}, ["accuracy"], ["top_1"], []],
    "train": AUGMENTS + TRAIN,
    "validation": [None, data(8), data(9)],
    "early_stopping": [None, 2, EarlyStopping(2, min_delta=0.1), EarlyStopping(2, restore_best=False)],
}


def made(kind, value):
    """A model that is made anew, with layers made anew."""
    if kind != "model":
        return value
    if isinstance(value, functools.partial) and value.func is network:
        return network(*(layer() for layer in value.args))
    return value()


def go(path, epochs=1, model=None, **options):
    tn.seed(0)
    model = convolution() if model is None else model
    early = {"validation": data(8)} if options.get("early_stopping") is not None else {}
    return fit(
        model,
        **{
            "train": data(),
            "epochs": epochs,
            "batch_size": 8,
            "checkpoint": path,
            "resume": True,
            "verbose": False,
            **early,
            **options,
        },
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_pair_of_settings_is_told_apart_and_none_from_itself(kind, tmp_path):
    values, recorded = KINDS[kind], []
    for i, then in enumerate(values):
        path = tmp_path / str(i)
        go(path, **{kind: made(kind, then)})
        recorded.append(read(path)[1]["settings"])
        with pytest.raises(CheckpointError, match=r" was .*, is now "):
            go(path, epochs=2, **{kind: made(kind, values[i - 1])})
        assert len(go(path, epochs=2, **{kind: made(kind, then)})) == 2
    assert all(a != b for a, b in itertools.combinations(recorded, 2))


def test_the_text_of_a_function_is_the_same_in_another_process():
    code = (
        "import functools\nfrom tinynet.training import settings\nfrom tinynet.optim.schedules import cosine\n"
        "def f(step, table={'a': 1, 'b': 2}, *, names=frozenset(('x', 'y'))):\n    return step in {'p', 'q', 'r'}\n"
        "print(settings.text([f, functools.partial(f, 3), lambda: cosine, {'k', 'l'}]))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", "\n" * int(seed) + code],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(Path(tn.__file__).parents[1]), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "123"
    }
    assert len(texts) == 1


@pytest.mark.parametrize("rng", [np.random.default_rng(0), random.Random(0)], ids=lambda rng: type(rng).__name__)
@pytest.mark.parametrize("where", ["closure", "global"])
def test_what_cannot_be_compared_is_said(rng, where, tmp_path):
    def noisy(step):
        return rng.random()

    if where == "global":
        noisy = of_held_global(rng, "HELD.random()")
    go(tmp_path / "run", schedule=noisy)
    with pytest.warns(UserWarning, match="cannot be seen: schedule"):
        go(tmp_path / "run", epochs=2, schedule=noisy)


def test_libraries_are_no_settings():
    namespace = {"__name__": "script", "log": logging.getLogger("a"), "np": np, "Path": Path, "ops": ops}
    exec("def loss(out, y):\n    log.debug('%s', Path(np.__file__))\n    return ops.mse(out, y)", namespace)
    assert re.fullmatch(r"loss#\w{8}", settings.text(namespace["loss"]))


def test_another_pythons_code_cannot_be_compared(tmp_path):
    go(tmp_path / "run", schedule=lambda step: 0.5)
    arrays, description = read(tmp_path / "run")
    old = description["settings"]
    old |= {"python": "3.0", "schedule": settings.CODE.sub("#00000000", old["schedule"])}
    write(tmp_path / "run", arrays, description)
    with pytest.raises(CheckpointError, match="schedule was"):  # a lambda of another function
        go(tmp_path / "run", epochs=2, schedule=closure(0.5))
    with pytest.warns(UserWarning, match="cannot be seen: schedule"):
        go(tmp_path / "run", epochs=2, schedule=lambda step: 0.5)


def test_any_value_has_a_text():
    recursive = [1]
    recursive.append(recursive)
    model = convolution().build((6, 6, 1))
    for value in (
        None,
        True,
        np.int64(3),
        np.float32(0.5),
        2**70,
        1j,
        b"x",
        range(3),
        (1, [2, {"a": np.float16(1)}]),
        recursive,
        np.arange(3),
        np.array([object()]),
        np.array(5.0),
        np.zeros((0, 3)),
        np.dtype("f4"),
        Path("a"),
        model,
        optim.SGD(model.parameters()),
        tn.tensor([1.0]),
        iter([]),
        len,
        np.tanh,
        os,
        type,
        {1, 2},
        model.forward,
        functools.partial(max, 1),
        print,
        (n for n in [1]),
        Schedule(model),
    ):
        text = settings.text(value)
        assert text == settings.text(value)
        assert json.loads(json.dumps(text)) == text
    assert settings.text(np.arange(3)) != settings.text(np.arange(3.0)) != settings.text(np.arange(1, 4.0))


# ---- what callbacks change ------------------------------------------------------------------------------------


class Crash(Exception):
    pass


def freeze(model, optimizer):
    model[0].freeze()


def unfreeze(model, optimizer):
    model.unfreeze()


def rate(model, optimizer):
    optimizer.lr = 0.5


def rate_of_a_group(model, optimizer):
    optimizer.groups[1].options["lr"] = 0.5


def momentum(model, optimizer):
    for group in optimizer.groups:
        group.options |= {"momentum": np.float32(0.5), "weight_decay": 0.1}


def evaluating(model, optimizer):
    model[1].eval()


def dropout(model, optimizer):
    model[1].rate = np.float64(0.75)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("change", [freeze, unfreeze, rate, rate_of_a_group, momentum, evaluating, dropout])
def test_what_callbacks_change_is_of_the_run(change, workers, tmp_path):
    def run(path, crash=None, at=2):
        tn.seed(0)
        model = nn.Sequential(nn.Dense(6, activation="tanh"), nn.Dropout(0.25), nn.Dense(2), input_shape=36)
        if change is unfreeze:
            model[2].freeze()
        optimizer = optim.SGD([{"params": model[0].parameters()}, {"params": model[2].parameters()}], 0.1, momentum=0.9)

        class Callback:
            def on_step_end(self, info):
                if info["step"] == at:
                    change(model, optimizer)
                if info["step"] == crash:
                    raise Crash

        x, y = data(32)
        fit(
            model,
            (x.reshape(32, -1), y),
            epochs=3,
            batch_size=8,
            optimizer=optimizer,
            checkpoint=path,
            workers=workers,
            checkpoint_every=1,
            resume=True,
            callbacks=[Callback()],
            verbose=False,
        )
        return model

    wanted = run(tmp_path / "straight")
    for crash in (3, 4, 5, 10) if workers == 1 else (3,):  # within the epoch of the change, at its end, after it
        path = tmp_path / str(crash)
        with pytest.raises(Crash):
            run(path, crash)
        model = run(path, at=None)
        for name, value in wanted.state_dict().items():
            assert np.array_equal(value, model.state_dict()[name]), (name, crash)
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in wanted.parameters()]
    if change is not dropout:  # its rate is not the one that it was made with: the file alone does not tell it
        again = load(tmp_path / "straight")
        assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in wanted.parameters()]


def test_a_model_may_come_as_it_was_frozen_at_first_or_at_last_but_not_otherwise(tmp_path):
    path = tmp_path / "run"

    def run(epochs, frozen=()):
        tn.seed(0)
        model = convolution().build((6, 6, 1))
        for i in frozen:
            model[i].freeze()
        return go(path, epochs, model, callbacks=[lambda row: model[0].freeze() and None])

    run(1)
    run(2)
    run(3, frozen=[0])
    with pytest.raises(CheckpointError, match="frozen was"):
        run(4, frozen=[2])
