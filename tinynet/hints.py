"""What users of PyTorch, Keras and NumPy look for under another name: the remedies in the errors that they meet."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

NAMES = {
    # layers and losses
    "Linear": "nn.Dense(out_features)",
    "MaxPooling2D": "nn.MaxPool2d(kernel_size)",
    "AveragePooling2D": "nn.AvgPool2d(kernel_size)",
    "AdaptiveAvgPool2d": "nn.GlobalAvgPool2d()",
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
    "argmax": "x.numpy().argmax(axis)",
    "argmin": "x.numpy().argmin(axis)",
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
    "predict": "model.eval(), then model(x).numpy()",
    "zero_grad": "optimizer.zero_grad()",
    "load_weights": "model.load_state_dict(state), or tn.load(path)",
    "save_weights": "tn.save(model, path)",
    "apply": "a loop over model.modules()",
    "lr_scheduler": "optim.schedules, and tn.fit(schedule=…)",
    "DataLoader": "data.Loader(x, y)",
}

KEYWORDS = {
    "dim": "axis=",
    "keepdim": "keepdims=",
    **dict.fromkeys(("out", "dtype"), "without it; NumPy's own functions want x.numpy()"),
}


def missing(owner: str, name: str, obj: Any) -> AttributeError:
    """The error for a name that `obj` does not have, with what it is called here, where that is known."""
    remedy = NAMES.get(name) or _elsewhere(name)
    return AttributeError(
        f"{owner} has no attribute {name!r}" + (f"; in tinynet: {remedy}" if remedy else ""), name=name, obj=obj
    )


def explain_missing(module: ModuleType) -> None:
    """Let the module's AttributeErrors say what it is called here."""

    def __getattr__(name: str) -> Any:
        raise missing(f"module {module.__name__!r}", name, module)

    vars(module)["__getattr__"] = __getattr__  # PEP 562


def _elsewhere(name: str) -> str | None:
    """Where tinynet has a public name that is written like this, or like this but for capitals."""
    found = [
        (public != name, f"{place}.{public}")
        for place in ("tn", "ops", "nn", "optim", "data")
        for public in getattr(sys.modules.get(f"tinynet.{place}".replace(".tn", "")), "__all__", ())
        if public.lower() == name.lower()
    ]
    return min(found)[1] if found else None


def keyword(message: str) -> str:
    """What to add to Python's "… got an unexpected keyword argument 'dim'"."""
    found = re.search(r"unexpected keyword argument '(\w+)'", message)
    return f"; in tinynet: {KEYWORDS[found[1]]}" if found and found[1] in KEYWORDS else ""
