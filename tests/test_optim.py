"""Optimisers against the rules as published, the flat buffer, and clipping."""

import functools
import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tinynet import nn, optim
from tinynet.training import settings

BE = tn.backends.get("numpy")


def parameters(seed=0, shapes=((3, 4), (5,), (2, 2, 2)), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(rng.standard_normal(s).astype(dtype), BE) for s in shapes]


def set_grads(params, rng):
    grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = tn.tensor(g)
    return grads


# ---- the rules, written once more from the papers, element by element -----------------------------------


def sgd(w, g, s, t, lr, momentum=0, nesterov=False, weight_decay=0):
    g = g + weight_decay * w
    if momentum:
        s["v"] = momentum * s["v"] + g if t > 1 else g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return w - lr * g


def adam(w, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** t), s["v"] / (1 - betas[1] ** t)
    return w - lr * m / (np.sqrt(v) + eps)


def adamw(w, g, s, t, lr, **settings):
    return adam(w, g, s, t, lr, decoupled=True, **{"weight_decay": 1e-2, **settings})


def rmsprop(w, g, s, t, lr, alpha=0.99, eps=1e-8, momentum=0, weight_decay=0):
    g = g + weight_decay * w
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    step = g / (np.sqrt(s["v"]) + eps)
    if momentum:
        s["b"] = step = momentum * s.get("b", 0) + step
    return w - lr * step


def adagrad(w, g, s, t, lr, lr_decay=0, eps=1e-10, weight_decay=0):
    g = g + weight_decay * w
    s["v"] = s.get("v", 0) + g**2
    return w - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["v"]) + eps)


CASES = [
    (optim.SGD, sgd, {}),
    (optim.SGD, sgd, {"momentum": 0.9}),
    (optim.SGD, sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"weight_decay": 0.3}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"momentum": 0.5, "alpha": 0.9, "weight_decay": 0.1}),
    (optim.Adagrad, adagrad, {}),
    (optim.Adagrad, adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "rule", "settings"), CASES)
def test_rule(kind, rule, settings):
    params = parameters()
    want = [p.numpy().copy() for p in params]
    states = [{} for _ in params]
    optimizer = kind(params, 0.05, **settings)
    rng = np.random.default_rng(1)
    for t in range(1, 6):
        grads = set_grads(params, rng)
        kept = [g.copy() for g in grads]
        optimizer.step()
        want = [rule(w, g, s, t, 0.05, **settings) for w, g, s in zip(want, grads, states, strict=True)]
        for p, w, g in zip(params, want, kept, strict=True):
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(p.grad.numpy(), g)  # a step leaves gradients as they are


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_large_vectors_are_done_in_chunks_that_agree(kind):
    params = parameters(shapes=((40_000,), (3,), (70_000,)), dtype=np.float32)
    twin = [nn.Parameter(p.numpy().copy(), BE) for p in params]
    one, many = kind(params, 0.1), [kind([p], 0.1) for p in twin]
    rng = np.random.default_rng(0)
    for _ in range(3):
        for p, q, g in zip(params, twin, set_grads(params, rng), strict=True):
            q.grad = tn.tensor(g)
            assert p.shape == q.shape
        one.step()
        for optimizer in many:
            optimizer.step()
    for p, q in zip(params, twin, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6, atol=1e-7)


# ---- the flat buffer ----------------------------------------------------------------------------------


def test_parameters_become_views_of_one_vector():
    params = parameters()
    values = [p.numpy().copy() for p in params]
    optimizer = optim.SGD(params, 0.1)
    flat = optimizer.groups[0].w
    assert all(np.shares_memory(p.data, flat) for p in params)
    np.testing.assert_array_equal(flat, np.concatenate([v.ravel() for v in values]))


def test_a_parameter_that_sits_out_keeps_its_value_and_its_own_step_count():
    params, rng = parameters(), np.random.default_rng(0)
    want = [p.numpy().copy() for p in params]
    states, steps = [{} for _ in params], [0, 0, 0]
    optimizer = optim.Adam(params, 0.05)
    for present in ([1, 1, 1], [1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]):
        grads = set_grads(params, rng)
        for i, here in enumerate(present):
            if here:
                steps[i] += 1
                want[i] = adam(want[i], grads[i], states[i], steps[i], 0.05)
            else:
                params[i].grad = None
        optimizer.step()
        for p, w in zip(params, want, strict=True):
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_voids_the_step(kind, bad):
    params = parameters()
    optimizer = kind(params, 0.1)
    set_grads(params, np.random.default_rng(0))
    before, state = [p.numpy().copy() for p in params], optimizer.state_dict()
    optimizer.step(tn.tensor(bad))
    for p, b in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.numpy(), b)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    optimizer.step(tn.tensor(1.0))
    assert not np.array_equal(params[0].numpy(), before[0])


KINDS = [optim.SGD, lambda p: optim.SGD(p, momentum=0.9), optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad]


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_not_finite_voids_the_step_of_all_groups(kind, backend):
    """Also without a loss; neither the parameters, nor their state, nor the step count change."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
    optimizer = kind([{"params": params[:1]}, {"params": params[1:]}])
    rng = np.random.default_rng(0)
    for i, bad, loss in itertools.product(range(3), (np.nan, np.inf, -np.inf), (None, 1.0)):
        for p in params:
            p.grad = tn.tensor(rng.standard_normal(p.shape).astype(np.float32), backend=be)
        values = params[i].grad.numpy().copy()
        values.flat[-1] = bad
        params[i].grad = tn.tensor(values, backend=be)
        before, state = [p.numpy().copy() for p in params], optimizer.state_dict()
        optimizer.step(None if loss is None else tn.tensor(loss, backend=be))
        assert optimizer.voided
        for p, b in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.numpy(), b)
        for name, value in optimizer.state_dict().items():
            np.testing.assert_array_equal(value, state[name])
        params[i].grad = tn.tensor(np.zeros(params[i].shape, np.float32), backend=be)
        optimizer.step()
        assert not optimizer.voided
        assert not np.array_equal(params[i - 1].numpy(), before[i - 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_whose_square_overflows_voids_where_the_rule_squares_it(kind, dtype):
    """Else the running average of squares would be infinite, and the parameter stand still, for ever."""
    params = parameters(dtype=dtype)
    optimizer = kind(params)
    for size in 0.4, 0.6, 1.0:  # of the largest number
        for p in params:
            p.grad = tn.tensor(np.full(p.shape, np.finfo(dtype).max ** dtype(size)))
        optimizer.step()
        assert optimizer.voided == (size > 0.5 and optimizer.squares)
    if not optimizer.squares:
        return
    assert all(np.isfinite(v).all() for v in optimizer.state_dict().values())
    assert all(np.isfinite(p.numpy()).all() for p in params)


def test_a_voided_step_is_that_of_all_parameters_or_of_none():
    optimizer = optim.SGD(parameters(), 0.1)
    assert not optimizer.voided
    optimizer.step()  # no gradients
    assert not optimizer.voided
    optimizer.step(tn.tensor(np.nan))
    assert optimizer.voided


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_clipping_hides_no_gradient_that_is_not_finite(backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    for bad, clip in itertools.product((np.nan, np.inf), (optim.clip_grad_norm, optim.clip_grad_value)):
        params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
        optimizer = optim.SGD(params, 0.1)
        before = [p.numpy().copy() for p in params]
        for p in params:
            p.grad = tn.tensor(np.ones(p.shape, np.float32), backend=be)
        params[1].grad = tn.tensor(np.array([1, 2, 3, 4, bad], np.float32), backend=be)
        norm = clip(params, 0.5)
        assert norm is None or not np.isfinite(norm.item())
        optimizer.step()
        assert optimizer.voided == (np.isnan(bad) or clip is optim.clip_grad_norm)
        for p, b in zip(params, before, strict=True):
            assert np.array_equal(p.numpy(), b) == optimizer.voided
            assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_the_norm_of_large_gradients_does_not_overflow(backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
    for p in params:
        p.grad = tn.tensor(np.full(p.shape, 1e30, np.float32), backend=be)
    assert optim.clip_grad_norm(params, 1.0).item() == pytest.approx(5e30, rel=1e-6)  # 25 values
    for p in params:
        np.testing.assert_allclose(p.grad.numpy(), np.full(p.shape, 0.2), rtol=1e-6)
        assert p.grad.dtype == np.float32


def test_state_dict_resumes_bit_for_bit():
    def run(stop):
        params, rng = parameters(dtype=np.float32), np.random.default_rng(3)
        optimizer = optim.Adam(params, 0.01)
        for t in range(8):
            if t == stop:
                weights, state = [p.numpy().copy() for p in params], optimizer.state_dict()
                del optimizer
                params = [nn.Parameter(w, BE) for w in weights]
                optimizer = optim.Adam(params, 0.5)
                optimizer.load_state_dict(state)
            set_grads(params, rng)
            if t % 3 == 1:
                params[1].grad = None
            optimizer.step()
        return params

    for a, b in zip(run(None), run(4), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_load_state_dict_refuses_another_optimisers_state():
    state = optim.SGD(parameters(), 0.1, momentum=0.9).state_dict()
    with pytest.raises(ValueError, match="Adam holds"):
        optim.Adam(parameters()).load_state_dict(state)
    state = optim.Adam(parameters(shapes=((3,),))).state_dict()
    with pytest.raises(ValueError, match="values"):
        optim.Adam(parameters()).load_state_dict(state)


def test_learning_rate_and_groups():
    params = parameters()
    optimizer = optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 0.0}], 0.5)
    before = [p.numpy().copy() for p in params]
    grads = set_grads(params, np.random.default_rng(0))
    optimizer.step()
    np.testing.assert_allclose(params[0].numpy(), before[0] - 0.5 * grads[0])
    np.testing.assert_array_equal(params[1].numpy(), before[1])
    optimizer.lr = 0.25
    assert optimizer.lr == 0.25
    optimizer.step()
    np.testing.assert_allclose(params[1].numpy(), before[1] - 0.25 * grads[1])


def test_zero_grad_sets_none():
    params = parameters()
    optimizer = optim.SGD(params, 0.1)
    set_grads(params, np.random.default_rng(0))
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_an_old_gradient_that_is_kept_is_not_overwritten():
    model = nn.Dense(2).build(3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    model(np.ones((1, 3))).sum().backward()
    kept = model.weight.grad
    values = kept.numpy().copy()
    optimizer.step()
    optimizer.zero_grad()
    (model(np.full((1, 3), 5.0)) * 3.0).sum().backward()
    np.testing.assert_array_equal(kept.numpy(), values)


def test_data_that_was_replaced_is_taken_over():
    """`p.data = values`, as PyTorch's users write: the next step starts from those values, and p is a view again."""
    params, others = parameters(), parameters()
    ours, theirs = optim.SGD(params, 0.1), optim.SGD(others, 0.1)
    rng = np.random.default_rng(0)
    for _ in range(2):
        for p, q in zip(params, others, strict=True):
            p.data = p.data * 0.5
            q.data[...] *= 0.5
        for p, g in zip(others, set_grads(params, rng), strict=True):
            p.grad = tn.tensor(g)
        ours.step()
        theirs.step()
        assert all((p.data == q.data).all() and p.data.base is not None for p, q in zip(params, others, strict=True))
    params[0].data = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"of shape \(3, 4\) was given data of shape \(2, 2\)"):
        ours.step()


@pytest.mark.parametrize("kind", [lambda p: optim.SGD(p, 0.1, momentum=0.9), optim.Adam])
def test_averages_do_not_stay_subnormal(kind):
    """Where gradients end, the state goes to zero, not to the smallest numbers, which processors are slow with."""
    (p,) = parameters(shapes=((50,),), dtype=np.float32)
    optimizer = kind([p])
    for step in range(1200):
        p.grad = tn.tensor(np.full(50, 1e-3 if step == 0 else 0.0, np.float32))
        optimizer.step()
        if step == 700:
            assert all(abs(v).max() > 0 for v in optimizer.groups[0].state.values())
    name = "m" if "m" in optimizer.groups[0].state else "velocity"
    assert not optimizer.groups[0].state[name].any()


def test_mistakes_are_refused():
    params = parameters()
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([params[0], params[0]], 0.1)
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD([], 0.1)
    w = tn.tensor([1.0], requires_grad=True)
    for bad, message in (
        (tn.tensor([1.0]), "no gradient flows to it; make it with .*requires_grad=True"),
        (np.ones(3), "is not a parameter; pass model"),
        (w * 2.0, r"of shape \(1,\) is the result of an operation \(multiply\)"),
    ):
        with pytest.raises(TypeError, match=f"SGD: .*{message}"):
            optim.SGD([w, bad], 0.1)
    with pytest.raises(ValueError, match="lr"):
        optim.SGD(parameters(), -1)
    with pytest.raises(ValueError, match="betas"):
        optim.Adam(parameters(), betas=(1.0, 0.9))
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD(parameters(), 0.1, nesterov=True)
    with pytest.raises(ValueError, match="unknown setting"):
        optim.SGD([{"params": parameters(), "momentun": 1}], 0.1)


def test_a_saved_array_changed_by_a_step_is_noticed():
    model = nn.Dense(2).build(3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    model(np.ones((1, 3))).sum().backward()
    x = tn.tensor(np.ones((1, 3), np.float32), requires_grad=True)
    late = model(x).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"dense saved an array of shape \(3, 2\) \(as 'w'\)"):
        late.backward()


# ---- what may be given ------------------------------------------------------------------------------------


def test_a_second_optimiser_takes_the_parameters_over():
    """As where a notebook's cell is run again, while something (`Out[8]`, a traceback) keeps the first one alive."""
    params = parameters()
    first = optim.SGD(params, 0.1, momentum=0.9)
    set_grads(params, np.random.default_rng(0))
    first.step()
    values, state = [p.numpy().copy() for p in params], first.state_dict()
    second = optim.SGD(params[:2], 0.1)
    for p, value in zip(params, values, strict=True):
        np.testing.assert_array_equal(p.numpy(), value)
    set_grads(params, np.random.default_rng(1))
    message = (
        r"SGD: a parameter of shape \(3, 4\) was taken over .* \(SGD\); step that one, or .* = optim\.SGD\(\.\.\.\)"
    )
    with pytest.raises(RuntimeError, match=message):
        first.step()
    for p, value in zip(params, values, strict=True):
        np.testing.assert_array_equal(p.numpy(), value)  # also those that it still has
    second.step()
    assert all(np.shares_memory(p.data, second.groups[0].w) for p in params[:2])
    assert not np.array_equal(params[0].numpy(), values[0])
    for name, value in first.state_dict().items():  # what it has learned can still be had
        np.testing.assert_array_equal(value, state[name])
    third = optim.SGD(params, 0.5, momentum=0.9)
    third.load_state_dict(state)
    third.step()
    del second, third
    with pytest.raises(RuntimeError, match="taken over"):  # whoever took them may be gone
        first.step()


def test_an_optimiser_that_cannot_be_made_takes_nothing_over():
    params = parameters()
    optimizer = optim.SGD(params, 0.1)
    for bad in (lambda: optim.Adam(params, lr=-1), lambda: optim.Adam([*params, np.ones(2)])):
        with pytest.raises((ValueError, TypeError)):
            bad()
    set_grads(params, np.random.default_rng(0))
    optimizer.step()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trainer_whose_parameters_were_taken_over_says_so_and_closes(workers):
    model = nn.Dense(2).build(3)
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    with tn.parallel.trainer(model, optim.SGD(model.parameters(), 0.1), workers=workers) as step:
        step(x, y)
        second = optim.Adam(model.parameters())
        with pytest.raises(RuntimeError, match=r"SGD: .* taken over by .*\(Adam\)"):
            step(x, y)
        with tn.parallel.trainer(model, second, workers=workers) as newer:
            newer(x, y)
    assert all(np.shares_memory(p.data, second.groups[0].w) for p in model.parameters())


def test_plain_tensors_are_optimised_too():
    w, b = tn.tensor([[1.0, 2.0]], requires_grad=True), tn.tensor(0.5, requires_grad=True)
    optimizer = optim.SGD([w, b], 0.1)
    (w.sum() * 3.0 + b).backward()
    optimizer.step()
    assert_allclose(w.numpy(), [[0.7, 1.7]], rtol=1e-6)
    assert_allclose(b.numpy(), 0.4, rtol=1e-6)
    again = optim.Adam([w])
    with pytest.raises(RuntimeError, match=r"taken over by .*\(Adam\)"):
        optimizer.step()
    w.requires_grad_(False)  # frozen, as parameters may be
    optim.SGD([w], 0.1)
    assert again.groups[0].params == [w]


@pytest.mark.skipif(bool(tn.backends.why_not("simulator")), reason="no simulator")
def test_dtypes_and_backends_become_groups():
    params = parameters() + parameters(dtype=np.float32)
    params.append(nn.Parameter(np.ones(2, np.float32), tn.backends.get("simulator")))
    order = [3, 0, 6, 1, 4, 2, 5]
    optimizer = optim.SGD([{"params": [params[i] for i in order], "lr": 0.5}], 0.1)
    kinds = [(g.w.dtype, g.be.name, len(g.params), g.options["lr"]) for g in optimizer.groups]
    assert kinds == [("float32", "numpy", 3, 0.5), ("float64", "numpy", 3, 0.5), ("float32", "simulator", 1, 0.5)]
    before = [p.numpy().copy() for p in params]
    for p in params:
        p.grad = tn.tensor(np.ones(p.shape, p.dtype), backend=p.backend)
    optimizer.groups[1].options["lr"] = 0.25  # each has its own settings
    optimizer.step()
    for p, old in zip(params, before, strict=True):
        assert_allclose(p.numpy(), old - (0.25 if p.dtype == np.float64 else 0.5), rtol=1e-6)


def test_repr():
    assert repr(optim.SGD(parameters(), 0.1, momentum=0.9)) == (
        "SGD(3 parameters, 25 values: lr=0.1, momentum=0.9, nesterov=False, weight_decay=0)"
    )
    params = parameters()
    lines = repr(optim.Adam([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}])).split("\n")
    assert lines[0] == "Adam of 2 groups"
    assert lines[1].startswith("  0: 1 parameters, 12 values: lr=0.5, betas=(0.9, 0.999)")
    assert lines[2].startswith("  1: 2 parameters, 13 values: lr=0.001,")


# ---- clipping and schedules ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clip_grad_norm(limit):
    params = parameters()
    grads = set_grads(params, np.random.default_rng(0))
    total = np.sqrt(sum((g**2).sum() for g in grads))
    assert float(optim.clip_grad_norm(params, limit)) == pytest.approx(total)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g * min(1, limit / (total + 1e-6)))


def test_clip_grad_value():
    params = parameters()
    grads = set_grads(params, np.random.default_rng(0))
    optim.clip_grad_value(params, 0.5)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g.clip(-0.5, 0.5))
    for bad in (
        lambda: optim.clip_grad_value(params, 0),
        lambda: optim.clip_grad_norm(params, -1.0),
        lambda: optim.clip_grad_norm(parameters(), 1.0),
    ):
        with pytest.raises(ValueError, match="clip_grad"):
            bad()


def test_schedules():
    s = optim.schedules
    assert [s.step_decay(t, every=2, factor=0.5) for t in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert s.exponential(3, rate=0.9) == pytest.approx(0.729)
    rates = [s.cosine(t, total=10, warmup=2, final=0.1) for t in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[10] == rates[11] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))


def test_a_schedule_without_a_step_is_a_function_of_the_step():
    s = optim.schedules
    rate = s.cosine(total=200, warmup=10)
    assert [rate(t) for t in (0, 10, 105, 200)] == [s.cosine(t, total=200, warmup=10) for t in (0, 10, 105, 200)]
    partial = functools.partial(s.cosine, total=200)
    assert partial(50) == s.cosine(total=200)(50)
    assert settings.text(s.cosine(total=200)) == settings.text(partial) != settings.text(s.cosine(total=201))
    for bad in ({}, {"total": 3, "warm": 2}):
        with pytest.raises(TypeError, match=r"total|warm"):
            s.cosine(**bad)
    with pytest.raises(TypeError, match="total"):
        s.cosine(200)


def test_settings_of_groups_are_checked_too():
    first, second = parameters()[:2]
    for spec, message in (
        ({"betas": (0.9,)}, "betas=.* two numbers"),
        ({"lr": -1}, "lr=-1 must be a number >= 0"),
        ({"eps": "small"}, "eps='small'"),
    ):
        with pytest.raises(ValueError, match=f"Adam: {message}"):
            optim.Adam([{"params": [first]}, {"params": [second], **spec}])
    with pytest.raises(ValueError, match="SGD: nesterov=True needs momentum"):
        optim.SGD([{"params": [first], "nesterov": True}], 0.1)
    for bad in ([{"params": []}], [{"lr": 1}]):
        with pytest.raises(ValueError, match=r"a group is .* with one parameter at least"):
            optim.SGD(bad, 0.1)
    optimizer = optim.SGD([first], 0.1)
    with pytest.raises(ValueError, match="lr=-1"):
        optimizer.lr = -1
    assert optimizer.lr == 0.1


def test_a_state_without_vectors_is_held_to_the_parameters():
    state = optim.SGD(parameters()[:2], 0.1).state_dict()
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"runs is of 2 parameters, this optimiser has {count}"):
            optim.SGD(parameters()[:count], 0.1).load_state_dict(state)
    optim.SGD(parameters()[:2], 0.1).load_state_dict(state)
    state["0.runs"] = np.array([[0, 1], [0, 2]])
    with pytest.raises(ValueError, match="runs"):
        optim.SGD(parameters()[:2], 0.1).load_state_dict(state)


def test_the_rate_of_one_group_is_set_in_its_options():
    first, second = parameters()[:2]
    optimizer = optim.SGD([{"params": first}, {"params": [second]}], 0.1)  # one parameter is a group, too
    optimizer.groups[1].options["lr"] = 0.5
    before = [p.numpy().copy() for p in (first, second)]
    for p in (first, second):
        p.grad = tn.tensor(np.ones(p.shape, p.dtype))
    optimizer.step()
    for p, old, lr in zip((first, second), before, (0.1, 0.5), strict=True):
        assert_allclose(p.numpy(), old - lr, rtol=1e-6)
    state = optimizer.state_dict()
    optimizer.lr = 0.2
    optimizer.load_state_dict(state)
    assert [group.options["lr"] for group in optimizer.groups] == [0.1, 0.5]


def test_what_is_no_gradient_and_no_group_is_refused():
    first, second = parameters()[:2]
    with pytest.raises(TypeError, match=r"SGD: pass parameters, or groups of them .*, not both"):
        optim.SGD([{"params": [first]}, second], 0.1)
    optimizer = optim.SGD(first, 0.1)
    first.grad = np.ones(first.shape)
    with pytest.raises(TypeError, match="a gradient is a ndarray; it must be a Tensor"):
        optimizer.step()


def test_a_rate_set_between_steps_is_of_the_state():
    model = tn.nn.Dense(2).build(3)
    optimizer, other = optim.SGD(model.parameters(), 0.1), tn.nn.Dense(2).build(3)
    optimizer.groups[0].options["lr"] = 0.5
    again = optim.SGD(other.parameters(), 0.1)
    again.load_state_dict(optimizer.state_dict())
    assert again.lr == 0.5 and again.groups[0].segments[0][2].tolist() == [0.5, 0.0]
