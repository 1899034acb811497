"""What users of PyTorch, Keras and NumPy look for under another name: the remedies in the errors that they meet."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable)

NAMES = {
    # layers and losses
    "Linear": "nn.Dense(out_features)",
    "MaxPooling2D": "nn.MaxPool2d(kernel_size)",
    "AveragePooling2D": "nn.AvgPool2d(kernel_size)",
    "GlobalAveragePooling2D": "nn.GlobalAvgPool2d()",
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNormalization"), "nn.BatchNorm()"),
    "LayerNormalization": "nn.LayerNorm()",
    "ModuleList": "a list of modules, as an attribute",
    "ModuleDict": "a dict of modules, as an attribute",
    "functional": "ops",
    "layers": "nn",
    "CrossEntropyLoss": "ops.softmax_cross_entropy(logits, labels)",
    "cross_entropy": "ops.softmax_cross_entropy(logits, labels)",
    "MSELoss": "ops.mse(y, target)",
    "mse_loss": "ops.mse(y, target)",
    "BCEWithLogitsLoss": "ops.binary_cross_entropy_with_logits(logits, y)",
    "L1Loss": "ops.l1(y, target)",
    **dict.fromkeys(("HuberLoss", "SmoothL1Loss"), "ops.huber(y, target, delta)"),
    **dict.fromkeys(("KLDivLoss", "kl_div"), "ops.kl_divergence(log_p, target)"),
    "CosineEmbeddingLoss": "ops.cosine_embedding(x, y, labels)",
    "TripletMarginLoss": "ops.triplet_margin(anchor, positive, negative)",
    "MultiMarginLoss": "ops.hinge(scores, labels)",
    "NLLLoss": "ops.nll_loss(log_probabilities, labels)",
    # functions and methods of tensors
    **{name: f"tn.tensor(np.{name}(…))" for name in ("arange", "eye", "full", "linspace", "ones", "zeros")},
    "rand": "tn.tensor(rng.random(shape)), with rng = np.random.default_rng(seed)",
    "randn": "tn.tensor(rng.standard_normal(shape)), with rng = np.random.default_rng(seed)",
    "from_numpy": "tn.tensor(array)",
    "as_tensor": "tn.tensor(array)",
    "manual_seed": "tn.seed(n)",
    "set_random_seed": "tn.seed(n)",
    "cat": "ops.concatenate(tensors, axis)",
    "concat": "ops.concatenate(tensors, axis)",
    "dot": "x @ y",
    "mm": "x @ y",
    "bmm": "x @ y",
    "view": "x.reshape(shape)",
    "permute": "x.transpose(axes)",
    "unsqueeze": "ops.expand_dims(x, axis), or x[:, None]",
    "tolist": "x.numpy().tolist()",
    "clone": "tn.tensor(x), a copy off the tape",
    "float": "x.astype(np.float32)",
    "double": "x.astype(np.float64)",
    "long": "x.astype(np.int64)",
    "cuda": '.to("cupy"), or tn.use("cupy") before the model is made',
    "cpu": '.to("numpy")',
    "device": "the backend: tn.use(name), x.backend, x.to(name)",
    # models and training
    "compile": "tn.fit takes the optimizer and the loss",
    "predict": "tn.predict(model, x)",
    "zero_grad": "optimizer.zero_grad()",
    "load_weights": "model.load_state_dict(state), or tn.load(path)",
    "save_weights": "tn.save(model, path)",
    "apply": "a loop over model.modules()",
    "lr_scheduler": "optim.schedules, and tn.fit(schedule=…)",
    "DataLoader": "data.Loader(x, y)",
    "train_test_split": "data.split(x, y, fractions, stratify=True)",
    "RandomHorizontalFlip": "data.random_flip()",
    "RandomResizedCrop": "data.random_affine(scale=(low, high), shift=pixels)",
    "RandomErasing": "data.cutout(size)",
    "Normalization": "nn.Normalize.fit(x_train)",
    "random_split": "data.split(x, y, fractions)",
}

INFERRED = "without it: the input's size is inferred"
SHAPE = "input_shape= of nn.Sequential, or model.build(shape)"
KEYWORDS = {
    "dim": "axis=",
    "keepdim": "keepdims=",
    # layers
    **dict.fromkeys(("in_channels", "in_features", "input_dim", "num_features"), INFERRED),
    **dict.fromkeys(("input_shape", "batch_input_shape"), SHAPE),
    "filters": "out_channels, the first argument: nn.Conv2d(32, 3)",
    "units": "out_features, the first argument: nn.Dense(128)",
    "pool_size": "kernel_size, the first argument: nn.MaxPool2d(2)",
    "strides": "stride=",
    "dilation_rate": "dilation=",
    "use_bias": "bias=",
    "kernel_initializer": "kernel_init=",
    **dict.fromkeys(("num_classes", "n_classes", "num_labels"), "classes="),
    **dict.fromkeys(("pretrained", "weights"), "no weights come along; train the network, or tn.load(path) your own"),
    "block_size": "context=",
    "vocab_size": "vocabulary, the first argument: tn.models.gpt(65)",
    "p": "rate, the first argument: nn.Dropout(0.5)",
    **dict.fromkeys(("negative_slope", "alpha"), "slope, the first argument: nn.LeakyReLU(0.01)"),
    # training
    "learning_rate": "lr=",
    "validation_data": "validation=(x, y)",
    "validation_split": "validation=0.1",
    "batchsize": "batch_size=",
    "progress": "verbose=False for silence",
    "nb_epoch": "epochs=",
    **dict.fromkeys(("out", "dtype"), "without it; NumPy's own functions want x.numpy()"),
}


# Where a name that is missing in a place may be found: of a model no operation, of the data neither.
LOOK = {
    "tn": ("tn", "ops", "nn", "optim", "data"),
    "nn": ("nn", "ops", "optim"),
    "ops": ("ops", "nn"),
    "optim": ("optim",),
    "data": ("data",),
    "models": ("models",),
    "Tensor": ("ops",),
    "model": ("tn",),
}
_places: dict[str, ModuleType] = {}  # tn, ops, nn, optim, data


def explain_missing(**places: ModuleType) -> None:
    """Let the modules' AttributeErrors say what a name is called here: explain_missing(tn=tinynet, ops=ops, …)."""
    _places.update(places)
    for place, module in places.items():
        vars(module)["__getattr__"] = functools.partial(_missing_in, place, module)  # PEP 562


def _missing_in(place: str, module: ModuleType, name: str) -> Any:
    raise missing(f"module {module.__name__!r}", name, module, place)


def missing(owner: str, name: str, obj: Any, place: str = "model") -> AttributeError:
    """The error for a name that `obj`, a module, a Tensor or a model, does not have, with what it is called here, where
    that is known."""
    remedy = NAMES.get(name) or _elsewhere("Tensor" if owner == "Tensor" else place, name)
    return AttributeError(
        f"{owner} has no attribute {name!r}" + (f"; in tinynet: {remedy}" if remedy else ""), name=name, obj=obj
    )


class renamed:
    """An attribute of another library's objects that these do not have: to set it would do nothing."""

    def __init__(self, remedy: str):
        self.remedy = remedy

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, obj: Any, owner: type) -> Any:
        if obj is None:
            return self
        raise AttributeError(f"{owner.__name__} has no attribute {self.name!r}; in tinynet: {self.remedy}")

    def __set__(self, obj: Any, value: Any) -> None:
        self.__get__(obj, type(obj))


def unset(x: Any, name: str) -> None:
    """What a Tensor says of an attribute that it lacks: AttributeError, but None, with a warning, of the gradient of
    what an operation returned."""
    if name != "grad":
        raise missing("Tensor", name, x)
    if x.node is not None:
        warnings.warn(
            f".grad of an operation's output ({x.node.name}, shape {x.shape}) stays None: backward() leaves gradients "
            "in leaves alone, made with requires_grad=True; use tn.grad(loss, x) in place of backward()",
            stacklevel=3,
        )


@functools.lru_cache(maxsize=1024)  # getattr(model, name, default) comes here in each step of a training
def _elsewhere(place: str, name: str) -> str | None:
    """The public name that is written like this, but for capitals, where it may be; else one that is nearly so."""
    if name.startswith("_"):
        return None
    names = {f"{p}.{n}": n for p in LOOK[place] for n in getattr(_places.get(p), "__all__", ())}
    found = [(n != name, full) for full, n in names.items() if n.lower() == name.lower()]
    if found:
        return min(found, key=lambda f: f[0])[1]  # the nearest place first
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names.values()], 1, 0.8)
    return next((full for full, n in names.items() if [n.lower()] == near), None)


def keyword(message: str) -> str:
    """What to add to Python's "… got an unexpected keyword argument 'dim'"."""
    found = re.search(r"unexpected keyword argument '(\w+)'", message)
    return f"; in tinynet: {KEYWORDS[found[1]]}" if found and found[1] in KEYWORDS else ""


def refuse_renamed(owner: str, function: Callable, options: Mapping[str, Any]) -> None:
    """Raise TypeError for a keyword of PyTorch or Keras that `function` does not take, with what it is called here."""
    if KEYWORDS.keys().isdisjoint(options):
        return
    taken = {} if function is object.__init__ else inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    for name in options:
        if name in KEYWORDS and name not in taken:
            raise TypeError(f"{owner} got an unexpected keyword argument {name!r}; in tinynet: {KEYWORDS[name]}")


def call(function: Callable, drop: int = 0) -> inspect.Signature:
    """The signature as help shows it: without the first `drop` parameters and the `*extra` that only serves an error,
    types without quotes, functions by their names."""
    if function is object.__init__:
        return inspect.Signature()
    try:
        full = inspect.signature(function, eval_str=True)
    except NameError:  # a type that is imported for type checkers only
        full = inspect.signature(function)
    kept = [p for p in full.parameters.values() if p.name != "extra"][drop:]
    shown = [p.replace(default=_Default(p.default)) if " at 0x" in repr(p.default) else p for p in kept]
    return full.replace(parameters=shown)


class _Default:
    """A default value that is shown by the names of its functions."""

    def __init__(self, value: Any):
        self.value = value

    def __repr__(self) -> str:
        return re.sub(r"<function (\S+) at 0x\w+>", r"\1", repr(self.value))


def explained(function: F) -> F:
    """The same function, with errors that explain renamed keywords."""

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        refuse_renamed(function.__name__, function, options)
        return function(*args, **options)

    checked.__signature__ = call(function)  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]
