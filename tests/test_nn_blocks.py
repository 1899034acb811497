"""Layers made of layers and functions; Sequential's parts; what is fused; how a model is shown."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.nn import patterns


def images(n=2, h=8, w=8, c=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, h, w, c)).astype(np.float32)


def double(x):
    return x * 2.0


# ---- blocks -------------------------------------------------------------------------------------------------------


def test_residual_adds_what_goes_around():
    x = images()
    body = nn.Conv2d(4, 3, padding=1, activation="relu")
    block = nn.Residual(body, nn.Conv2d(4, 3, padding=1))
    y = block(x)
    np.testing.assert_allclose(y.numpy(), x + block.body[1](body(x)).numpy(), rtol=1e-5, atol=1e-6)
    assert [n for n, _ in block.named_parameters()] == [
        f"body.{i}.{name}" for i in range(2) for name in ("weight", "bias")
    ]
    short = nn.Conv2d(6, 1, stride=2)
    narrow = nn.Residual(nn.Conv2d(6, 3, stride=2, padding=1), shortcut=short)
    np.testing.assert_allclose(narrow(x).numpy(), short(x).numpy() + narrow.body(x).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nn.Residual(double, shortcut=double)(x).numpy(), 4 * x)


@pytest.mark.parametrize("layers", [(nn.Conv2d(5, 3, padding=1),), (nn.Conv2d(4, 3),), (nn.GlobalAvgPool2d(),)])
def test_residual_wants_equal_shapes(layers):
    block = nn.Residual(*layers)
    with pytest.raises(ValueError, match=r"^Residual: the layers' output has shape .* pass shortcut="):
        block(images())
    assert block.built is None
    layers[0].build((8, 8, 4))
    with pytest.raises(ValueError, match="Residual: the layers' output"):
        block.output_size((8, 8, 4))


def test_concatenate_puts_branches_side_by_side():
    x = images()
    block = nn.Concatenate(nn.Conv2d(2, 1), double, nn.Sequential(nn.Conv2d(3, 3, padding=1), ops.relu))
    y = block(x).numpy()
    assert y.shape == (2, 8, 8, 9)
    np.testing.assert_array_equal(y[..., 2:6], 2 * x)
    for wrong in (nn.Concatenate(double, nn.MaxPool2d(2)), nn.Concatenate(nn.Flatten(), double)):
        with pytest.raises(ValueError, match=r"Concatenate: the branches' outputs .* last axis only"):
            wrong(x)
        with pytest.raises(ValueError, match="last axis only"):
            wrong.output_size((8, 8, 4))
    with pytest.raises(ValueError, match="one branch at least"):
        nn.Concatenate()


def test_blocks_train_and_take_integers():
    model = nn.Sequential(
        nn.Residual(nn.Conv2d(4, 3, padding=1, activation="relu")),
        nn.Concatenate(nn.Conv2d(2, 1), nn.MaxPool2d(3, stride=1, padding=1)),
        ops.tanh,
        nn.Lambda(lambda x: x[:, ::2]),
        nn.GlobalAvgPool2d(),
        nn.Dense(3),
        input_shape=(8, 8, 4),
    )
    loss = ops.softmax_cross_entropy(model((images() * 9).astype(np.int16)), np.array([0, 2]))
    assert loss.dtype == np.float32
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("make", [nn.Sequential, nn.Residual, nn.Concatenate])
def test_what_is_no_layer_is_refused(make):
    for wrong in (3, "relu", None, int):
        with pytest.raises(
            TypeError, match=rf"{'Concatenate' if make is nn.Concatenate else 'Sequential'}: .* is not a"
        ):
            make(nn.ReLU(), wrong)
    with pytest.raises(TypeError, match=r"write nn\.ReLU\(\) with its parentheses"):
        make(nn.ReLU)
    with pytest.raises(TypeError, match="Lambda: 3 is not a function"):
        nn.Lambda(3)
    with pytest.raises(TypeError, match="Residual: 3 is not a layer"):
        nn.Residual(nn.ReLU(), shortcut=3)


def test_lambda_takes_all_that_it_is_given():
    add = nn.Lambda(lambda a, b, scale=1.0: (a + b) * scale)
    np.testing.assert_array_equal(add(np.ones((2, 3)), np.ones((2, 3)), scale=3.0).numpy(), np.full((2, 3), 6.0))
    assert nn.Lambda(lambda x: x.reshape(-1, 6)).output_size((2, 3)) == (6,)
    with pytest.raises(ValueError, match="too large"):
        nn.Lambda(double).output_size((10**6, 10**6))


# ---- parts of Sequential --------------------------------------------------------------------------------------------


def test_a_slice_is_a_sequential_of_the_same_layers():
    model = nn.Sequential(nn.Conv2d(2, 3), ops.relu, nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3), input_shape=(8, 8, 4))
    head, tail = model[:3], model[3:]
    assert type(head) is nn.Sequential and head.layers == model.layers[:3] and len(tail) == 2
    x = images()
    np.testing.assert_array_equal(tail(head(x)).numpy(), model(x).numpy())
    assert head.built == (8, 8, 4) and head.output_shape == (3, 3, 2) and len(head.parameters()) == 2
    assert model[-2:].layers == model.layers[-2:] and len(model[5:]) == 0
    assert not model.eval()[:2].training
    model[1] = ops.tanh
    assert isinstance(model[1], nn.Lambda) and model[1].function is ops.tanh


# ---- fusion ---------------------------------------------------------------------------------------------------------

CONV, POOL = {"padding": 1}, (2, 2)
FUSED = {
    "conv relu pool": (lambda: (nn.Conv2d(2, 3), nn.ReLU(), nn.MaxPool2d(2)), 3),
    "conv relu function pool": (lambda: (nn.Conv2d(2, 3), ops.relu, nn.MaxPool2d(2)), 3),
    "conv+relu pool": (lambda: (nn.Conv2d(2, 3, activation="relu"), nn.MaxPool2d((2, 2), padding="valid")), 2),
    "conv relu": (lambda: (nn.Conv2d(2, 3), nn.ReLU(), nn.MaxPool2d(3)), 2),
    "conv+relu": (lambda: (nn.Conv2d(2, 3, activation="relu"), nn.MaxPool2d(2, padding=1)), 1),
    "conv norm relu pool": (lambda: (nn.Conv2d(2, 3), nn.BatchNorm().eval(), nn.ReLU(), nn.MaxPool2d(2)), 4),
    "conv norm relu": (lambda: (nn.Conv2d(2, 3), nn.BatchNorm().eval(), ops.relu), 3),
    "conv norm": (lambda: (nn.Conv2d(2, 3), nn.BatchNorm().eval()), 2),
    "conv norm, training": (lambda: (nn.Conv2d(2, 3), nn.BatchNorm()), None),
    "norm relu": (lambda: (nn.BatchNorm(), nn.ReLU()), 2),
    "norm relu, fixed": (lambda: (nn.BatchNorm().eval(), nn.ReLU()), 2),
    "sum relu": (lambda: (nn.Residual(nn.Conv2d(4, 3, padding=1)), ops.relu), 2),
    "sum tanh": (lambda: (nn.Residual(nn.Conv2d(4, 3, padding=1)), ops.tanh), None),
    "dense relu": (lambda: (nn.Dense(2), ops.relu), 2),
    "dense tanh": (lambda: (nn.Dense(2), nn.Tanh()), 2),
    "dense+sigmoid": (lambda: (nn.Dense(2, activation="sigmoid"), nn.ReLU()), 1),
    "dense gelu": (lambda: (nn.Dense(2), nn.GELU()), None),
    "dense+relu": (lambda: (nn.Dense(2, activation="relu"), nn.ReLU()), 1),
    "conv pool": (lambda: (nn.Conv2d(2, 3), nn.MaxPool2d(2)), None),
    "conv tanh": (lambda: (nn.Conv2d(2, 3), ops.tanh), None),
    "a subclass": (lambda: (type("Own", (nn.Conv2d,), {})(2, 3, activation="relu"),), None),
}


@pytest.mark.parametrize("name", FUSED)
def test_each_pattern_of_the_table(name):
    make, count = FUSED[name]
    model = nn.Sequential(*make())
    x = images() if "dense" not in name else images()[:, 0, 0]
    assert patterns.fused(model.layers, 0) == (None, 1)  # not built yet
    plain = model(x).numpy()
    run, length = patterns.fused(model.layers, 0)
    assert (length if run else None) == count
    if run:
        rest = tn.tensor(run(tn.tensor(x)))
        for layer in model.layers[length:]:
            rest = layer(rest)
        np.testing.assert_allclose(rest.numpy(), plain, rtol=1e-5, atol=1e-6)
    for layer in model.layers[: count or 1]:
        remove = layer.register_forward_hook(lambda *_: None)
        run, length = patterns.fused(model.layers, 0)
        assert run is None or length < count
        remove()


def test_every_row_of_the_table_is_tested():
    used = set()
    for make, count in FUSED.values():
        model = nn.Sequential(*make())
        model(images()[:, 0, 0] if isinstance(model[0], nn.Dense) else images())
        for kind, rows in patterns.PATTERNS.items():
            used |= {
                (kind, i)
                for i, (tests, _) in enumerate(rows)
                if type(model[0]) is kind
                and len(tests) == count
                and patterns.fused(model.layers, 0)[0]
                and all(test(layer) for test, layer in zip(tests, model.layers, strict=False))
            }
    assert used == {(kind, i) for kind, rows in patterns.PATTERNS.items() for i in range(len(rows))}


# ---- showing --------------------------------------------------------------------------------------------------------


def network():
    return nn.Sequential(
        nn.Conv2d(4, 3, padding=1, activation="relu"),
        nn.Residual(nn.Conv2d(4, 3, padding=1), ops.relu),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dense(3),
    )


TREE = """\
Sequential                                        (8, 8, 1) → (3,)
  0: Conv2d(4, 3, padding=1, activation='relu')   (8, 8, 1) → (8, 8, 4)
  1: Residual                                     (8, 8, 4) → (8, 8, 4)
    body: Sequential                              (8, 8, 4) → (8, 8, 4)
      0: Conv2d(4, 3, padding=1)                  (8, 8, 4) → (8, 8, 4)
      1: Lambda(relu)                             (8, 8, 4) → (8, 8, 4)
  2: MaxPool2d(2)                                 (8, 8, 4) → (4, 4, 4)
  3: Flatten()                                    (4, 4, 4) → (64,)
  4: Dense(3)                                     (64,) → (3,)"""


def test_a_model_prints_as_a_tree():
    model = network()
    assert [line.strip() for line in str(model).splitlines()] == [
        line.split("  (")[0].strip() for line in TREE.splitlines()
    ]
    built = str(model.build((8, 8, 1)))
    assert [line.split() for line in built.splitlines()] == [line.split() for line in TREE.splitlines()]
    assert {len(line.rpartition(" → ")[0].rpartition("  (")[0]) for line in built.splitlines()} == {47}
    assert "0x" not in repr(model) and repr(nn.Dense(3, activation=ops.tanh)) == "Dense(3, activation=tanh)"

    class Net(nn.Module):
        def __init__(self):
            self.body, self.heads = nn.Dense(4), [nn.Dense(2), nn.Dense(3)]

        def forward(self, x):
            return self.heads[1](self.heads[0](self.body(x)))

    assert str(Net()).splitlines() == ["Net", "  body: Dense(4)", "  heads.0: Dense(2)", "  heads.1: Dense(3)"]
    assert str(nn.ReLU()) == "ReLU()"


def rows(text):
    return {line.split()[0]: line for line in text.splitlines() if line[:1].isdigit() and "parameters," not in line}


def test_summary_tells_costs_fields_and_memory(capsys):
    network().build((8, 8, 1)).summary()
    text = capsys.readouterr().out
    table = rows(text)
    assert list(table) == ["0", "1.body.0", "1.body.1", "2", "3", "4"]
    assert table["0"].endswith(f"(8, 8, 4)          40{64 * 36:>15,}    3×3   1 KiB")
    assert f"{64 * 144:,}    5×5" in table["1.body.0"] and " 6×6 " in table["2"] and " all " in table["4"]
    assert f"a sample: {64 * 36 + 64 * 144 + 64 * 3:,} multiply-adds" in text
    assert text.endswith("383 parameters, 383 trainable\n")


FIELDS = [
    ([nn.Conv2d(1, 3), nn.Conv2d(1, 3, stride=2), nn.Conv2d(1, 3)], (9, 9)),
    ([nn.Conv2d(1, (3, 1), dilation=(2, 5)), nn.MaxPool2d(2), nn.Conv2d(1, (1, 3))], (6, 6)),
    ([nn.Concatenate(nn.Conv2d(1, 1), nn.Conv2d(1, 5, padding=2)), nn.AvgPool2d(2, stride=1)], (6, 6)),
]


@pytest.mark.parametrize("layers, size", FIELDS)
def test_the_receptive_field_is_what_one_output_depends_on(layers, size):
    """Against the gradient: the input's pixels that one output value sees."""
    tn.seed(1)
    model = nn.Sequential(*layers, input_shape=(32, 32, 1))
    for p in model.parameters():
        p.data[...] = np.abs(p.data) + 0.1
    reach = np.zeros((32, 32), bool)
    for seed in range(30):  # a maximum's gradient goes to one pixel at a time
        x = tn.tensor(np.random.default_rng(seed).random((1, 32, 32, 1)).astype(np.float32), requires_grad=True)
        y = model(x)
        y[0, y.shape[1] // 2, y.shape[2] // 2].sum().backward()
        reach |= x.grad.numpy()[0, ..., 0] != 0
    seen = tuple(int(np.ptp(axis)) + 1 for axis in np.nonzero(reach))
    assert seen == size == tuple(int(n) for n in model.receptive(nn.fields.START).size)


def test_summary_survives_a_replaced_layer(capsys):
    model = network().build((8, 8, 1))
    model[0] = nn.Conv2d(6, 1)
    model[1] = nn.ReLU()
    model[-1] = nn.Dense(7)
    with pytest.raises(RuntimeError, match="no parameters yet"):
        model.parameters()
    model.summary()  # builds them, for the shape that the model was built for
    assert "?" not in capsys.readouterr().out and model.output_shape == (7,)
    fresh = nn.Sequential(nn.Conv2d(4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3), input_shape=(8, 8, 1))
    for replace in (lambda: fresh.__setitem__(1, nn.AvgPool2d(2)), lambda: fresh.__setitem__(3, nn.Dense(5).build(36))):
        replace()
        fresh.summary()
        assert "?" not in capsys.readouterr().out
    fresh(images(c=1))
    assert fresh.output_shape == (5,)

    class Own(nn.Module):
        def __init__(self):
            self.body = fresh

        def forward(self, x):
            return {"y": self.body(x)}

    Own().build((8, 8, 1)).summary()
    assert "?" not in capsys.readouterr().out.replace(" ? ", "") and Own().build((8, 8, 1)).output_shape == {"y": (5,)}
