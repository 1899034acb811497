"""What users of other engines type first: the error says what it is called here."""

import copy
import pickle
import re

import numpy as np
import pytest

import tinynet as tn
from tinynet import data, hints, nn, ops, optim

PLACES = {
    "tn": tn,
    "nn": nn,
    "ops": ops,
    "optim": optim,
    "data": data,
    "np": np,
    "x": tn.Tensor,
    "model": nn.Module,
    "optimizer": optim.Optimizer,
}


@pytest.mark.parametrize("name", hints.NAMES)
def test_remedies_exist_and_names_do_not(name):
    for place, member in re.findall(r"\b(\w+)\.(\w+)", hints.NAMES[name]):
        assert place == "rng" or (place, member) == ("random", "default_rng") or hasattr(PLACES[place], member)
    assert not hasattr(nn, name)
    assert not hasattr(tn.tensor([1.0]), name)


@pytest.mark.parametrize(
    ("owner", "name", "remedy"),
    [
        (data, "DataLoader", "data.Loader(x, y)"),
        (nn, "Linear", "nn.Dense(out_features)"),
        (nn, "Conv2D", "nn.Conv2d"),
        (nn, "relu", "ops.relu"),
        (tn, "relu", "ops.relu"),
        (tn, "Adam", "optim.Adam"),
        (ops, "cat", "ops.concatenate(tensors, axis)"),
        (optim, "lr_scheduler", "optim.schedules, and tn.fit(schedule=…)"),
        (tn, "manual_seed", "tn.seed(n)"),
        (tn.tensor([1.0]), "view", "x.reshape(shape)"),
        (nn.ReLU(), "fit", "tn.fit"),
        (nn.ReLU(), "cuda", '.to("cupy")'),
    ],
)
def test_a_missing_name_is_explained(owner, name, remedy):
    with pytest.raises(AttributeError, match=re.escape(f"no attribute {name!r}; in tinynet: {remedy}")):
        getattr(owner, name)


@pytest.mark.parametrize(
    ("owner", "name", "remedy"),
    [
        (ops, "sigmoit", "ops.sigmoid"),
        (ops, "conv_2d", "ops.conv2d"),
        (ops, "Relu", "ops.relu"),
        (nn, "Sequental", "nn.Sequential"),
        (optim, "Adamw", "optim.AdamW"),
        (tn, "evalute", "tn.evaluate"),
        (tn.tensor([1.0]), "softplus", "ops.softplus"),
        (tn.tensor([1.0]), "softpluss", "ops.softplus"),
    ],
)
def test_a_near_miss_is_answered(owner, name, remedy):
    with pytest.raises(AttributeError, match=re.escape(f"no attribute {name!r}; in tinynet: {remedy}") + "$"):
        getattr(owner, name)


@pytest.mark.parametrize(
    ("owner", "name"), [(nn.ReLU(), "add"), (nn.ReLU(), "concatenate"), (data, "stack"), (optim, "abs")]
)
def test_a_name_of_another_kind_of_thing_is_no_answer(owner, name):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'$"):
        getattr(owner, name)


def test_every_operation_is_found_by_its_name_and_a_misspelt_one():
    for name in ops.__all__:
        assert hints._elsewhere("tn", name) == f"ops.{name}"
        if len(name) > 5:
            assert hints._elsewhere("ops", name[:-1] + "q").startswith("ops."), name


@pytest.mark.parametrize("owner", [tn, nn, ops, optim, tn.tensor([1.0]), nn.ReLU()])
def test_a_name_that_nobody_knows_is_an_ordinary_error(owner):
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = owner.nonsense
    assert not hasattr(owner, "__nonsense__")


def test_an_error_in_a_property_is_not_hidden():
    class Broken(nn.Module):
        @property
        def size(self):
            return self.there_is_none

    with pytest.raises(AttributeError, match="'there_is_none'"):
        _ = Broken().size


@pytest.mark.parametrize(("keyword", "remedy"), [("dim", "axis="), ("out", "without it")])
def test_a_wrong_keyword_is_explained(keyword, remedy):
    with pytest.raises(TypeError, match=f"'{keyword}'; in tinynet: {remedy}"):
        ops.sum(tn.tensor([1.0]), **{keyword: 0})
    with pytest.raises(TypeError, match="'nonsense' \\(inputs"):
        ops.sum(tn.tensor([1.0]), nonsense=0)


X, Y = np.zeros((8, 4), np.float32), np.arange(8) % 2


def net():
    return nn.Sequential(nn.Dense(2), input_shape=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tn.fit(net(), X, Y), "fit: the data are one argument"),
        (lambda: tn.evaluate(net(), X, Y), "evaluate: the data are one argument"),
        (lambda: tn.fit(net, (X, Y)), "fit: the model is a function, not a Module; call"),
        (lambda: tn.evaluate("net", (X, Y)), "evaluate: the model is a str, not a Module$"),
        (lambda: tn.fit(net(), (X, Y), loss="mse"), "fit: loss='mse' must be a function"),
        (lambda: tn.fit(net(), (X, Y), schedule=0.5), "fit: schedule=0.5 must be a function"),
        (lambda: tn.fit(net(), (X, Y), callbacks=print), "fit: callbacks=.* must be a list"),
        (lambda: tn.fit(net(), (X, Y), epochs=1.5), "fit: epochs=1.5 must be an int"),
        (lambda: tn.fit(net(), (X, Y), epochs="3"), "fit: epochs='3' must be an int"),
        (lambda: tn.fit(net(), (X, Y), clip_norm="1"), "clip_norm='1' must be a number > 0"),
        (lambda: tn.fit(net().freeze(), (X, Y)), "fit: there is nothing to train: every parameter is frozen"),
        (lambda: optim.SGD(net().parameters(), momentum=-1), "SGD: momentum=-1 must be a number >= 0"),
        (lambda: optim.AdamW(net().parameters(), weight_decay=-1), "AdamW: weight_decay=-1 must be a number >= 0"),
        (lambda: optim.RMSprop(net().parameters(), "0.1"), "RMSprop: lr='0.1' must be a number >= 0"),
        (lambda: optim.Adam(net().parameters(), betas=0.9), "Adam: betas=0.9 must be two numbers"),
        (lambda: copy.deepcopy(optim.Adam(net().parameters())), "Adam: an optimiser cannot be copied or pickled"),
        (lambda: ops.nll_loss(tn.tensor(Y), tn.tensor(X)), r"nll_loss: the arguments are the other way round.*\(8,\)"),
        (lambda: ops.softmax_cross_entropy(Y, tn.tensor(X)), "softmax_cross_entropy: the arguments are the other way"),
        (lambda: np.exp(tn.tensor([1.0], requires_grad=True)), "np.exp would take .* use ops.exp"),
        (lambda: pickle.dumps(tn.tensor([1.0], requires_grad=True) * 2), "pickle: only leaf tensors"),
        (
            lambda: (
                nn.Conv2d(4, 3)(np.zeros((2, 3, 8, 8), np.float32)).shape
                and ops.conv2d(tn.tensor(np.zeros((2, 3, 8, 8))), tn.tensor(np.zeros((3, 3, 3, 4))))
            ),
            r"x.transpose\(0, 2, 3, 1\)",
        ),
    ],
)
def test_mistakes_of_the_first_minute(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_pickled_model_is_the_same_model():
    model = net()
    model.layers[0].bias.requires_grad_(False)
    optimizer = optim.Adam(model.parameters())  # parameters are views of its vector now
    tn.fit(model, (X + 1, Y), optimizer=optimizer, verbose=False)
    other = pickle.loads(pickle.dumps(model))
    assert np.array_equal(other(X + 1).numpy(), model(X + 1).numpy())
    assert [p.requires_grad for p in other.parameters()] == [True, False]
    assert [type(p) for p in other.parameters()] == [tn.Parameter, tn.Parameter]
    tn.fit(other, (X, Y), verbose=False)  # it belongs to nobody


def test_no_grad_as_a_bare_decorator():
    @tn.no_grad
    def double(x):
        """Doc."""
        return 2 * x

    x = tn.tensor([1.0], requires_grad=True)
    assert not double(x).requires_grad
    assert double.__doc__ == "Doc."
    assert (2 * x).requires_grad


def test_transpose_takes_axes_one_by_one():
    x = tn.tensor(np.arange(24.0).reshape(2, 3, 4))
    for y in (x.transpose(2, 0, 1), x.transpose((2, 0, 1)), ops.transpose(x, axes=(2, 0, 1))):
        assert np.array_equal(y.numpy(), x.numpy().transpose(2, 0, 1))
    assert tn.tensor([1.0, 2.0]).transpose(0).shape == (2,)
    with pytest.raises(ValueError, match="no permutation"):
        x.transpose(0)
