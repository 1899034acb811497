"""Each public operation, layer and optimiser: with a checked derivative, beside PyTorch, and run by the CUDA kernels. A
name that lacks one of these fails here, and so does one of the names that are fixed if it is gone."""

from __future__ import annotations

import copy
import importlib
import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests import checks
from tests.optimising import EVERY
from tests.test_nn import SIZES
from tinynet import nn, ops, optim
from tinynet.ops.cases import CASES


def words(text: str) -> list[str]:
    return text.split()


# The names that are fixed.
OPERATIONS = words("""
    sin cos tan arcsin arccos arctan sinh cosh log1p expm1 erf floor ceil round sign square reciprocal rsqrt
    relu6 elu selu silu mish hardtanh hardsigmoid hardswish gelu log_sigmoid softsign prelu
    relu leaky_relu sigmoid softplus
    prod std cumsum norm einsum outer tril triu flip roll repeat tile sum mean var max min logsumexp softmax log_softmax
    take take_along_axis argmax argmin sort argsort topk one_hot scatter
    trunc mod floor_divide fmod copysign logaddexp arctan2 cbrt exp2 log2 log10 isnan isfinite isclose
    logical_and logical_or logical_not any all cumprod cummax logcumsumexp
    conv1d conv2d conv_transpose2d conv_relu_pool add_relu max_pool1d max_pool2d max_unpool2d avg_pool1d avg_pool2d
    global_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample2d resize2d
    batch_norm layer_norm group_norm rms_norm normalize embedding rnn lstm gru scaled_dot_product_attention dense matmul
    softmax_cross_entropy nll_loss mse binary_cross_entropy_with_logits
    l1 huber hinge kl_divergence cosine_similarity cosine_embedding triplet_margin dice focal
""")
NO_DERIVATIVE = words("""
    argmax argmin argsort one_hot isnan isfinite isclose logical_and logical_or logical_not any all
    equal not_equal less less_equal greater greater_equal
    bitwise_and bitwise_or bitwise_xor bitwise_not left_shift right_shift
""")
LAYERS = words("""
    Dense Flatten Conv1d Conv2d ConvTranspose2d SeparableConv2d MaxPool1d MaxPool2d AvgPool1d AvgPool2d GlobalAvgPool2d
    AdaptiveAvgPool2d AdaptiveMaxPool2d Upsample BatchNorm LayerNorm GroupNorm RMSNorm Dropout Dropout2d GaussianNoise
    Embedding RNN LSTM GRU MultiHeadAttention TransformerBlock PositionalEncoding Residual Concatenate Lambda Sequential
    ReLU LeakyReLU GELU Sigmoid Tanh Softmax LogSoftmax ELU SELU SiLU Mish ReLU6 Hardtanh Hardsigmoid Hardswish Softplus
    Softsign LogSigmoid PReLU
""")
OPTIMISERS = words("SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam Lion LAMB Muon EMA SWA find_lr schedules")

# What PyTorch has no twin of, and why that is no gap.
OWN_OPERATIONS = {
    **dict.fromkeys(("dropout", "gaussian_noise"), "random numbers of our own: test_random.py"),
    **dict.fromkeys(("astype", "broadcast_to", "expand_dims", "flatten", "squeeze"), "values are moved, not computed"),
}
OWN_LAYERS = {
    **dict.fromkeys(("Dropout", "Dropout2d", "GaussianNoise"), "random numbers of our own: test_random.py"),
    **dict.fromkeys(
        ("Sequential", "Lambda", "Residual", "Concatenate", "Ensemble"), "made of others: test_nn_blocks.py"
    ),
    **dict.fromkeys(("Module", "Parameter"), "what layers are made from"),
    "Normalize": "a sum and a factor: test_norm.py",
    "PositionalEncoding": "PyTorch has none: test_attention.py",
    "TransformerBlock": "attention, dense and norms in their places: test_attention.py",
}
# Operations beside PyTorch's over drawn settings, in other files than the table's.
DRAWN = {
    "tests.test_parity_layers": "max_pool1d max_unpool2d adaptive_avg_pool2d adaptive_max_pool2d resize2d upsample2d",
    "tests.test_attention": "scaled_dot_product_attention",
    "tests.test_parity_loss": ("l1 huber hinge kl_divergence cosine_similarity cosine_embedding triplet_margin"),
}
IN_LAYERS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "avg_pool1d": "AvgPool1d"}  # whose rows run these


def classes() -> dict[str, type]:
    return {name: kind for name in nn.__all__ if isinstance(kind := getattr(nn, name), type) and name[0].isupper()}


def test_all_names_that_are_fixed_are_here():
    assert set(OPERATIONS) <= set(ops.__all__)
    assert set(LAYERS) <= set(nn.__all__)
    assert set(OPTIMISERS) <= set(optim.__all__)


@pytest.mark.parametrize("name", ops.__all__)
def test_each_operation_has_a_derivative_that_is_checked(name):
    """A case whose gradient differences confirm, or there is no derivative, and the cases record nothing."""
    cases = [case for case in CASES if case.name == name]
    assert cases and all(case.smooth != (name in NO_DERIVATIVE) for case in cases), "see tinynet/ops/cases.py"


@pytest.mark.parity
def test_each_operation_is_compared_with_pytorchs():
    from tests import test_parity_nn, test_parity_torch

    beside = {name.split()[0] for name in test_parity_torch.TABLE} | {case.name for case in test_parity_torch.BY_NAME}
    for module, names in DRAWN.items():
        source = inspect.getsource(importlib.import_module(module))
        for name in names.split():
            assert f"ops.{name}" in source, f"{module} compares no {name}"
            beside.add(name)
    for name, layer in IN_LAYERS.items():
        assert layer in test_parity_nn.LAYERS and type(test_parity_nn.LAYERS[layer][0]).__name__ == layer
        beside.add(name)
    # without a derivative they are NumPy's functions, whose values test_ops.py compares with NumPy's
    assert set(ops.__all__) - beside - set(NO_DERIVATIVE) == set(OWN_OPERATIONS), "add to test_parity_torch.TABLE"


@pytest.mark.parity
def test_each_layer_is_compared_with_pytorchs():
    from tests.test_parity_nn import LAYERS as compared

    assert all(type(layer).__name__ == name for name, (layer, *_) in compared.items())
    assert set(classes()) - set(compared) == set(OWN_LAYERS), "add a row to test_parity_nn.LAYERS"


@pytest.mark.parity
def test_each_optimiser_is_compared_with_pytorchs():
    """Over twenty steps with every option (test_optim_rules.py): all rules but two that PyTorch does not have."""
    from tests import test_optim_rules

    rules = {name for name in optim.__all__ if getattr(optim, name) in optim.OPTIMIZERS.values()}
    marks = [m for m in test_optim_rules.test_twenty_steps_beside_pytorch.pytestmark if m.name == "parametrize"]
    compared = {name for mark in marks if "name" in mark.args[0] for name, _ in mark.args[1]}
    assert rules - compared == {"Lion", "LAMB"}


# ---- on the simulator -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulator():
    if reason := tn.backends.why_not("simulator"):
        pytest.skip(reason)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("name", ops.__all__)
def test_each_operation_by_the_cuda_kernels(name):
    """The smallest case that has values, forward and backward, as the numpy backend has it."""
    cases = [case for case in CASES if case.name == name and all(x.size for x in case.arrays())]
    case = min(cases, key=lambda case: sum(x.size for x in case.arrays()))
    found = []
    for backend in ("numpy", "simulator"):
        with tn.use(backend):
            leaves = [tn.tensor(x, requires_grad=case.smooth and x.dtype.kind == "f") for x in case.arrays()]
            ys = checks.outputs_of(case, leaves)
            values = [y.numpy() for y in ys]
            for y in ys[:1]:
                if y.requires_grad:
                    y.backward(checks.cotangent(y))
            found.append(values + [x.grad.numpy() for x in leaves if x.grad is not None])
    assert len(found[0]) == len(found[1])
    for a, b in zip(*found, strict=True):
        assert_allclose(b, a, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("layer", "shape"), SIZES, ids=lambda value: f"{value!r:.40}")
def test_each_layer_by_the_cuda_kernels(layer, shape):
    """In evaluation, where nothing is random: outputs and gradients as the numpy backend has them."""
    model = copy.deepcopy(layer)
    if shape:
        model.build(shape)
    rng = np.random.default_rng(0)
    whole = isinstance(model, nn.Embedding)
    x = rng.integers(0, 5, (2, *shape)) if whole else rng.standard_normal((2, *shape)).astype(np.float32)
    found = []
    for backend in ("numpy", "simulator"):
        moved = copy.deepcopy(model).eval().to(backend)
        t = tn.tensor(x, requires_grad=not whole, backend=backend)
        y = moved(t)
        y = y[0] if isinstance(y, tuple) else y
        if y.requires_grad:
            y.backward(tn.tensor(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape), backend=backend))
        gradients = [p.grad.numpy() for p in moved.parameters() if p.grad is not None]
        found.append([y.numpy(), *gradients, *([] if t.grad is None else [t.grad.numpy()])])
    for a, b in zip(*found, strict=True):
        assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_each_optimiser_by_the_cuda_kernels(name, settings):
    found = []
    for backend in ("numpy", "simulator"):
        rng = np.random.default_rng(0)
        be = tn.backends.get(backend)
        params = [nn.Parameter(rng.standard_normal(shape), be) for shape in ((3, 4), (5,))]
        optimizer = getattr(optim, name)(params, lr=0.01, **settings)
        for _ in range(3):
            for p in params:
                p.grad = tn.tensor(rng.standard_normal(p.shape), dtype=p.dtype, backend=be)
            optimizer.step()
        found.append([p.numpy() for p in params])
    for a, b in zip(*found, strict=True):
        assert_allclose(b, a, rtol=1e-5, atol=1e-6)
