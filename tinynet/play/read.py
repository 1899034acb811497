"""The code of an operation as it is installed: what it computes, its derivative on the CPU, and its CUDA kernels."""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import Any

from ..backends.cuda import sources as cuda
from .asked import PlayError

# Operation: file and names of the operation, of the CPU's reference and its derivative, and of the kernels.
Places = tuple[str, tuple[str, ...]]
OPERATIONS: dict[str, tuple[Places, Places, Places]] = {
    "conv2d": (
        ("ops/conv.py", ("_conv2d", "conv2d")),
        ("backends/cpu/conv.py", ("reference_conv2d", "reference_conv2d_grad")),
        ("conv.cu", ("void im2col(", "void col2im(", "conv_forward(", "conv_input_grad(", "conv_weight_grad(")),
    ),
    "max_pool2d": (
        ("ops/pool.py", ("_max_pool2d", "max_pool2d")),
        ("backends/cpu/pool.py", ("max_pool2d", "_max_pool_any", "max_pool2d_grad")),
        ("pool.cu", ("void max_pool(", "void max_pool_grad(")),
    ),
    "avg_pool2d": (
        ("ops/pool.py", ("_avg_pool2d", "avg_pool2d")),
        ("backends/cpu/pool.py", ("avg_pool2d", "avg_pool2d_grad")),
        ("pool.cu", ("void avg_pool(", "void avg_pool_grad(")),
    ),
    "dense": (
        ("ops/matmul.py", ("_dense", "dense")),
        ("backends/cpu/matmul.py", ("dense", "dense_grad")),
        ("gemm.cu", ("void gemm_naive(", "void gemm_tiled(", "\ngemm(", "\ndense_weight_grad(")),
    ),
    "relu": (
        ("ops/activation.py", ("relu",)),
        ("backends/cpu/elementwise.py", ("relu", "rectify", "relu_grad")),
        ("elementwise.cu", ("UNARY(Relu,", "GRADIENT(ReluGrad,", "void unary(", "void binary(")),
    ),
    "tanh": (
        ("ops/elementwise.py", ("tanh",)),
        ("backends/cpu/elementwise.py", ("_unary", "tanh_grad")),
        ("elementwise.cu", ("UNARY(Tanh,", "GRADIENT(TanhGrad,", "void unary(", "void binary(")),
    ),
    "batch_norm": (
        ("ops/norm.py", ("_batch_norm", "batch_norm")),
        ("backends/cpu/norm.py", ("reference_normalize", "moments", "normalize_grad")),
        ("norm.cu", ("void moments_naive(", "void normalize(", "void normalize_grad(")),
    ),
    "softmax_cross_entropy": (
        ("ops/loss.py", ("_softmax_cross_entropy", "softmax_cross_entropy")),
        ("backends/cpu/loss.py", ("softmax_cross_entropy", "softmax_cross_entropy_grad")),
        ("loss.cu", ("void softmax_cross_entropy(", "void softmax_cross_entropy_sum(", "void scale_rows(")),
    ),
}
HEADS = ("Operation", "CPU: value and derivative", "GPU kernels")


def sources(operation: str) -> dict[str, Any]:
    """{"panes": [{"title", "file", "language", "parts": [{"line", "code"}]}]}: three panes of one operation.

    Raises: PlayError for an operation that is not among OPERATIONS.
    """
    if operation not in OPERATIONS:
        raise PlayError(f"the page shows {', '.join(OPERATIONS)}; there is no {operation[:40]!r}")
    *python, (kernel, names) = OPERATIONS[operation]
    panes = [
        {"file": f"tinynet/{file}", "language": "python", "parts": functions(_text(file), wanted)}
        for file, wanted in python
    ]
    panes.append({"file": f"kernels/{kernel}", "language": "cuda", "parts": kernels(cuda.read(kernel), names)})
    return {
        "operation": operation,
        "panes": [{"title": title, **pane} for title, pane in zip(HEADS, panes, strict=True)],
    }


def functions(text: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The functions of these names, each with its decorators and the number of its first line."""
    lines, found = text.splitlines(), {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = {"line": first, "code": "\n".join(lines[first - 1 : node.end_lineno])}
    return [found[name] for name in names if name in found]


def kernels(text: str, marks: tuple[str, ...]) -> list[dict[str, Any]]:
    """The pieces of a CUDA source that hold these marks: a kernel with the comment above it, or a macro's line."""
    lines, found = text.splitlines(), []
    for mark in marks:
        at = text.find(mark)
        if at < 0:
            continue
        first = last = text.count("\n", 0, at + mark.startswith("\n"))
        if not lines[first].startswith(("UNARY", "GRADIENT")):
            while first and lines[first - 1].strip():
                first -= 1
            while lines[last] != "}":
                last += 1
        found.append({"line": first + 1, "code": "\n".join(lines[first : last + 1])})
    return found


def _text(file: str) -> str:
    return files("tinynet").joinpath(file).read_text(encoding="utf-8")
