"""The launcher table: every kernel of `kernels/`, its launch shape, and the template values it is built for.

What a kernel takes stands in its source. Here stands what the source cannot say: how many blocks and
threads to launch, as a function of the arguments by name. A test holds the table to the files.

To add a kernel, write it in its topic's `.cu` file and add a line:

    "row_sum": Entry(blocks("rows", 128)),
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..elementwise import ARRAYS, ELEMENTWISE

Values = dict[str, Any]
LaunchShape = Callable[[Values], tuple[Any, Any, int]]  # -> grid, block, bytes of dynamic shared memory

MOST_BLOCKS = 4096  # of a grid-stride kernel: fills the largest device several times over

FLOATS = ("float", "double")


@dataclass(frozen=True)
class Entry:
    """How one kernel is launched (None: the caller gives grid and block), and the values that its
    template parameters take (T: float and double where nothing is said). The simulator compiles those
    combinations together, file by file, on first use; any other alone when it is asked for."""

    shape: LaunchShape | None
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)


def per_element(n: str, block: int = 256) -> LaunchShape:
    """A thread an element, or fewer that stride: `n` is the argument that counts them."""
    return lambda v: (min(-(-v[n] // block), MOST_BLOCKS), block, 0)


def warps(rows: str, block: int = 256) -> LaunchShape:
    """A warp a row, or fewer that stride."""
    return lambda v: (min(-(-v[rows] * 32 // block), MOST_BLOCKS), block, 0)


def blocks(rows: str, block: int = 256) -> LaunchShape:
    """A block a row, or fewer that stride."""
    return lambda v: (min(v[rows], MOST_BLOCKS), block, 0)


def tiles(rows: str, columns: str, tile: tuple[int, int], block: int | tuple[int, int]) -> LaunchShape:
    """A block a tile of a matrix; x runs along its columns."""
    return lambda v: ((-(-v[columns] // tile[1]), -(-v[rows] // tile[0])), block, 0)


def products(v: Values) -> tuple[Any, Any, int]:
    """The tile loop of gemm.cuh: (tiles of 64 × 64 · batches, slices of the depth) blocks of 128 threads."""
    tiles = -(-v["rows"] // 64) * -(-v["columns"] // 64)
    return (tiles * v["batches"], max(1, -(-v["depth"] // v["slice"]))), 128, 0


def struct(name: str) -> str:
    """What elementwise.cu calls a kernel of the contract: leaky_relu is LeakyRelu there."""
    return "".join(part.capitalize() for part in name.split("_"))


def rows(arrays: int, result: str = "") -> dict[str, str]:
    """{kernel: struct} of the contract's elementwise kernels that take so many arrays."""
    return {
        name: struct(name)
        for names, arguments, _ in ELEMENTWISE
        for name in names.split()
        if len(ARRAYS & set(arguments.split())) == arrays and arguments.partition(" -> ")[2] == result
    }


UNARY, COMPARE = tuple(rows(1).values()), tuple(rows(2, "bool").values())
BINARY = (*rows(2).values(), "PowerSlope", "PowerLog")
STORED = (*FLOATS, "i64", "int", "bool")
RAW = ("u8", "short", "int", "i64")  # elements that are moved, not computed with, by their size

each, row = per_element("n"), warps("rows")

TABLE: dict[str, dict[str, Entry]] = {
    "elementwise.cu": {
        "unary": Entry(each, {"Op": UNARY}),
        "binary": Entry(each, {"Op": BINARY}),
        "binary_strided": Entry(each, {"Op": BINARY}),
        "compare": Entry(each, {"Op": COMPARE, "T": (*FLOATS, "i64")}),
        "select": Entry(each),
        "convert": Entry(each, {"T": STORED, "R": STORED}),
        "fill": Entry(each, {"T": RAW}),
    },
    "shape.cu": {
        "strided_copy": Entry(each, {"T": RAW}),
        "pad_edge": Entry(each, {"T": RAW}),
        "fold_edges": Entry(each),
        "gather": Entry(each, {"T": RAW}),
        "scatter_add": Entry(per_element("segments")),
    },
    "reduce.cu": {
        "row_sum_naive": Entry(per_element("rows")),
        "row_sum_warp": Entry(row, {"T": (*FLOATS, "i64")}),
        "row_sum": Entry(blocks("rows"), {"T": (*FLOATS, "i64")}),
        "column_sum": Entry(None, {"T": (*FLOATS, "i64")}),
        "row_winner": Entry(row, {"Op": ("Largest", "Smallest")}),
        "row_winner_grad": Entry(each),
        "row_softmax": Entry(row),
        "row_softmax_grad": Entry(row),
        "row_log_softmax": Entry(row),
        "row_log_softmax_grad": Entry(row),
        "row_logsumexp": Entry(row),
    },
    "gemm.cu": {
        "gemm_naive": Entry(tiles("rows", "columns", (16, 16), (16, 16))),
        "gemm_tiled": Entry(tiles("rows", "columns", (16, 16), (16, 16))),
        "gemm": Entry(products, {"TX": ("false", "true"), "TY": ("false", "true")}),
        "dense_weight_grad": Entry(products),
        "add_slices": Entry(each),
    },
    "conv.cu": {
        "im2col": Entry(each),
        "col2im": Entry(each),
        "conv_forward": Entry(products),
        "conv_input_grad": Entry(products),
        "conv_weight_grad": Entry(products),
    },
    "pool.cu": {
        "max_pool": Entry(each),
        "max_pool_grad": Entry(each),
        "avg_pool": Entry(each),
        "avg_pool_grad": Entry(each),
    },
    "norm.cu": {
        "moments_naive": Entry(per_element("rows")),
        "moments": Entry(row),
        "column_moments": Entry(None),
        "merge_moments": Entry(each),
        "normalize": Entry(each),
        "normalize_means": Entry(row),
        "normalize_grad": Entry(each),
        "normalize_scale_grad": Entry(None),
    },
    "embedding.cu": {
        "take_rows": Entry(each),
        "take_rows_grad_naive": Entry(each),
        "take_rows_grad": Entry(warps("segments")),
    },
    "loss.cu": {
        "softmax_cross_entropy": Entry(row),
        "softmax_cross_entropy_sum": Entry(None),
        "scale_rows": Entry(each),
    },
    "recurrent.cu": {
        "lstm_cell": Entry(each),
        "lstm_slopes": Entry(each),
        "lstm_cell_grad": Entry(each),
        "gru_cell": Entry(per_element("count")),
        "gru_cell_grad": Entry(per_element("count")),
    },
    "random.cu": {"random_bits": Entry(each), "dropout": Entry(each)},
    "optim.cu": {
        "guard": Entry(None),
        "squares": Entry(None),
        "advance": Entry(None),
        "sgd": Entry(each),
        "adam": Entry(each),
        "rmsprop": Entry(each),
        "adagrad": Entry(each),
        "adadelta": Entry(each),
        "adamax": Entry(each),
        "nadam": Entry(each),
        "lion": Entry(each),
        "lamb_norms": Entry(None),
        "lamb": Entry(None),
        "muon_momentum": Entry(each),
    },
}
