"""What holds for every operation, whatever it computes. Each check takes a Case and raises where it fails;
test_ops.py runs all of them over all cases."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests.references import KINKS, two
from tests.references import reference as known
from tinynet.backends.cpu import columns, conv, lines, memory, norm, taps, threads, winograd
from tinynet.changes import overlap
from tinynet.ops.cases import CASES, Case, normal
from tinynet.tape import Node, Output
from tinynet.tensor import Tensor


def as_leaves(arrays: list[np.ndarray], wanted: Any = None) -> list[Tensor]:
    """Tensors on these very arrays (no copies, strides kept); the floating ones in `wanted` require a gradient."""
    be = tn.backends.get("numpy")
    leaves = [Tensor(x, be) for x in arrays]
    for i, x in enumerate(leaves):
        if x.dtype.kind == "f" and (wanted is None or i in wanted):
            x.requires_grad_()
    return leaves


def share(be: Any, x: Any, y: Any) -> bool:
    """Whether two arrays of a backend overlap."""
    return overlap(be.bounds(x), be.bounds(y))


def outputs_of(case: Case, tensors: list[Tensor]) -> list[Tensor]:
    result = case(*tensors)
    return list(result) if isinstance(result, list | tuple) else [result]


def cotangent(y: Tensor, seed: int = 3) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(y.shape), y.dtype)


def run(case: Case, arrays: list[np.ndarray], wanted: Any = None, g: Callable = cotangent) -> tuple[list, list]:
    """(the output arrays, the gradient arrays of the inputs): backward from the sum over all outputs."""
    leaves = as_leaves(arrays, wanted)
    values = []
    for k in range(len(outputs_of(case, leaves))):
        y = outputs_of(case, leaves)[k]
        values.append(y.data)
        if y.requires_grad:
            y.backward(Tensor(g(y), y.backend))
    return values, [None if x.grad is None else x.grad.data for x in leaves]


def floating(arrays: list) -> list[int]:
    return [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]


def nodes_of(y: Tensor) -> Iterator[Node]:
    """All operations of y's graph."""
    seen, queue = set(), [y.node]
    while queue:
        node = queue.pop()
        if node is None or node.is_leaf or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        queue.extend(node.parents)


# ---- the checks ----------------------------------------------------------------------------------------


def gradient(case: Case) -> None:
    """Against central differences; shapes, aliasing and mutation too (see tinynet/gradcheck.py)."""
    case.check()


def dtypes(case: Case) -> None:
    """Float32 in, float32 out, even with Python numbers around; a gradient has the dtype of its value."""
    exact = run(case, case.arrays())
    n = len(case.draws)
    for kinds in {(np.float32,) * n, (np.float32, *(np.float64,) * (n - 1)), (np.float64, *(np.float32,) * (n - 1))}:
        arrays = [x.astype(kind) if x.dtype.kind == "f" else x for x, kind in zip(case.arrays(), kinds, strict=True)]
        values, gradients = run(case, arrays)
        if set(kinds) == {np.float32} and "dtype" not in case.options:
            assert {y.dtype for y in values if y.dtype != np.int64} == {np.dtype(np.float32)}, "float32 was promoted"
        for x, g, expected in zip(arrays, gradients, exact[1], strict=True):
            if g is not None:
                assert g.dtype == x.dtype, f"a value of {x.dtype} got a gradient of {g.dtype}"
                assert_allclose(g, expected, rtol=1e-3, atol=1e-4)


def arrays_stay_arrays(case: Case) -> None:
    """0-d results and gradients are arrays, not NumPy scalars, and no gradient is differentiable."""
    values, gradients = run(case, case.arrays())
    for array in [*values, *(g for g in gradients if g is not None)]:
        assert type(array) is np.ndarray
    leaves = as_leaves(case.arrays())
    outputs_of(case, leaves)[0].backward(np.ones(outputs_of(case, leaves)[0].shape))
    assert all(x.grad is None or not x.grad.requires_grad for x in leaves)


def vjp_contract(case: Case) -> None:
    """Each product returns at most one gradient an input, nothing that needs work where none is wanted, and no
    array that the operation keeps."""
    for wanted in ([i] for i in floating(case.arrays())):
        count = len(outputs_of(case, as_leaves(case.arrays(), wanted)))
        for alone in [[k] for k in range(count)] + [list(range(count))]:  # each output by itself, and all at once
            ys = outputs_of(case, as_leaves(case.arrays(), wanted))
            ys = [ys[k] for k in alone if ys[k].node]
            for node in {id(n): n for y in ys for n in nodes_of(y)}.values():
                _check_product(node)
            if ys:
                sum((y * Tensor(cotangent(y), y.backend)).sum() for y in ys).backward()


def _check_product(node: Node) -> None:
    original, saved = node.vjp, saved_arrays(node.vjp)

    def checked(g, need):
        parts = original(g, need)
        assert isinstance(parts, tuple) and len(parts) <= len(need), f"{node.name}: {len(parts)} gradients"
        if isinstance(parts[0], Output):
            return parts
        gs = [part for part in (g if isinstance(g, tuple) else [g]) if part is not None]
        given = lambda part: any(np.may_share_memory(part, g) for g in gs)  # noqa: E731
        for part, wanted in zip(parts, need, strict=False):
            if part is None:
                assert not wanted, f"{node.name}: a wanted gradient is missing"
            elif not wanted:
                cheap = not part.size or given(part)
                assert cheap, f"{node.name}: computes a gradient that nobody wants"
            else:
                twins = [p for p in parts if p is not None and p is not part and not given(p)]
                assert not any(np.may_share_memory(part, p) for p in twins), f"{node.name}: one array for two inputs"
                for array in saved:
                    assert not np.may_share_memory(part, array), f"{node.name}: gives away an array that it keeps"
        return parts

    node.vjp = checked


def saved_arrays(value: Any) -> list[np.ndarray]:
    """The arrays that a product holds, in its closure and in tuples there."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [array for part in value for array in saved_arrays(part)]
    if hasattr(value, "__closure__"):
        return [array for cell in value.__closure__ or () for array in saved_arrays(cell.cell_contents)]
    return []


def subsets(case: Case) -> None:
    """The gradient of one input does not depend on which others want one."""
    arrays = case.arrays()
    complete = run(case, arrays)[1]
    for flags in product([False, True], repeat=len(floating(arrays))):
        wanted = [i for i, flag in zip(floating(arrays), flags, strict=True) if flag]
        for i, g in enumerate(run(case, arrays, wanted)[1]):
            if i in wanted:
                assert g is not None, f"input {i} wanted a gradient and got none"
                assert_array_equal(g, complete[i], strict=True)
            else:
                assert g is None, f"input {i} wanted no gradient and got one"


def _reversed(x: np.ndarray) -> np.ndarray:
    """The same values behind negative strides."""
    everything = (..., *(slice(None, None, -1) for _ in x.shape))  # the ... keeps a 0-d array an array
    return np.array(x[everything], order="C")[everything]


def _spread(x: np.ndarray) -> np.ndarray:
    """The same values as every second element of a larger array full of NaN."""
    room = np.full([2 * n for n in x.shape], np.nan if x.dtype.kind == "f" else 0, x.dtype)
    view = room[(..., *(slice(None, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def _repeated(x: np.ndarray) -> np.ndarray:
    """Its first value (of each row, where there are rows) everywhere, behind strides 0."""
    return np.broadcast_to(x[..., :1] if x.ndim > 1 else x[:1] if x.ndim else x, x.shape)


LAYOUTS = {"fortran": lambda x: np.array(x, order="F"), "reversed": _reversed, "spread": _spread, "stride 0": _repeated}


def layouts(case: Case) -> None:
    """Inputs and cotangents of any strides give what contiguous ones give."""
    for name, layout in LAYOUTS.items():
        strange = [layout(x) for x in case.arrays()]
        plain = [np.array(x, order="C") for x in strange]
        for mine in (cotangent, lambda y, layout=layout: layout(cotangent(y))):
            values, gradients = run(case, strange, g=mine)
            expected, wanted = run(case, plain, g=lambda y, mine=mine: np.array(mine(y), order="C"))
            for a, b in zip([*values, *gradients], [*expected, *wanted], strict=True):
                if b is not None:
                    assert_allclose(a, b, rtol=1e-12, atol=1e-13, err_msg=f"{name} strides")
        for a, b in zip(strange, plain, strict=True):
            assert_array_equal(a, b, err_msg=f"an input with {name} strides was changed")


def twice(case: Case) -> None:
    """A graph serves once, and says so; a second graph adds to `.grad`."""
    leaves = as_leaves(case.arrays())
    for _ in range(2):
        y = outputs_of(case, leaves)[0]
        y.backward(cotangent(y))
    try:
        y.backward(cotangent(y))
    except RuntimeError as error:
        assert "consumed" in str(error) and "again" in str(error)
    else:
        raise AssertionError("a second backward through one graph was let through")
    once = as_leaves(case.arrays())
    y = outputs_of(case, once)[0]
    y.backward(cotangent(y))
    for x, x1 in zip(leaves, once, strict=True):
        if x1.grad is not None:
            assert_allclose(x.grad.data, 2 * x1.grad.data, rtol=1e-13)


def freed(case: Case) -> None:
    """No reference cycles: a graph dies with its last reference, whether backward ran or not."""
    collecting = gc.isenabled()
    gc.freeze()  # only what is made from here on is looked at
    gc.disable()
    try:
        run(case, case.arrays())
        outputs_of(case, as_leaves(case.arrays()))
        assert gc.collect() == 0, "the graph holds a reference cycle"
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def changed_inputs(case: Case) -> None:
    """After an input was changed in place, backward gives the gradient of before, or refuses; never a wrong one."""
    expected = run(case, case.arrays())[1]
    for i in range(len(case.draws)):
        leaves = as_leaves(case.arrays())
        ys = [y for y in outputs_of(case, leaves) if y.requires_grad]
        gs = [Tensor(cotangent(y), y.backend) for y in ys]
        total = ys[0] if len(ys) == 1 else sum((y * g).sum() for y, g in zip(ys, gs, strict=True))
        with tn.no_grad():
            leaves[i][...] = 0
        try:
            total.backward(*gs if len(ys) == 1 else ())
        except RuntimeError as error:
            assert "changed in place" in str(error) and "saved" in str(error)
            continue
        for x, g in zip(leaves, expected, strict=True):
            if g is not None:
                assert_allclose(x.grad.data, g, rtol=1e-13, atol=1e-13, err_msg=f"input {i} was changed unnoticed")


def overwrite(x: np.ndarray) -> None:
    """Other values that are as valid: another truth, class 0, another number."""
    x[...] = np.logical_not(x) if x.dtype == bool else 0 if x.dtype.kind in "iu" else 0.75


def changed_operands(case: Case, backend: str = "numpy") -> None:
    """Arrays that the caller gave, operands and options (an index), may be written to before backward: the gradient is
    that of the values at the call."""
    for i in range(-1, len(case.draws)):  # -1: only the options are arrays
        wanted = [j for j in floating(case.arrays()) if j != i]
        found = []
        for change in (False, True):
            arrays = case.arrays()
            options = {
                k: v.copy()
                if isinstance(v, np.ndarray)
                else tuple(p.copy() if isinstance(p, np.ndarray) else p for p in v)
                if isinstance(v, tuple)
                else v
                for k, v in case.options.items()
            }
            with tn.use(backend):
                inputs = [x if j == i else tn.tensor(x, requires_grad=j in wanted) for j, x in enumerate(arrays)]
                y = case.fn(*inputs, **options)
            y = y[0] if isinstance(y, list | tuple) else y
            if not isinstance(y, Tensor) or not y.requires_grad:
                break
            for x in saved_arrays([arrays[max(i, 0) : i + 1], *options.values()]) if change else ():
                overwrite(x)
            y.backward(cotangent(y))
            found.append([x.grad.numpy() for j, x in enumerate(inputs) if j in wanted and x.grad is not None])
        if len(found) == 2:
            for a, b in zip(*found, strict=True):
                assert_array_equal(a, b, err_msg=f"operand {i} was changed by its owner, unnoticed")


def grad_equals_backward(case: Case) -> None:
    """tn.grad gives what backward leaves, and leaves `.grad` alone."""
    arrays = case.arrays()
    leaves = as_leaves(arrays)
    xs = [x for x in leaves if x.requires_grad]
    y = outputs_of(case, leaves)[0]
    found = tn.grad(y, xs, cotangent(y))
    assert all(x.grad is None for x in leaves)
    again = as_leaves(arrays)
    outputs_of(case, again)[0].backward(cotangent(y))
    for g, x in zip(found, (x for x in again if x.requires_grad), strict=True):
        assert_array_equal(g.data, np.zeros(x.shape) if x.grad is None else x.grad.data, strict=True)


def values(case: Case) -> None:
    """What tests/references.py computes with loops and plain NumPy."""
    if case.fn is not getattr(tn.ops, case.name, None):
        return  # a row that combines operations: others hold the values
    if case.name.startswith("conv") and not len(case.draws[0](np.random.default_rng(0))):
        return
    arrays = case.arrays()
    expected = known(case.name)(*arrays, **case.options)
    found = outputs_of(case, as_leaves(arrays))
    for y, e in zip(found, expected if isinstance(expected, list | tuple) else [expected], strict=True):
        assert y.shape == np.shape(e), f"shape {y.shape}, the reference says {np.shape(e)}"
        assert_allclose(y.numpy(), e, rtol=1e-12, atol=1e-13)


CHECKS = [
    gradient,
    values,
    dtypes,
    arrays_stay_arrays,
    vjp_contract,
    subsets,
    layouts,
    twice,
    freed,
    changed_inputs,
    changed_operands,
    grad_equals_backward,
]


def kinks(name: str, inputs: list, expected: list) -> None:
    """The gradient where a derivative jumps, for a cotangent of ones (None: it is not asked)."""
    leaves = [tn.tensor(np.asarray(x, float), requires_grad=True) if np.ndim(x) else x for x in inputs]
    y = getattr(tn.ops, name)(*leaves)
    y.backward(np.ones(y.shape))
    for x, gradient in zip(leaves, expected, strict=False):
        for place, g in np.ndenumerate(np.asarray(gradient, object)):
            assert g is None or abs(x.grad.numpy()[place] - g) < 1e-12, f"{name}: {x.grad.numpy()} at {x.numpy()}"


def dropout_scale() -> None:
    """What dropout keeps, it divides by 1 - rate."""
    x = np.linspace(1, 2, 100).reshape(10, 10)
    y = tn.ops.dropout(tn.tensor(x), 0.4).numpy()
    assert 0 < np.count_nonzero(y) < 100
    assert_allclose(y[y != 0], x[y != 0] / 0.6, rtol=1e-5)  # the rate is rounded to 1/65536


def repeated_rows() -> None:
    """The gradient of a row that is taken 100,000 times, in float32: one by one its sum would be wrong by 1e-4."""
    be = tn.backends.get("numpy")
    g, index = np.full((1, 100_001, 2), 0.1, np.float32), np.ones(100_001, np.int64)
    index[0] = 2
    dx = be.take_rows_grad(g, index, 4)
    assert dx.dtype == np.float32
    assert_allclose(dx[0], np.outer([0, 100_000, 1, 0], [g[0, 0, 0]] * 2), rtol=1e-6)


def given_means() -> None:
    """The gradient of a normalisation whose two means are given, for several samples and for one, by its formula; in
    parts of a sample, too."""
    be, rng, eps = tn.backends.get("numpy"), np.random.default_rng(0), 0.1
    for n, centred, part in product((1, 2), (True, False), (norm.PART_BYTES, 1)):
        g, x = rng.standard_normal((2, n, 5, 3, 2))
        mean, var, a, b = rng.uniform(0.5, 2, (4, n, 3))
        gamma = rng.standard_normal((3, 2))
        root, zero = 1 / np.sqrt(var + eps), np.zeros((n, 3))
        m, r, g_mean, gx_mean = (
            v[:, None, :, None] for v in (mean if centred else zero, root, a if centred else zero, b)
        )
        expected = r * (gamma * g - g_mean - (x - m) * r * gx_mean)
        given = (mean, var, gamma, eps, a, b) if centred else (None, var, gamma, eps, None, b)
        before, norm.PART_BYTES = norm.PART_BYTES, part
        try:
            assert_allclose(be.normalize_grad(g, x, *given), expected, rtol=1e-11, atol=1e-12)
        finally:
            norm.PART_BYTES = before


def batch_of_shares() -> None:
    """Batch normalisation of a share, where another process has the same samples, is that of the batch of both."""
    rng, shares = np.random.default_rng(0), tn.ops.normalisation.shares
    x, gamma, beta, *gs = (rng.standard_normal(s) for s in ((4, 3), (3,), (3,), (4, 3), (3,), (3,)))
    found = []
    for gather, times in (None, 2), (lambda v: np.stack([v, v]), 1):
        leaves = as_leaves([np.concatenate([x] * times), gamma, beta])
        shares.gather = gather
        try:
            y, mean, var = tn.ops.batch_norm(*leaves)
            weights = np.concatenate([gs[0]] * times), gs[1] * times, gs[2] * times
            sum((out * w).sum() for out, w in zip((y, mean, var), weights, strict=True)).backward()
        finally:
            shares.gather = None
        found.append([leaves[0].grad.data[:4], *(leaf.grad.data / times for leaf in leaves[1:])])
    for one, other in zip(*found, strict=True):
        assert_allclose(other, one, rtol=1e-11, atol=1e-12)


@contextmanager
def small_tiles() -> Iterator[None]:
    """Within, convolutions work in the smallest tiles that there are, as large images make them do."""
    with ExitStack() as stack:
        smallest = (
            (columns, "COLUMNS_BYTES", 1),
            (taps, "COLUMNS_BYTES", 1),
            (winograd, "PART_BYTES", 1),
            (lines, "PART_BYTES", 1),
            (taps, "SMALL_PRODUCT", 1500),
            (winograd, "SMALL_PRODUCT", 100),
            (  # the last block may be shorter
                threads,
                "SHARES",
                1,
            ),
        )
        for module, name, value in smallest:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        stack.enter_context(threads.set_threads(2))
        yield


def algorithm(name: str, case: Case) -> None:
    """A convolution by one algorithm, in many tiles, is the one whose gradient central differences confirmed."""
    arrays = case.arrays()
    expected = run(case, arrays)
    for tiles in nullcontext, small_tiles:
        for wanted in (None, *([i] for i in floating(arrays))):
            with tn.set_conv_algorithm(name), tiles():
                found = run(case, arrays, wanted)
            for i, (a, e) in enumerate(zip(found[0] + found[1], expected[0] + expected[1], strict=True), -1):
                if i < 0 or wanted is None or i in wanted:
                    assert_allclose(a, e, rtol=1e-9, atol=1e-10)


def reference(case: Case) -> None:
    """The ten lines for a reader (conv.reference_…) give what the operation gives."""
    if "pool" in case.options or case.options.get("padding") in ("same", "valid") or len(case.draws) < 3:
        return
    x, w, b = case.arrays()
    if not x.size:
        return
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | case.options
    stride, padding, dilation = (two(options[k]) for k in ("stride", "padding", "dilation"))
    at = conv.Geometry(stride, tuple((p, p) for p in padding), dilation, options["groups"])
    (y,), gradients = run(case, [x, w, b])
    g = np.asarray(np.random.default_rng(3).standard_normal(y.shape))
    if case.name == "conv2d":
        found = conv.reference_conv2d(x, w, b, at), *conv.reference_conv2d_grad(g, x, w, at)
    else:
        value, saved = conv.reference_conv_relu_pool(x, w, b, at, True)
        found = value, *conv.reference_conv_relu_pool_grad(g, saved)
    for a, e in zip(found, (y, *gradients), strict=True):
        assert_allclose(a, e, rtol=1e-10, atol=1e-11)


def adjoint(name: str) -> None:
    """⟨im2col x, c⟩ = ⟨x, col2im c⟩ on backend `name`, for odd sizes, strides, paddings and dilations."""
    be, rng = tn.backends.get(name), np.random.default_rng(0)
    for kernel, stride, padding, dilation in product(
        [(3, 2)], [(1, 1), (2, 3)], [((0, 0), (0, 0)), ((1, 2), (0, 3))], [(1, 1), (2, 1)]
    ):
        x = rng.standard_normal((2, 6, 5, 3))
        columns = be.im2col(be.asarray(x), kernel, stride, padding, dilation)
        c = rng.standard_normal(columns.shape)
        back = be.numpy(be.col2im(be.asarray(c), x.shape, stride, padding, dilation))
        assert back.shape == x.shape
        assert_allclose((be.numpy(columns) * c).sum(), (x * back).sum(), rtol=1e-12)


@contextmanager
def poisoned() -> Iterator[None]:
    """Within, the numpy backend's fresh memory is full of NaN: what is not written shows."""
    real = memory.empty

    def empty(shape, dtype):
        array = real(shape, dtype)
        array.fill(np.nan if array.dtype.kind == "f" else 1)
        return array

    modules = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get("empty") is real]
    for module in modules:
        module.empty = empty
    try:
        yield
    finally:
        for module in modules:
            module.empty = real


# Convolutions to be held against one another, with images too large for central differences: many tiles each way.
CONVOLUTIONS = [c for c in CASES if c.name in ("conv2d", "conv_relu_pool")] + [
    Case(
        name,
        getattr(tn.ops, name),
        (normal(*shape, 2), normal(3, 3, 2 // groups, 4), normal(4)),
        {"padding": padding, "groups": groups},
    )
    for name in ("conv2d", "conv_relu_pool")
    for shape, padding, groups in (((3, 13, 15), (1, 0), 1), ((2, 13, 22), (0, 1), 1), ((2, 15, 9), (0, 0), 2))
]
CONVOLUTIONS += [Case("conv2d", tn.ops.conv2d, (normal(2, 13, 10, 2), normal(5, 5, 2, 4), normal(4)), {"padding": 1})]
CONVOLUTIONS += [  # filters of one pixel, or a line: im2col's input gradient has a shorter way for the first of them
    Case(
        name,
        getattr(tn.ops, name),
        (normal(2, 7, 5, 2), normal(*kernel, 2 // groups, 4), normal(4)),
        {"padding": padding, "stride": stride, "groups": groups},
    )
    for name in ("conv2d", "conv_relu_pool")
    for kernel, padding, stride, groups in (
        ((1, 1), 0, 1, 1),
        ((1, 1), 1, 1, 1),
        ((1, 1), 0, (1, 2), 1),
        ((1, 1), 0, 1, 2),
        ((1, 2), 0, 1, 1),
        ((2, 1), 0, 1, 1),
    )
]

# Everything that sees a wrong derivative, as functions without arguments: what tests/mutate.py runs.
PROOFS = {
    **{
        f"{check.__name__}: {case}": partial(check, case)
        for case in CASES
        if case.smooth
        for check in (gradient, values, subsets)
    },
    **{
        f"{name}: {case}": partial(algorithm, name, case)
        for case in CONVOLUTIONS
        for name in ("im2col", "taps", "winograd", "lines")
    },
    **{f"reference: {case}": partial(reference, case) for case in CONVOLUTIONS},
    **{f"kink {i}: {name}": partial(kinks, name, *rest) for i, (name, *rest) in enumerate(KINKS)},
    "dropout": dropout_scale,
    "repeated rows": repeated_rows,
    "given means": given_means,
    "batch of shares": batch_of_shares,
    "adjoint": partial(adjoint, "numpy"),
}
