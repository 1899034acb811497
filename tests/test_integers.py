"""Integers, bools and odd arguments: every operation has the right value and dtype on each backend, or one refusal."""

from __future__ import annotations

import array
import collections

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import checks
from tests.strategies import named
from tinynet import autograd, integers, nn, ops
from tinynet.ops.cases import CASES, Case

KINDS = (np.bool_, np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64)
BACKENDS = ("numpy", "simulator")
# Each dtype's widest: what only moves values keeps these.
KEPT = {
    "adaptive_max_pool2d",
    "max_pool1d",
    "astype",
    "broadcast_to",
    "ceil",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "floor",
    "getitem",
    "max",
    "max_pool2d",
    "min",
    "round",
    "trunc",
    "pad",
    "repeat",
    "reshape",
    "roll",
    "sort",
    "split",
    "squeeze",
    "stack",
    "take",
    "take_along_axis",
    "tile",
    "topk",
    "transpose",
}
FLOATS = {
    "avg_pool2d",
    "binary_cross_entropy_with_logits",
    "global_avg_pool2d",
    "logcumsumexp",
    "mean",
    "norm",
    "std",
    "var",
    *(name for name, operation in autograd.OPS.items() if operation.integers == "float64"),
}
REFUSED = {
    "batch_norm",
    "dropout",
    "embedding",
    "gaussian_noise",
    "group_norm",
    "layer_norm",
    "log_softmax",
    "logsumexp",
    "normalize",
    "resize2d",
    "rms_norm",
    "scaled_dot_product_attention",
    "softmax",
    "softmax_cross_entropy",
    "upsample2d",
}


class Foreign:
    """Stands for another library's array, as a pandas.Series: all that NumPy knows of it is `__array__`."""

    def __init__(self, values):
        self.values = np.array(values)

    def get(self, key, default=None):
        raise AssertionError("a Series is no array of CuPy, which has get() too")

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


def outcome(name: str, call) -> list | str:
    """What a call gives on a backend: (dtype, values) of each output, or the refusal."""
    if reason := tn.backends.why_not(name):
        pytest.skip(reason)
    with tn.use(name):
        try:
            y = call()
        except (ValueError, TypeError, IndexError) as error:
            return f"{type(error).__name__}: {error}"
    return [(x.dtype, x.numpy()) for x in (y if isinstance(y, list | tuple) else [y])]


def same(call) -> list | str:
    """The outcome, which must be one on all backends; a refusal names the operation and gives NumPy no word."""
    found = [outcome(name, call) for name in BACKENDS]
    if isinstance(found[0], str):
        assert found[0] == found[1]
        assert "ufunc" not in found[0] and "cast" not in found[0] and "numpy" not in found[0]
        return found[0]
    assert not isinstance(found[1], str), f"numpy computes, a device refuses: {found[1]}"
    for (dtype, x), (dtype1, y) in zip(*found, strict=True):
        assert dtype == dtype1
        assert_allclose(x, y, rtol=1e-12, atol=1e-13)
    return found[0]


def as_kind(x: np.ndarray, kind) -> np.ndarray:
    whole = np.rint(3 * x)
    return np.asarray(whole > 0 if kind is np.bool_ else (abs(whole) if np.dtype(kind).kind == "u" else whole), kind)


def drawn(case: Case, kind) -> list[np.ndarray]:
    given = [as_kind(x, kind) if x.dtype.kind == "f" else x for x in case.arrays()]
    if case.name in ("mod", "fmod", "floor_divide"):  # by 0 integers give 0, floats NaN
        given[1][given[1] == 0] = 1
    return given


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("name", dict.fromkeys(c.name for c in CASES))
def test_every_operation_on_integers(name, kind):
    """The values are those of the same numbers in float64, so none was cut off or wrapped around."""
    for case in CASES:
        if case.name != name:
            continue
        given = drawn(case, kind)
        found = same(lambda case=case, given=given: case(*(tn.tensor(x) for x in given)))
        if isinstance(found, str):
            bools = kind is np.bool_ and name in ("adaptive_max_pool2d", "max_pool1d", "max_pool2d", "pad")
            assert (
                name in REFUSED
                or kind is np.uint64
                or bools
                or (name == "power" and "negative integer powers" in found)
            ), f"{case}: {found}"
            continue
        assert name not in REFUSED
        if name in FLOATS or name in KEPT:
            kept = np.dtype(case.options.get("dtype", kind))
            dtypes = {np.dtype(np.float64) if name in FLOATS else kept}
            if case.fn is getattr(ops, name) and name not in ("binary_cross_entropy_with_logits",):
                assert {d for d, _ in found[: 1 if name == "topk" else None]} == dtypes, str(case)
        else:
            assert all(
                d in ((np.int64, np.float64) if case.smooth else (np.bool_, np.int64, np.float32)) for d, _ in found
            )
        expected = checks.outputs_of(
            case,
            [
                tn.tensor(x.astype(float) if d.dtype.kind == "f" else x)
                for x, d in zip(given, case.arrays(), strict=True)
            ],
        )
        for (_, y), e in zip(found, expected, strict=True):
            assert_allclose(y, e.numpy(), rtol=1e-12, atol=1e-13, err_msg=str(case))


def test_each_rule_is_one_that_the_engine_knows():
    assert set(integers.RULES) == {"int64", "float64", "kept"}
    with pytest.raises(ValueError, match="integers='int32' must be one of int64, float64, kept"):
        autograd.op(lambda be, x: (x, None), integers="int32")
    with pytest.raises(TypeError, match="generator or a coroutine"):

        @autograd.op
        def steps(be, x):
            yield x


@pytest.mark.parametrize("first", KINDS, ids=lambda k: k.__name__)
def test_two_dtypes(first):
    for second in (*KINDS, np.float32, np.float64):
        x, y = np.array([1, 0, 1], first), np.array([100, 1, 0], second)
        for op in (ops.add, ops.multiply, ops.maximum, ops.subtract, ops.divide, ops.power, ops.less):
            found = same(lambda op=op, x=x, y=y: op(tn.tensor(x), tn.tensor(y)))
            mixed = {first, second}
            assert isinstance(found, str) == (np.uint64 in mixed and np.dtype(second).kind != "f"), found
        same(lambda x=x, y=y: ops.where(tn.tensor(x), tn.tensor(y), tn.tensor(x)))
        same(lambda x=x, y=y: ops.concatenate([tn.tensor(x), tn.tensor(y)]))
        same(lambda x=x, y=y: tn.tensor(y) + x)
    assert same(lambda: tn.tensor(np.ones(2, np.float32)) * np.array([True, False]))[0][0] == np.float32


def test_tensors_of_foreign_arrays():
    assert tn.tensor(Foreign(np.array([1, 2], np.uint8))).numpy().tolist() == [1, 2]
    assert tn.tensor([1.0, 2.0]).reshape(Foreign([2, 1])).shape == (2, 1)
    model = nn.Sequential(nn.Dense(2), input_shape=3)
    assert model(Foreign(np.zeros((4, 3), np.float32))).shape == (4, 2)


def test_integer_powers():
    big = [-7, -1, 0, 1, 2, 3, 3037000500]
    for base in big:
        for exponent in (0, 1, 2, 3, 62, 63, 64, 200):
            ((dtype, y),) = same(lambda b=base, e=exponent: tn.tensor([b]) ** e)
            wrapped = (base**exponent + 2**63) % 2**64 - 2**63
            assert dtype == np.int64 and y[0] == wrapped
    for exponent in (-1, np.int8(-2), np.array([1, -1]), [2, -3]):
        for x in (np.array([1, 2]), np.array([1, 2], np.uint8)):
            found = same(lambda x=x, e=exponent: ops.power(tn.tensor(x), tn.tensor(e) if np.ndim(e) else e))
            assert found.startswith("ValueError: power: integers to negative integer powers")
    assert same(lambda: tn.tensor([1, 2]) ** -1.0)[0][1].tolist() == [1, 0.5]
    assert same(lambda: 2 ** tn.tensor([1, 3]))[0][1].tolist() == [2, 8]


def test_powers_of_an_integer_and_a_float_have_exact_derivatives():
    for kind in (np.int8, np.uint8, np.bool_, np.int64):
        whole, y = np.array([1, 3], kind), np.array([0.5, 2.0])
        for name in BACKENDS:
            if not tn.backends.why_not(name):
                t = tn.tensor(y, backend=name, requires_grad=True)
                (tn.tensor(whole, backend=name) ** t).sum().backward()
                assert_allclose(t.grad.numpy(), whole.astype(float) ** y * np.log(whole.astype(float)), rtol=1e-12)
                t = tn.tensor(y, backend=name, requires_grad=True)
                (t ** tn.tensor(whole, backend=name)).sum().backward()
                assert_allclose(t.grad.numpy(), whole * y ** (whole - 1.0), rtol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, np.float32, np.float64], ids=lambda k: k.__name__)
def test_limits(kind):
    x = as_kind(np.linspace(-2, 3, 7), kind) if np.dtype(kind).kind != "f" else np.linspace(-2, 3, 7).astype(kind)
    nan, infinity = float("nan"), float("inf")
    limits = (
        None,
        1,
        2.5,
        np.int8(-1),
        np.float64(1.5),
        True,
        infinity,
        -infinity,
        nan,
        np.array(1),
        np.array([1, 2]),
        [0, 1],
        "1",
        2**40,
    )
    for low in limits:
        for high in limits:
            found = same(lambda low=low, high=high: ops.clip(tn.tensor(x), low, high))
            bad = any(isinstance(v, str) or np.ndim(v) or v != v for v in (low, high) if v is not None)
            crossed = not bad and low is not None and high is not None and low > high
            assert isinstance(found, str) == (bad or crossed or kind is np.uint64), (low, high, found)
            if isinstance(found, list):
                a, b = (-infinity if low is None else low), (infinity if high is None else high)
                assert_allclose(found[0][1], np.minimum(np.maximum(x.astype(float), a), b), rtol=1e-6)
                fractions = isinstance(low, float) or isinstance(high, float)
                assert found[0][0] == (kind if np.dtype(kind).kind == "f" else np.float64 if fractions else np.int64)


@pytest.mark.parametrize(
    "condition",
    [
        True,
        False,
        np.bool_(True),
        [True, False],
        (False, True),
        np.array([1, 0]),
        Foreign([True, False]),
        2.0,
        np.array([0.5, 0.0]),
    ],
    ids=named,
)
def test_conditions(condition):
    for x in (np.array([1.0, 2.0], np.float32), np.array([1, 2], np.uint8)):
        for other in (0.0, 3, [7.0, 8.0], True):
            ((dtype, y),) = same(lambda x=x, other=other: ops.where(condition, tn.tensor(x), other))
            assert_allclose(y, np.where(np.asarray(condition, bool), x, other))
            assert dtype != np.float64 or (x.dtype == np.uint8 and isinstance(other, float))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.bool_], ids=lambda k: k.__name__)
def test_rates_at_their_ends(kind):
    x = np.ones((50, 3), kind)
    for rate in (0, 0.0, 1e-9, 0.5, 1 - 1e-9, 1, 1.0, -0.1, float("nan"), np.float16(0.5), True, np.array(0.5)):
        tn.seed(1)
        runs = []
        for name in BACKENDS:
            tn.seed(1)
            runs.append(outcome(name, lambda rate=rate: ops.dropout(tn.tensor(x), rate)))
        assert isinstance(runs[0], str) == isinstance(runs[1], str) == (not 0 <= rate < 1 or np.dtype(kind).kind != "f")
        if isinstance(runs[0], str):
            assert runs[0] == runs[1] and runs[0].startswith(("TypeError: dropout:", "ValueError: dropout:"))
        else:
            assert runs[0][0][0] == runs[1][0][0] == kind
            assert_allclose(runs[0][0][1], runs[1][0][1], rtol=1e-6)


def test_lists_are_operands_and_promote_nothing():
    x = np.array([1.0, 2.0], np.float32)
    for value in ([1.5, 2.0], (1.5, 2.0), [1, 2], Foreign(np.array([1, 2], np.float32))):
        for op in (ops.add, ops.multiply, ops.less, ops.maximum):
            ((dtype, _),) = same(lambda op=op, value=value: op(tn.tensor(x), value))
            assert dtype in (np.float32, bool) or np.asarray(value).dtype.kind == "i"
    for odd in (np.array([1j, 2]), np.array(["a", "b"]), np.array([None, 1])):
        assert "must be floating, integer or bool" in same(lambda odd=odd: tn.tensor(x) + odd)


# ---- in place ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [0.5, np.array([0.5, 1]), [0.5, 1.0], 300, float("nan"), np.array([300, 1]), 2**70], ids=named
)
def test_what_does_not_fit_is_not_written_into_integers(value):
    def add():
        x = tn.tensor(np.array([1, 2], np.uint8))
        x += value
        return x

    def put():
        x = tn.tensor(np.array([1, 2], np.uint8))
        x[:] = value
        return x

    def padded():
        return ops.pad(tn.tensor(np.array([1, 2], np.uint8)), 1, value=value)

    for call in (add, put, *([padded] if np.ndim(value) == 0 else [])):
        assert "the tensor has dtype uint8, which cannot hold" in same(call)


def test_what_fits_is_written():
    def call(kind, value):
        x = tn.tensor(np.array([1, 2], kind))
        x += value
        x[0] = value if np.ndim(value) == 0 else 5
        return x

    for kind, value in (
        (np.uint8, 3),
        (np.int64, 2.0),
        (np.int64, np.array([1, 2], np.int8)),
        (np.float32, 0.5),
        (np.float32, [0.5, 1]),
        (np.float32, np.array([1, 2])),
    ):
        ((dtype, _),) = same(lambda kind=kind, value=value: call(kind, value))
        assert dtype == kind


# ---- indices -------------------------------------------------------------------------------------------------------

VALUES = [0, 2, 0, -1]
FORMS = {
    "list": list,
    "ndarray": np.array,
    "int8": lambda v: np.array(v, np.int8),
    "foreign": Foreign,
    "array.array": lambda v: array.array("l", v),
    "deque": collections.deque,
    "tensor": tn.tensor,
    "memoryview": lambda v: memoryview(np.array(v)),
    "tuple in a tuple": lambda v: (tuple(v),),
    "foreign in a tuple": lambda v: (Foreign(v), slice(None)),
    "deque in a tuple": lambda v: (..., collections.deque(v), 0),
    "two": lambda v: (Foreign(v), array.array("b", [0, 1, 0, 1])),
    "range": lambda v: range(0, 3, 2),
    "scalar": lambda v: np.int8(1),
    "0-d": lambda v: np.array(1, np.uint8),
    "0-d tensor": lambda v: tn.tensor(1),
    "bools": lambda v: Foreign([True, False, True]),
    "list of bools": lambda v: [True, False, True],
    "empty": lambda v: [],
    "a bool": lambda v: True,
    "small slice": lambda v: slice(np.int8(-2), None, np.uint8(1)),
    "tensor slice": lambda v: slice(tn.tensor(1), tn.tensor(3)),
    "uint64": lambda v: np.array([0, 0], np.uint64),
}


def plain(index):
    """The same index as NumPy takes it."""
    if isinstance(index, tuple):
        return tuple(plain(p) for p in index)
    if isinstance(index, slice):
        return slice(*(None if v is None else int(v) for v in (index.start, index.stop, index.step)))
    if index is Ellipsis or isinstance(index, int):
        return index
    found = np.asarray(index.numpy() if isinstance(index, tn.Tensor) else index)
    return found if found.size else found.astype(int)


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_an_index(form):
    """Repeated places add up, in the gradient of a read and in no other way; a write fills them."""
    x = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    if form == "tuple in a tuple":
        x = np.arange(3.0, dtype=np.float32)
    index, wanted = FORMS[form](VALUES), plain(FORMS[form](VALUES))
    if form == "tuple in a tuple":
        wanted = (np.array(VALUES),)
    for name in BACKENDS:
        if reason := tn.backends.why_not(name):
            pytest.skip(reason)
        t = tn.tensor(x, backend=name, requires_grad=True)
        y = t[index]
        assert_array_equal(y.numpy(), x[wanted], strict=True)
        y.sum().backward()
        times = np.zeros_like(x)
        np.add.at(times, wanted, 1)
        assert_array_equal(t.grad.numpy(), times)
    t, filled = tn.tensor(x), x.copy()
    t[index] = 7
    filled[wanted] = 7
    assert_array_equal(t.numpy(), filled)


@pytest.mark.parametrize(
    "index",
    [
        0.5,
        "a",
        [0.5],
        np.array([1.0]),
        {0},
        {0: 1},
        Foreign([0.5]),
        [[0, 1], [2]],
        slice(0.5, None),
        (0, "a"),
        np.array([2**63], np.uint64),
        object(),
    ],
    ids=named,
)
def test_what_is_no_index(index):
    x = tn.tensor(np.zeros((3, 2)))
    for name in ("getitem", "x[…] ="):
        with pytest.raises((IndexError, TypeError), match=f"^{name.replace('[', '.').replace(']', '.')}: "):
            if name == "getitem":
                _ = x[index]
            else:
                x[index] = 1


def test_an_index_may_change_after_it_was_used():
    index, x = np.array([0, 0]), tn.tensor(np.zeros(3), requires_grad=True)
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.numpy().tolist() == [2, 0, 0]


# ---- labels --------------------------------------------------------------------------------------------------------

K = 20
LABELS = {
    **{np.dtype(k).name: (lambda y, k=k: y.astype(k)) for k in KINDS if k is not np.bool_},
    "list": list,
    "foreign": lambda y: Foreign(y.astype(np.uint8)),
    "array": lambda y: array.array("b", y.tolist()),
    "tensor": lambda y: tn.tensor(y.astype(np.int8)),
    "big endian": lambda y: y.astype(">i2"),
}


def perfect():
    """A model whose output is its input, and data that it classifies without a fault."""
    model = nn.Sequential(nn.Dense(K, bias=False), input_shape=(K,))
    model.load_state_dict({"0.weight": np.eye(K, dtype=np.float32)})
    return model, np.eye(K, dtype=np.float32), np.arange(K)


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_any_integers(form):
    model, x, y = perfect()
    given, loss = LABELS[form](y), ops.softmax_cross_entropy(tn.tensor(x), y).item()
    measured = tn.evaluate(model, (x, given))
    assert measured["accuracy"] == 1 and abs(measured["loss"] - loss) < 1e-6
    report = tn.report(model, (x, given))
    assert report.accuracy == 1 and (report.confusion == np.eye(K)).all() and report.labels.dtype == np.int64
    log_p = ops.log_softmax(tn.tensor(x))
    assert abs(ops.nll_loss(log_p, given).item() - loss) < 1e-6
    with tn.parallel.trainer(model, tn.optim.SGD(model.parameters(), lr=0.1), workers=1) as step:
        assert abs(step(x, given).item() - loss) < 1e-6 and step.correct == K
    history = tn.fit(perfect()[0], (x, given), verbose=False, lr=1e-9)
    assert history[0]["accuracy"] == 1
    ((_, batch),) = tn.data.Loader(x, given, batch_size=K, shuffle=False)
    assert batch.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (np.arange(K)[:, None], ValueError, "rows of one: use labels"),
        (np.eye(K, dtype=int), ValueError, "one-hot rows"),
        (np.ones(K, bool), TypeError, "must be integers"),
        (np.arange(K) * 1.0, TypeError, "must be integers"),
        (np.full(K, 200, np.uint8), ValueError, "labels run from 200 to 200"),
        (np.full(K, -1, np.int8), ValueError, "labels run from -1"),
        (np.full(K, 2**63, np.uint64), ValueError, "run from"),
        (np.array(["a"] * K), TypeError, "must be integers"),
        (np.arange(K - 1), ValueError, "labels"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_labels_that_are_none(bad, error, words):
    model, x, _ = perfect()
    for call in (
        lambda: ops.softmax_cross_entropy(tn.tensor(x), bad),
        lambda: ops.nll_loss(tn.tensor(x), bad),
        *(
            (
                lambda: tn.report(model, (x, bad)),
                lambda: tn.evaluate(model, (x, bad)),
                lambda: tn.fit(model, (x, bad), verbose=False),
            )
            if len(bad) == K
            else ()
        ),
    ):
        with pytest.raises((error, ValueError), match=words):
            call()


def test_labels_may_change_after_they_were_used():
    x, y = tn.tensor(np.zeros((2, 3)), requires_grad=True), np.array([0, 1])
    loss = ops.softmax_cross_entropy(x, y)
    y[:] = 2
    loss.backward()
    assert_allclose(x.grad.numpy(), (np.full((2, 3), 1 / 3) - np.eye(2, 3)) / 2)


# ---- sizes and counts ----------------------------------------------------------------------------------------------


def test_small_integers_as_sizes():
    u, x = np.uint8, tn.tensor(np.zeros((200, 200), np.float32))
    assert x.reshape(u(200), u(200)).shape == x.reshape(np.array([200, -1], np.int16)).shape == (200, 200)
    assert x.reshape(tn.tensor([40000])).shape == (40000,) and x.sum(np.int8(-1)).shape == (200,)
    assert ops.broadcast_to(tn.tensor(1.0), np.array([200, 2], u)).shape == (200, 2)
    assert len(ops.split(x, u(200))) == 200 and ops.split(x, np.array([3, 150], u))[1].shape == (147, 200)
    assert x.transpose(np.int8(1), np.int8(0)).shape == (200, 200)
    assert x.transpose(np.array([-1, 0], np.int8)).shape == (200, 200)
    assert ops.pad(x, u(100)).shape == (400, 400) and ops.expand_dims(x, np.int8(-1)).shape == (200, 200, 1)
    image = tn.tensor(np.zeros((1, 200, 200, 1), np.float32))
    assert ops.max_pool2d(image, np.array([200, 100], u)).shape == (1, 1, 2, 1)
    assert nn.Dense(u(200)).build((u(200),)).weight.shape == (200, 200)
    layer = nn.Conv2d(u(200), u(16), groups=u(2), padding=u(8)).build(np.array([32, 32, 200], u))
    assert layer.weight.shape == (16, 16, 100, 200)
    deviation = np.std(nn.Conv2d(u(200), u(16)).build((u(32), u(32), u(1))).weight.numpy())
    assert abs(deviation / np.sqrt(2 / (256 + 256 * 200)) - 1) < 0.02
    shifted = tn.data.augment.random_shift(u(200))(np.zeros((4, 8, 8, 1)), np.random.default_rng(0))
    assert shifted.shape == (4, 8, 8, 1)
    assert tn.optim.schedules.step_decay(300, every=u(100), factor=0.5) == 0.125
    assert tn.optim.schedules.cosine(u(10), total=u(255), warmup=np.int8(100)) == 0.11


def test_small_integers_as_counts():
    x, y = np.zeros((300, 3), np.float32), np.zeros(300, np.uint8)
    loader = tn.data.Loader(x, y, batch_size=np.uint8(200), seed=np.uint8(3))
    loader.set_epoch(np.uint8(255))
    assert [len(batch) for batch, _ in loader] == [200, 100] and loader.epoch == 256
    assert len(list(loader.iterate(np.array([1]), np.uint8(1)))) == 1
    model = nn.Sequential(nn.Dense(np.int8(2)), input_shape=np.int8(3))
    history = tn.fit(model, (x, y), epochs=np.uint8(2), batch_size=np.uint8(1), verbose=False)
    assert len(history) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Dense(2.5),
        lambda: nn.Dense("2"),
        lambda: nn.Dense(np.array([2, 3])),
        lambda: nn.Conv2d(2, 2.5),
        lambda: tn.tensor(np.zeros(4)).reshape(2.0, 2),
        lambda: tn.tensor(np.zeros(4)).sum(0.5),
        lambda: tn.seed(1.5),
        lambda: ops.pad(tn.tensor(np.zeros(4)), 1.5),
        lambda: ops.split(tn.tensor(np.zeros(4)), 2.0),
        lambda: tn.data.Loader(np.zeros(3), np.zeros(3), batch_size=1.5),
        lambda: tn.fit(nn.Dense(1), (np.zeros((3, 1)), np.zeros(3)), epochs=1.5),
    ],
)
def test_fractions_are_no_counts(call):
    with pytest.raises((TypeError, ValueError), match="must be"):
        call()
