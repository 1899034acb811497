"""Switches and scopes as blocks, for good, and as decorators: also of generators; what cannot hold is refused."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import tinynet as tn
from tinynet import parallel
from tinynet.autograd import mode
from tinynet.backends.cpu import memory, threads
from tinynet.backends.switches import SWITCHES as ALL
from tinynet.backends.switches import snapshot
from tinynet.nn.fusion import fusing

MODEL = tn.nn.Sequential(tn.nn.Dense(1), input_shape=1)
# A scope, and whether it holds now.
SCOPES = {
    "no_grad": (tn.no_grad, lambda: not mode.recording),
    "evaluating": (lambda: parallel.evaluating(MODEL), lambda: not MODEL.training and not mode.recording),
}
SWITCHES = {
    "use": (lambda: tn.use("simulator"), lambda: tn.backends.current().name == "simulator"),
    "set_fusion": (lambda: tn.set_fusion(False), lambda: not fusing()),
    "set_conv_algorithm": (lambda: tn.set_conv_algorithm("im2col"), lambda: snapshot()["conv_algorithm"] == "im2col"),
    "memory.set_pool": (lambda: memory.set_pool(False), lambda: not snapshot()["memory_pool"]),
    "threads.set_threads": (lambda: threads.set_threads(7), lambda: threads.count() == 7),
}


def test_all_switches_are_tested_and_a_snapshot_has_them():
    assert {name.rpartition(".")[2] for name in SWITCHES} == {switch.__name__ for switch in ALL.values()}
    before = snapshot()
    assert before.keys() == ALL.keys() and before["backend"] == tn.backends.current().name
    for name, (make, _) in SWITCHES.items():
        if name != "use" or not tn.backends.why_not("simulator"):
            with make() as switch:
                changed = [title for title, value in snapshot().items() if value != before[title]]
            assert len(changed) == 1 and (ALL[changed[0]] is type(switch) or name in ("use", "set_fusion"))
    assert snapshot() == before


@pytest.fixture(params=SCOPES)
def scope(request):
    return SCOPES[request.param]


@pytest.fixture(params=SWITCHES)
def switch(request):
    if request.param == "use" and (reason := tn.backends.why_not("simulator")):
        pytest.skip(reason)
    return SWITCHES[request.param]


def test_a_function(scope):
    make, holds = scope

    @make()
    def function(a, *, b):
        """Its text."""
        return holds(), a + b

    assert function(1, b=2) == (True, 3) == function(1, b=2) and not holds()
    assert function.__name__ == "function" and function.__doc__ == "Its text."


def test_a_generator_is_within_and_its_user_is_not(scope):
    make, holds = scope
    seen = []

    @make()
    def steps(n):
        try:
            for i in range(n):
                try:
                    got = yield i, holds()
                    seen.append((got, holds()))
                except KeyError:
                    seen.append(("thrown", holds()))
            return "end", holds()
        finally:
            seen.append(("finally", holds()))

    generator = steps(3)
    assert not holds()
    assert next(generator) == (0, True) and not holds()
    assert generator.send("sent") == (1, True) and not holds()
    assert generator.throw(KeyError()) == (2, True) and not holds()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == ("end", True) and not holds()
    assert seen == [("sent", True), ("thrown", True), (None, True), ("finally", True)]
    generator = steps(3)
    next(generator)
    generator.close()
    assert seen[-1] == ("finally", True) and not holds()
    generator = steps(3)
    next(generator)
    with pytest.raises(ZeroDivisionError):
        generator.throw(ZeroDivisionError())
    assert not holds()
    assert [i for i, _ in steps(4)] == [0, 1, 2, 3]


def test_what_waits_is_refused(scope):
    make, holds = scope

    async def coroutine():
        await asyncio.sleep(0)

    async def generator():
        yield 1

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match="is a coroutine function: others run while it waits"):
            make()(function)
    assert not holds()


def test_what_is_no_function_is_refused(scope):
    class Model:
        pass

    for thing in (Model, 3, staticmethod(len) if not callable(staticmethod(len)) else classmethod(len), property(len)):
        with pytest.raises(TypeError, match="only functions are decorated"):
            scope[0]()(thing)


def test_no_grad_bare():
    x = tn.tensor(np.ones(2, np.float32), requires_grad=True)

    @tn.no_grad
    def outputs():
        yield x * 2

    assert not next(outputs()).requires_grad and (x * 2).requires_grad
    with pytest.raises(TypeError, match="coroutine function"):

        @tn.no_grad
        async def wait():
            pass

    with pytest.raises(TypeError, match="only functions"):
        tn.no_grad(tn.nn.Dense)


def test_scopes_nest(scope):
    make, holds = scope
    one = make()
    for _ in range(2):
        with one:
            with one:
                assert holds()
            assert holds()
        assert not holds()
    with pytest.raises(ZeroDivisionError), one:
        _ = 1 / 0
    assert not holds()


def test_a_switch_holds_for_its_block_each_time(switch):
    make, holds = switch
    one = make()
    assert holds()  # set when it is made: for good, where no block follows
    with one:
        assert holds()
    assert not holds()
    for _ in range(2):
        with one:
            with one:
                assert holds()
            assert holds()
        assert not holds()


def test_a_switch_is_no_decorator(switch):
    make, holds = switch
    for wrap in (lambda: make()(len), lambda: make()(lambda: (yield))):
        with pytest.raises(TypeError, match="is no decorator; write `with "):
            wrap()
        assert not holds()
