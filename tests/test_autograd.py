"""The tape: graphs of any shape, memory, changing in place, and what it says when it refuses."""

from __future__ import annotations

import gc
import sys
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests.checks import as_leaves
from tinynet import autograd, changes, ops
from tinynet.autograd import op
from tinynet.backends import cpu
from tinynet.tensor import Tensor

STRICT = {"rtol": 1e-6, "atol": 1e-8}


def leaf(*values: float) -> Tensor:
    return tn.tensor(np.array(values), requires_grad=True)


# ---- graphs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", [lambda d: d, lambda d: d[:]], ids=["itself", "a view"])
def test_one_array_given_to_two_inputs_is_summed_apart(declare, twin):
    @declare
    def both(be, a, b):
        def vjp(g, need):
            d = be.multiply(g, 2 * (a + b))
            return d, twin(d)

        return (a + b) ** 2, vjp

    u, v = leaf(1.0, 2.0), leaf(1.0, 2.0)
    a, b = u * 1.0, v * 1.0
    (both(a, b) + 5 * a * a).sum().backward()
    assert v.grad.numpy().tolist() == [4, 8]
    assert u.grad.numpy().tolist() == [14, 28]


def test_a_product_that_loses_a_gradient_is_refused(declare):
    @declare
    def half(be, a, b):
        return be.multiply(a, b), lambda g, need: (be.multiply(g, b),)

    @declare
    def three(be, a):
        return be.multiply(a, 2.0), lambda g, need: (g, g, g)

    @declare
    def bare(be, a):
        return be.multiply(a, 2.0), lambda g, need: be.multiply(g, 2.0)

    @declare
    def crooked(be, a):
        return be.multiply(a, 2.0), lambda g, need: (be.full((3,), 1, a.dtype),)

    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    half(x, 2.0).sum().backward()  # the rest may be left out where nobody wants it
    for call, error, message in (
        (lambda: half(x, y), TypeError, "half returned 1 gradients for 2 inputs"),
        (lambda: three(x), TypeError, "three returned 3 gradients for 1 inputs"),
        (lambda: bare(x), TypeError, "bare must return a tuple, a gradient for each input; it returned a ndarray"),
        (lambda: crooked(x), ValueError, r"crooked returned a gradient of shape \(3,\) for an input of shape \(2,\)"),
        (lambda: ops.leaky_relu(x, y), TypeError, "leaky_relu returned 1 gradients for 2 inputs; where"),
    ):
        with pytest.raises(error, match=message):
            call().sum().backward()


def test_a_product_may_be_any_callable(declare):
    @declare
    def twice(be, a):
        return be.multiply(a, 2.0), partial(lambda factor, g, need: (be.multiply(g, factor),), 2.0)

    @declare
    def thrice(be, a):
        if be is None:
            never = 0
        return be.multiply(a, 3.0), lambda g, need: (be.multiply(g, 3.0) if need[0] else never,)

    for operation, slope in ((twice, 2), (thrice, 3)):
        x, other = leaf(1.0), leaf(2.0)
        y = operation(x)
        with tn.no_grad():
            other += 1
        y.backward()
        assert x.grad.item() == slope


def test_one_tensor_as_two_inputs():
    x = leaf(1.0, 2.0)
    ((x + x) * (x * x)).sum().backward()  # 2 x³
    assert x.grad.numpy().tolist() == [6, 24]


def test_diamonds():
    """Paths that part and meet again: 2^20 of them, visited once each way."""
    x = leaf(1.0)
    y = x
    for _ in range(20):
        y = y + y
    y.backward(np.ones(1))
    assert x.grad.item() == 2**20


def test_fan_out_of_different_lengths():
    """A node's gradient is complete before it is used: the short path must wait for the long one."""
    x = leaf(0.5)
    y = x * 1.0
    long = y
    for _ in range(5):
        long = long * y
    (y + long).backward(np.ones(1))  # y + y⁶
    assert_allclose(x.grad.numpy(), [1 + 6 * 0.5**5])


STEPS = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: ops.tanh(a),
    lambda a, b: a * 0.5,
    lambda a, b: a.reshape(3, 1).reshape(3),
    lambda a, b: a[::-1],
    lambda a, b: ops.where(np.arange(3) > 0, a, b),
]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=10))
def test_random_graphs(steps):
    """Any graph of such steps, values used many times or never, outputs of several places."""

    def graph(x, y):
        values = [x, y]
        for step, i, j in steps:
            values.append(step(values[i % len(values)], values[j % len(values)]))
        return values[2:]

    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
    tn.gradcheck(graph, [x, y], **STRICT)


def test_gradients_add_up_until_cleared():
    x = leaf(3.0)
    for expected in (2, 4):
        (x * 2).sum().backward()
        assert x.grad.item() == expected
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.item() == 2


def test_gradients_are_handed_out_once():
    """Neither two leaves nor a leaf and its cotangent share memory, even where the product gives g itself."""
    x, y, g = leaf(1.0, 2.0), leaf(3.0, 4.0), tn.tensor(np.ones(2))
    (x + y).backward(g)
    arrays = [x.grad.data, y.grad.data, g.data]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    kept = x.grad
    (x + y).backward(g)
    assert kept.numpy().tolist() == [1, 1], "a gradient that somebody holds was added to in place"


def test_only_what_requires_a_gradient_gets_one():
    x, c = leaf(1.0), tn.tensor(np.array([2.0]))
    (x * c).backward(np.ones(1))
    assert x.grad.item() == 2 and c.grad is None
    assert not (c * c).requires_grad
    assert not (x.detach() * c).requires_grad
    with tn.no_grad():
        assert not (x * c).requires_grad
    assert (x * c).requires_grad


def test_no_grad_decorates_and_is_local_to_its_thread():
    x, seen = leaf(1.0), []

    @tn.no_grad()
    def double(t):
        return t * 2

    assert not double(x).requires_grad
    with tn.no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]
    with pytest.raises(ZeroDivisionError), tn.no_grad():
        _ = 1 / 0
    assert (x * 2).requires_grad


# ---- tn.grad ---------------------------------------------------------------------------------------------------


def test_grad_of_intermediate_tensors():
    x = leaf(2.0)
    y = x * x
    z = (y * 3).sum()
    dz, dy, dx = tn.grad(z, [z, y, x])
    assert (dz.item(), dy.item(), dx.item()) == (1, 3, 12)
    assert x.grad is None and isinstance(tn.grad((x * 2).sum(), x), Tensor)


def test_grad_of_what_does_not_matter_is_zero():
    x, y = leaf(2.0), leaf(1.0, 1.0)
    assert tn.grad(x * 3, [y, x], np.ones(1))[0].numpy().tolist() == [0, 0]


def test_grad_mistakes():
    x = leaf(1.0)
    with pytest.raises(ValueError, match="first-order"):
        tn.grad(x * x, x, create_graph=True)
    with pytest.raises(ValueError, match="does not require a gradient"):
        tn.grad((x * x).sum(), tn.tensor(1.0))
    g = tn.grad((x * x).sum(), x)
    with pytest.raises(ValueError, match="first-order"):
        g.sum().backward()


# ---- refusals ---------------------------------------------------------------------------------------------------


def test_backward_needs_one_value_or_a_cotangent_that_fits():
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(ValueError, match=r"shape \(2,\), not one value; reduce it first, as in .sum\(\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"g has shape \(3,\), the tensor \(2,\)"):
        y.backward(np.ones(3))
    y.backward([1, 2])  # a refused call has not used the graph up
    with pytest.raises(ValueError, match=r"depends on no tensor that requires a gradient"):
        tn.tensor(1.0).backward()


def test_a_graph_serves_once():
    x = leaf(1.0)
    shared = x * x
    (shared * 2).backward(np.ones(1))
    with pytest.raises(RuntimeError, match=r"consumed by an earlier backward.*add the losses"):
        (shared * 3).backward(np.ones(1))


@pytest.mark.parametrize("dtype", [int, bool, np.uint8])
def test_integers_cannot_require_a_gradient(dtype):
    with pytest.raises(TypeError, match="cannot require a gradient; make it float32 or float64"):
        tn.tensor(np.ones(2, dtype), requires_grad=True)


def test_requires_grad_of_an_intermediate_tensor():
    y = leaf(1.0) * 2
    with pytest.raises(ValueError, match=r"result of multiply; use .detach"):
        y.requires_grad = False
    x = leaf(1.0)
    x.requires_grad = False
    assert not (x * 2).requires_grad


def fake_backend() -> SimpleNamespace:
    """Another backend, as far as the tape can see: the numpy kernels under a second name."""
    return SimpleNamespace(**{k: getattr(cpu, k) for k in dir(cpu) if not k.startswith("_")} | {"name": "elsewhere"})


def test_mixing_backends_names_both():
    x, y = leaf(1.0, 2.0), Tensor(np.ones(2), fake_backend())
    for mix in (
        lambda: x * y,
        lambda: y + x,
        lambda: ops.maximum(x, y),
        lambda: ops.concatenate([x, y]),
        lambda: x.detach().__iadd__(y),
        lambda: x.backward(Tensor(np.ones(2), fake_backend())),
    ):
        with pytest.raises(ValueError) as caught:
            mix()
        message = str(caught.value)
        assert "'numpy'" in message and "'elsewhere'" in message and "(2,)" in message and ".to(" in message


# ---- in place ------------------------------------------------------------------------------------------------------


def test_leaves_are_changed_under_no_grad():
    w = leaf(1.0, 2.0)
    data = w.data
    (w * w).sum().backward()
    with tn.no_grad():
        w -= 0.5 * w.grad
        w *= 2
        w += np.float32(1)
        w /= np.array([1.0, 2.0])
        w[0] = 7
    assert w.data is data and w.numpy().tolist() == [7, 0.5]
    assert w.requires_grad
    w.grad = None
    (w * w).sum().backward()
    assert w.grad.numpy().tolist() == [14, 1]


def test_elsewhere_in_place_is_refused():
    x = leaf(1.0, 2.0)
    y = x * 2
    for change in (lambda: x.__isub__(1), lambda: y.__iadd__(1), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match="changed in place only if it is a leaf"):
            change()
    with tn.no_grad(), pytest.raises(RuntimeError, match="only if it is a leaf"):
        y += 1
    total = tn.tensor(np.zeros(2))
    with pytest.raises(RuntimeError, match=r"gradient of the right side .* would be lost; write x = x \+ y"):
        total += y
    with pytest.raises(ValueError, match=r"\+=: .*\(2,\), \(3,\)"):
        total += np.ones(3)
    total += y.detach()
    assert total.numpy().tolist() == [2, 4]


def test_in_place_keeps_the_dtype():
    x = tn.tensor([1.0, 2.0])
    x += np.array([0.5, 0.5])  # float64
    assert x.dtype == np.float32 and x.numpy().tolist() == [1.5, 2.5]


def test_a_saved_array_that_was_changed_is_named():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x * w).sum()
    with tn.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match=r"multiply saved an array of shape \(2,\) \(as 'y'\) that was changed"):
        y.backward()


def test_a_change_through_a_view_is_noticed():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    with tn.no_grad():
        view = x[:1]
        view += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_change_is_noticed_when_what_it_was_made_through_is_gone():
    w = leaf(1.0, 2.0)
    y = (w * w).sum()
    w.detach()[:] = 100.0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()

    def change_a_row(w):
        with tn.no_grad():
            row = w[1]
            row *= 5

    w = tn.tensor(np.ones((3, 2)), requires_grad=True)
    first, second, third = ((w[i] * w[i]).sum() for i in range(3))
    change_a_row(w)
    first.backward()  # another row
    with pytest.raises(RuntimeError, match="changed in place"):
        second.backward()
    third.backward()
    del w
    assert not any(owner() is None for owner, _ in changes.changed.times.values())


def test_changes_of_many_parts_are_remembered_in_bounded_space():
    w = tn.tensor(np.ones(3 * changes.MOST_SPANS), requires_grad=True)
    y = (w[:1] * w[:1]).sum()
    with tn.no_grad():
        for i in range(w.size):
            part = w[i : i + 1]
            part *= 2
    assert len(changes.changed.times[id(w.data.base if w.data.base is not None else w.data)][1]) <= changes.MOST_SPANS
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_changes_that_do_not_matter():
    """What was changed before, or is not needed by the derivative, or lies elsewhere, is no mistake."""
    x, b = leaf(1.0, 2.0), leaf(0.0, 0.0)
    with tn.no_grad():
        x += 1
    y = (x * x + b).sum()
    with tn.no_grad():
        b += 1
    y.backward()
    assert x.grad.numpy().tolist() == [4, 6]


# ---- arrays and lists of the caller's --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_operands_of_every_form_are_those_of_the_call(backend, declare):
    """An array, a 0-d one, a list, arrays in a list, an index of arrays and lists, an option by keyword; the second
    call, when all is built, as the first."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)

    def scaled(be, x, factors, *, by):
        return be.multiply(x, be.asarray(by)), lambda g, need: (be.multiply(be.multiply(g, by), factors[0]),)

    scaled = declare(scaled)
    for _ in range(2):
        x = tn.tensor([1.0, 2.0, 3.0], backend=backend, requires_grad=True)
        array, zero, inside = np.full(3, 2.0, np.float32), np.full((), 2.0, np.float32), [np.full(3, 2.0, np.float32)]
        by, places, rows = np.full(3, 3.0, np.float32), np.array([0, 0]), [2, 2]
        y = (x * array).sum() + (x * zero).sum() + x[places].sum() + x[(rows,)].sum()
        if backend == "numpy":
            y = y + scaled(x, inside, by=by).sum()
        array[...] = zero[...] = inside[0][...] = by[...] = 7
        inside[0], places[...], rows[:] = by, 1, [1, 1]
        y.backward()
        expected = np.array([6.0, 4.0, 6.0]) + (6 if backend == "numpy" else 0)
        assert x.grad.numpy().tolist() == expected.tolist()


def test_without_recording_nothing_is_copied():
    array = np.ones(100_000, np.float32)
    held = []

    def forward(be, x, y):
        held.append(y)
        return be.add(x, y), lambda g, need: (g, None)

    add = op(forward)
    del autograd.OPS["forward"]
    x = tn.tensor(np.ones_like(array), requires_grad=True)
    with tn.no_grad():
        add(x, array)
    add(x.detach(), array)
    add(x, array)
    assert [h is array for h in held] == [True, True, False]


@pytest.mark.parametrize(
    "hold",
    [
        lambda x, product: lambda g, need, x=x: product(g, x),
        lambda x, product: partial(Held(x, product).vjp),
        lambda x, product: Held(x, product).vjp,
        lambda x, product: partial(lambda x, g, need: product(g, x), x),
        lambda x, product: (lambda saved: lambda g, need: product(g, saved["x"][0]))({"x": [x]}),
        lambda x, product: (lambda inner: lambda g, need: inner(g))(lambda g: product(g, x)),
    ],
)
def test_what_a_product_saved_is_found_wherever_it_is(hold, declare):
    def doubled(be, x):
        return be.multiply(x, x), hold(x, lambda g, x: (be.multiply(g, be.multiply(2, x)),))

    x = leaf(3.0)
    doubled = declare(doubled)
    doubled(x).backward(np.ones(1))
    assert x.grad.item() == 6
    y = doubled(x)
    with tn.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match=r"backward: doubled saved an array of shape \(1,\).* changed in place"):
        y.backward(np.ones(1))


class Held:
    def __init__(self, x, product):
        self.x, self.product = x, product

    def vjp(self, g, need):
        return self.product(g, self.x)


# ---- size and memory -------------------------------------------------------------------------------------------------


def chain(x: Tensor, n: int) -> Tensor:
    for _ in range(n):
        x = x * 1.0
    return x


def test_a_chain_of_100_000_operations():
    x = leaf(2.0)
    chain(x, 100_000).backward(np.ones(1))
    assert x.grad.item() == 1


def test_a_long_chain_dies_without_backward():
    y = chain(leaf(2.0), 100_000)
    del y


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def step(x: Tensor, w: Tensor) -> None:
    loss = ops.softmax_cross_entropy(ops.dense(ops.relu(x @ w + 1.0), w), np.zeros(4, int))
    loss.backward()
    with tn.no_grad():
        w -= 0.01 * w.grad
    w.grad = None
    ops.relu(x @ w).sum()  # and a graph that is dropped


def test_memory_is_flat_over_1000_steps(no_gc):
    x, w = tn.tensor(np.ones((4, 8))), tn.tensor(np.eye(8), requires_grad=True)
    for size in range(1, 20):  # Python keeps up to 2000 dead tuples of each size: those lists are full from here
        _ = [tuple([None] * size) for _ in range(2100)]
    del _
    for _ in range(20):
        step(x, w)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        step(x, w)
    assert sys.getallocatedblocks() - before < 100, "objects stay behind with each step"
    assert len(changes.changed.times) <= 2, "changes of dead tensors are kept"


def test_backward_frees_as_it_goes(no_gc):
    """What the graph saved dies with its node, not with the last reference to the output."""
    x = leaf(1.0)
    kept = np.ones(1)
    y = x * Tensor(kept, x.backend)
    references = sys.getrefcount(kept)
    z = ops.exp(y)
    z.backward(np.ones(1))
    assert sys.getrefcount(kept) == references - 1


def test_leaves_are_held_weakly(no_gc):
    x = leaf(1.0)
    y = x * 2
    del x
    y.backward(np.ones(1))  # nobody asks for that gradient any more


# ---- declaring an operation -----


@pytest.fixture
def cube():
    @op
    def cube(be, x):
        y = be.multiply(be.multiply(x, x), x)
        return y, lambda g, need: (be.multiply(g, be.multiply(3.0, be.multiply(x, x))),)

    yield cube
    del autograd.OPS["cube"]


def test_an_operation_is_one_function(cube):
    x = leaf(1.0, 2.0)
    cube(x).sum().backward()
    assert x.grad.numpy().tolist() == [3, 12]
    assert tn.gradcheck(cube, x, **STRICT)
    assert autograd.OPS["cube"] is cube
    assert_array_equal(cube(np.array([2.0])).numpy(), [8])  # an array alone becomes a tensor


def test_gradient_dtype_is_the_value_dtype():
    x, w = tn.tensor(np.ones(2, np.float32), requires_grad=True), leaf(1.0, 2.0)
    y = (x * w).sum()
    assert y.dtype == np.float64
    y.backward()
    assert x.grad.dtype == np.float32 and w.grad.dtype == np.float64


def test_a_broadcast_input_keeps_its_strides():
    """A leaf on a stride-0 array gets a gradient of its own, of full size."""
    x = as_leaves([np.broadcast_to(np.ones(1), (3,))])[0]
    (x * x).sum().backward()
    assert x.grad.numpy().tolist() == [2, 2, 2] and x.grad.data.flags.writeable


def test_an_operation_that_forgets_its_vjp_is_told():
    @op
    def halved(be, x):
        return be.multiply(x, 0.5)

    try:
        with pytest.raises(TypeError, match=r"halved: an operation returns \(y, vjp\)"):
            halved(tn.tensor([1.0, 2.0]))
    finally:
        del autograd.OPS["halved"]
