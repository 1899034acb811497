"""Optimisers: what they are given, the flat vectors, their state."""

import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests.optimising import BE, EVERY, KINDS, parameters, set_grads
from tinynet import nn, optim


def test_parameters_become_views_of_one_vector():
    params = parameters()
    values = [p.numpy().copy() for p in params]
    optimizer = optim.SGD(params, 0.1)
    flat = optimizer.groups[0].w
    assert all(np.shares_memory(p.data, flat) for p in params)
    np.testing.assert_array_equal(flat, np.concatenate([v.ravel() for v in values]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_that_sits_out_keeps_its_value_and_its_own_step_count(kind):
    """As where each parameter has an optimiser of its own, which makes only the steps for which there is a gradient."""
    params, twins, rng = parameters(), parameters(), np.random.default_rng(0)
    optimizer, own = kind(params), [kind([p]) for p in twins]
    for present in ([1, 1, 1], [1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]):
        grads = set_grads(params, rng)
        for here, p, twin, g, alone in zip(present, params, twins, grads, own, strict=True):
            if not here:
                p.grad = None
                continue
            twin.grad = tn.tensor(g)
            alone.step()
        optimizer.step()
        for p, twin in zip(params, twins, strict=True):
            np.testing.assert_allclose(p.numpy(), twin.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_state_dict_resumes_bit_for_bit(name, settings):
    kind = functools.partial(getattr(optim, name), **settings)

    def run(stop):
        params, rng = parameters(dtype=np.float32), np.random.default_rng(3)
        optimizer = kind(params, lr=0.01)
        for t in range(8):
            if t == stop:
                weights, state = [p.numpy().copy() for p in params], optimizer.state_dict()
                params = [nn.Parameter(w, BE) for w in weights]
                optimizer = kind(params, lr=0.5)
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
    for wrong in ({"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov=True needs momentum > 0 and no dampening"):
            optim.SGD(parameters(), 0.1, **wrong)
    for wrong in ({"adjust_lr_fn": "adam"}, {"ns_coefficients": (1, 2)}, {"matrices": "all"}):
        with pytest.raises(ValueError, match=f"Muon: .*{next(iter(wrong))}"):
            optim.Muon(parameters(), **wrong)
    with pytest.raises(ValueError, match=r"Muon: a parameter of shape \(5,\) is no matrix"):
        optim.Muon(parameters(), matrices=True)
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
        "SGD(3 parameters, 25 values: lr=0.1, momentum=0.9, dampening=0, nesterov=False, weight_decay=0, "
        "maximize=False)"
    )
    params = parameters()
    lines = repr(optim.Adam([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}])).split("\n")
    assert lines[0] == "Adam of 2 groups"
    assert lines[1].startswith("  0: 1 parameters, 12 values: lr=0.5, betas=(0.9, 0.999)")
    assert lines[2].startswith("  1: 2 parameters, 13 values: lr=0.001,")


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


def test_settings_that_are_changed_later_are_checked():
    def made(**options):
        w = tn.tensor([1.0, 2.0], requires_grad=True)
        w.grad = tn.tensor([1.0, 1.0])
        return w, optim.SGD([w], 0.1, **options)

    for name, value, text in (
        ("momentum", 0.9, "SGD: momentum=0.9 was set after it was made, and it keeps no velocity"),
        ("lr", -1.0, "SGD: lr=-1.0 must be a number >= 0"),
        ("weight_decay", "a", "SGD: weight_decay='a' must be a number"),
    ):
        w, optimizer = made()
        optimizer.groups[0].options[name] = value
        with pytest.raises(ValueError, match=text):
            optimizer.step()
        assert w.numpy().tolist() == [1.0, 2.0]
    w, optimizer = made(momentum=0.5)
    optimizer.groups[0].options |= {"momentum": 0.9, "weight_decay": 0.1}
    other, same = made(momentum=0.9, weight_decay=0.1)
    optimizer.step()
    same.step()
    assert w.numpy().tolist() == other.numpy().tolist()
