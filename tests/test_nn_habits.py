"""What users of Keras and PyTorch write first: renamed arguments, and models that do not fit their loss."""

import functools
import re
import warnings

import numpy as np
import pytest

import tinynet as tn
from tinynet import hints, nn, ops, optim
from tinynet.nn.advice import check_loss

P = [tn.tensor([1.0], requires_grad=True)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Conv2d(filters=32, kernel_size=3), r"Conv2d .* 'filters'; in tinynet: .*nn\.Conv2d\(32, 3\)"),
        (lambda: nn.Conv2d(32, 3, strides=2), "'strides'; in tinynet: stride="),
        (lambda: nn.Conv2d(32, 3, use_bias=False), "'use_bias'; in tinynet: bias="),
        (lambda: nn.Conv2d(32, 3, input_shape=(8, 8, 1)), "'input_shape'; in tinynet: input_shape= of nn.Sequential"),
        (lambda: nn.Conv2d(in_channels=3, out_channels=8, kernel_size=3), "'in_channels'; in tinynet: without it"),
        (lambda: nn.Dense(units=3), r"Dense .* 'units'; in tinynet: .*nn\.Dense\(128\)"),
        (lambda: nn.ReLU(input_shape=3), "ReLU .* 'input_shape'"),
        (lambda: nn.MaxPool2d(pool_size=2), "MaxPool2d .* 'pool_size'; in tinynet: kernel_size"),
        (lambda: nn.Dropout(p=0.5), "Dropout .* 'p'; in tinynet: rate"),
        (lambda: nn.LeakyReLU(negative_slope=0.1), "'negative_slope'; in tinynet: slope"),
        (
            lambda: nn.Conv2d(3, 32, kernel_size=3, padding=1),
            r"Write nn\.Conv2d\(32, 3\) for PyTorch's nn\.Conv2d\(3, 32",
        ),
        (lambda: optim.Adam(P, learning_rate=0.1), "Adam .* 'learning_rate'; in tinynet: lr="),
        (lambda: nn.Dense(3, nonsense=1), r"unexpected keyword argument 'nonsense'$"),
    ],
)
def test_renamed_arguments_are_explained(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_functions_may_explain_theirs():
    @hints.explained
    def fit(model, *, lr=0.1, validation=None):
        """Doc."""
        return lr

    assert fit(0, lr=2) == 2 and fit.__doc__ == "Doc."
    for name, remedy in {"learning_rate": "lr=", "validation_data": "validation=", "validation_split": "0.1"}.items():
        with pytest.raises(TypeError, match=f"fit got an unexpected keyword argument '{name}'; in tinynet: .*{remedy}"):
            fit(0, **{name: 1})


def test_remedies_name_what_exists():
    for remedy in hints.KEYWORDS.values():
        for name in re.findall(r"\bnn\.(\w+)", remedy):
            assert hasattr(nn, name)


def test_arguments_of_ones_own_may_have_any_name():
    class Own(nn.Module):
        def __init__(self, units, **more):
            self.units = units

    assert Own(units=3).units == 3 and Own(3, filters=2).units == 3


@pytest.mark.parametrize("kind", [nn.MaxPool2d, nn.AvgPool2d])
def test_the_stride_of_a_pool_may_stand_second(kind):
    for pool in kind(2, 2), kind(3, 2), kind((2, 3), (1, 2)):
        assert pool.output_size((8, 8, 1)) == pool(np.zeros((1, 8, 8, 1), np.float32)).shape[1:]
    assert kind(3, 2).stride == (2, 2) == kind(3, stride=2).stride
    with pytest.raises(TypeError):
        kind(2, 2, 1)


# ---- models and losses ----------------------------------------------------------------------------------------------

CE, BCE = ops.softmax_cross_entropy, ops.binary_cross_entropy_with_logits
ENDS = {
    "dense": lambda end: nn.Sequential(nn.Dense(10, activation=end), input_shape=4),
    "layer": lambda end: nn.Sequential(
        nn.Dense(10), {"softmax": nn.Softmax, "sigmoid": nn.Sigmoid}[end](), input_shape=4
    ),
    "function": lambda end: nn.Sequential(nn.Dense(10), getattr(ops, end), nn.Dropout(0.1), input_shape=4),
    "nested": lambda end: nn.Sequential(nn.Sequential(nn.Dense(10, activation=end)), input_shape=4),
    "alone": lambda end: nn.Dense(10, activation=end).build(4),
}


@pytest.mark.parametrize("form", ENDS)
@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
@pytest.mark.parametrize("loss", [CE, BCE, functools.partial(CE, reduction="sum"), ops.nll_loss])
def test_probabilities_for_a_loss_of_logits_are_warned_of_once(form, end, loss):
    model = ENDS[form](end)
    name = getattr(loss, "func", loss).__name__
    with pytest.warns(UserWarning, match=f"the model ends in {end}, and {name} takes .* leave the {end} out"):
        check_loss(model, loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_loss(model, loss)  # the second time
        check_loss(model, ops.mse)
    with pytest.warns(UserWarning):
        check_loss(ENDS[form](end), loss)  # another model


def test_fitting_pairs_are_silent():
    quiet = [
        ENDS["dense"](None),
        ENDS["dense"]("relu"),
        nn.Sequential(),
        nn.Sequential(nn.Softmax(), nn.Dense(2), input_shape=3),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in quiet:
            for loss in CE, BCE, ops.mse, lambda y, t: y.sum():
                check_loss(model, loss)
        check_loss(nn.Sequential(nn.Dense(1), input_shape=3), BCE)
        check_loss(nn.Sequential(nn.Dense(1), input_shape=3), ops.mse)


@pytest.mark.parametrize("end", ["sigmoid", None])
def test_one_output_and_the_default_loss_name_the_binary_loss(end):
    model = nn.Sequential(nn.Dense(1, activation=end), input_shape=3)
    with pytest.raises(
        ValueError, match=r"one value a sample.* use loss=ops.binary_cross_entropy_with_logits"
    ) as caught:
        check_loss(model, CE)
    assert ("without the sigmoid" in str(caught.value)) == (end == "sigmoid")


@pytest.mark.parametrize(
    "first", [lambda: nn.Conv2d(2, 3), lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Dense(3))]
)
def test_bytes_from_0_to_255_are_told_once(first):
    x, y = np.full((8, 6, 6, 1), 200, np.uint8), np.arange(8) % 3
    model = nn.Sequential(first(), nn.Flatten(), nn.Dense(3), input_shape=(6, 6, 1))
    with pytest.warns(
        UserWarning, match=r"images are uint8, from 0 to 255.* nn\.Normalize\.fit\(x\) be the first layer"
    ):
        tn.fit(model, (x, y), epochs=1, verbose=False)
    tn.fit(model, (x, y), epochs=1, verbose=False)
    for same in ((x / 255).astype(np.float32), x):
        ahead = nn.Normalize.fit(x) if same is x else nn.Lambda(ops.relu)
        tn.fit(nn.Sequential(ahead, *model, input_shape=(6, 6, 1)), (same, y), epochs=1, verbose=False)


def test_pytorch_habits_get_an_explanation():
    with pytest.raises(TypeError, match=r"Write nn\.Conv2d\(32, 3\)"):
        nn.Conv2d(1, 32, 3)
    with pytest.raises(TypeError, match=r"Write nn\.Dense\(10\)"):
        nn.Dense(128, 10)
    with pytest.raises(TypeError, match=r"nn\.ReLU\(\)"):
        nn.Sequential(nn.ReLU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 3), "out_channels"),
        (lambda: nn.Conv2d(4, 0), "kernel_size"),
        (lambda: nn.Conv2d(4, 3, padding_mode="mirror"), "padding_mode"),
        (lambda: nn.Conv2d(4, 3, activation="rellu"), "relu"),
        (lambda: nn.Dense(-1), "out_features"),
        (lambda: nn.Dense(3, kernel_init="he"), "he_normal"),
        (lambda: nn.Dropout(1.0), "rate"),
        (lambda: nn.MaxPool2d((2, 2, 2)), "kernel_size"),
        (lambda: nn.Conv2d(4, 3, groups=2).build((8, 8, 3)), "groups=2 must divide"),
        (lambda: nn.Dense(3).build((8, 8, 3)), r"nn\.Flatten"),
        (lambda: nn.Conv2d(3, 3).build((8,)), r"\(N, H, W, C\)"),
    ],
)
def test_bad_layers_are_refused_with_the_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: nn.Flatten(2), "Flatten takes no arguments, got 2"),
        (lambda: nn.Softmax(axis=1), "Softmax takes no arguments, got axis=1"),
        (lambda: nn.GELU(approximate="tanh"), "GELU takes no arguments, got approximate='tanh'"),
        (lambda: Plain(3, b=2), "Plain takes no arguments, got 3, b=2"),
    ],
)
def test_a_layer_without_settings_takes_none(make, text):
    with pytest.raises(TypeError, match=text):
        make()


class Plain(nn.Module):
    def forward(self, x):
        return x


def test_what_would_do_nothing_is_refused():
    model = nn.Sequential(nn.Dense(2), input_shape=3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    for thing, name, text in (
        (model, "trainable", r"Sequential has no attribute 'trainable'; in tinynet: freeze\(\)"),
        (model[0], "trainable", "Dense has no attribute 'trainable'"),
        (optimizer, "learning_rate", "SGD has no attribute 'learning_rate'; in tinynet: lr"),
    ):
        for use in lambda thing, name: setattr(thing, name, 0), getattr:
            with pytest.raises(AttributeError, match=text):
                use(thing, name)


@pytest.mark.parametrize("values", [np.ones((4, 3)), 0.5, np.ones(3)])
def test_an_initialiser_makes_the_parameters_shape(values):
    with pytest.raises(
        ValueError, match=r"Dense: the initialiser made values of shape .*, the parameter's is \(3, 4\)"
    ):
        nn.Dense(4, kernel_init=lambda shape, rng: values)(np.ones((1, 3)))


def test_fused_layers_make_floats_of_integers_too():
    x = np.random.default_rng(0).standard_normal((5, 3))
    for rest in ([nn.Dense(4, activation="relu"), nn.Dense(2)], [nn.BatchNorm(), nn.ReLU()]):
        model = nn.Sequential(lambda x: (x > 0).astype(np.int64), *rest, input_shape=3)
        fused = model(x)
        with nn.set_fusion(False):
            plain = model(x)
        assert fused.dtype == plain.dtype == np.float32
        np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=1e-5, atol=1e-6)
