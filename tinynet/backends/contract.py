"""The contract: every kernel that a backend must have, with shapes and meanings, in one place.

A backend is a module-like object with these names. `numpy` is the package `tinynet.backends.cpu`;
`cupy` and `simulator` are two instances of `tinynet.backends.cuda`. A test holds each of them to the
signatures below, and all of them to the same results.

Words used throughout:

- *array*: the backend's own array (`numpy.ndarray`, `cupy.ndarray`, …). Kernels take and give arrays;
  where an operand may also be a Python number it is called *x or number*. No kernel changes an input,
  except `copyto` and those whose name ends in `_step` or `_inplace`.
- dtypes: float32, float64 and int64 are the same everywhere. Operations give kernels that compute no others of
  integers and bools: those become int64 before, or float64 where the mathematics needs fractions (integers.py), so
  that uint8 does not overflow and all backends agree. uint64 is refused there. What only moves values (views, copies,
  concatenate, pad, getitem, max, min, max_pool2d) keeps any dtype. float16 is NumPy's on the host, float32 inside a
  device's kernels. int64 wraps around.
- `out`: an array of the right shape and dtype to write into; without it the kernel makes one.
- `axes`: a tuple of distinct non-negative ints, already normalised; `()` means no axis at all.
- `g`: a gradient with the shape of the forward result; it may have any strides.
- `saved`: what the forward kernel left for its `_grad`; its form is the backend's own.
- Shapes: images (N, H, W, C), convolution weights (KH, KW, C // groups, F), dense weights (in, out).
- `padding` in conv and pool is ((top, bottom), (left, right)); `stride`, `dilation` and `kernel` are
  (vertical, horizontal).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .elementwise import ELEMENTWISE, declared
from .geometry import Pads, Pair

Array = Any


class Backend(Protocol):
    """See the module's text. `name` is what `tn.use` takes. A device may have `ahead(batches)` besides, which copies
    host batches to it while it computes, and `part(flat, start, shape)`, an array on a vector's memory, elements from
    `start` on, for which `owns` is true."""

    name: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Array]:
            """The elementwise kernels."""

    # ---- arrays: making, moving, viewing ------------------------------------------------------
    def asarray(self, data: Any, dtype: Any = None) -> Array:
        """`data` (host or own array) as an own array; no copy where it already is one."""

    def numpy(self, x: Array) -> Any:
        """x on the host; the numpy backend gives x itself."""

    def empty(self, shape: tuple, dtype: Any) -> Array:
        """An uninitialised C-contiguous array."""

    def full(self, shape: tuple, value: float, dtype: Any) -> Array:
        """A C-contiguous array filled with value."""

    def one(self, shape: tuple, dtype: Any) -> Array:
        """A 1 in a shape of one element, which nobody changes: what `backward` starts from."""

    def copy(self, x: Array, *, out: Array | None = None) -> Array:
        """A C-contiguous copy of x, whatever its strides."""

    def astype(self, x: Array, dtype: Any, *, out: Array | None = None) -> Array:
        """A copy of x in another dtype."""

    def copyto(self, dst: Array, src: Any) -> None:
        """dst[...] = src, casting and broadcasting; src is an own array, a host array or a number."""

    def owns(self, x: Array) -> bool:
        """True where x has its memory for itself, that is, x is not a view of another array."""

    def bounds(self, x: Array) -> tuple[int, int]:
        """The addresses of the first byte of x's elements and of the one after the last; equal where there are none.
        What shares memory overlaps there."""

    # ---- reduce -------------------------------------------------------------------------------------
    def sum(self, x: Array, axes: tuple, keepdims: bool = False, *, out: Array | None = None) -> Array:
        """The sum over axes; int64 for integers, and for bools, of which it counts those that hold."""

    def sum_to(self, x: Array, shape: tuple, *, out: Array | None = None) -> Array:
        """Sums x down to a shape that broadcasts to x.shape: the transpose of broadcasting."""

    def max(self, x: Array, axes: tuple, keepdims: bool = False) -> tuple[Array, Any]:
        """(the maximum over axes, saved); saved[0]: the places. The first in C order wins a tie, NaN over all."""

    def min(self, x: Array, axes: tuple, keepdims: bool = False) -> tuple[Array, Any]:
        """(the minimum over axes, saved), likewise."""

    def max_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        """g at each winner of `max` or `min`, 0 elsewhere, in the shape of x."""

    def logsumexp(self, x: Array, axes: tuple, keepdims: bool = False, *, out: Array | None = None) -> Array:
        """log Σ exp(x), shifted by the maximum, so stable."""

    def softmax(self, x: Array, axes: tuple, *, out: Array | None = None) -> Array:
        """exp(x) / Σ exp(x)"""

    def softmax_grad(self, g: Array, y: Array, axes: tuple, *, out: Array | None = None) -> Array:
        """y (g - Σ g y)"""

    def log_softmax(self, x: Array, axes: tuple, *, out: Array | None = None) -> Array:
        """x - logsumexp(x)"""

    def log_softmax_grad(self, g: Array, y: Array, axes: tuple, *, out: Array | None = None) -> Array:
        """g - exp(y) Σ g"""

    # ---- shape ---------------------------------------------------------------------------------------
    def reshape(self, x: Array, shape: tuple) -> Array:
        """A view where the strides allow one, else a copy; shape holds no -1."""

    def transpose(self, x: Array, axes: tuple) -> Array:
        """A view with the axes permuted."""

    def broadcast_to(self, x: Array, shape: tuple) -> Array:
        """A view with stride 0 along the new axes; never written to."""

    def concatenate(self, xs: list, axis: int, *, out: Array | None = None) -> Array:
        """The arrays xs, equal in all other axes, one after the other along axis >= 0."""

    def pad(self, x: Array, widths: tuple, mode: str, value: float = 0.0, *, out: Array | None = None) -> Array:
        """widths: a (before, after) pair for each axis; mode: "constant" or "edge"."""

    def pad_edge_grad(self, g: Array, widths: tuple, *, out: Array | None = None) -> Array:
        """The transpose of pad(mode="edge"): the border's gradient is added to the edge it was copied from."""

    def getitem(self, x: Array, index: Any) -> Array:
        """x[index], as integers.index makes it: a tuple of ints, slices, Ellipsis, None, host int64 or bool arrays. A
        view where NumPy gives one."""

    def getitem_grad(self, g: Array, index: Any, shape: tuple, *, out: Array | None = None) -> Array:
        """Zeros of `shape` with g added at [index]; repeated indices add up, in a fixed order."""

    def add_at_inplace(self, x: Array, index: Any, g: Array) -> None:
        """x[index] += g; repeated indices add up, in a fixed order."""

    def setitem_inplace(self, x: Array, index: Any, value: Any) -> None:
        """x[index] = value; integer arrays as index may be refused (IndexError) off the host."""

    # ---- matmul --------------------------------------------------------------------------------------
    def matmul(
        self, x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False, *, out: Array | None = None
    ) -> Array:
        """x (…, M, K) @ y (…, K, N), leading axes broadcast; a transpose flag swaps that input's last two."""

    def dense(self, x: Array, w: Array, b: Array | None, relu: bool = False, *, out: Array | None = None) -> Array:
        """x (M, K) @ w (K, N) + b (N,), then relu if asked."""

    def dense_grad(self, g: Array, x: Array, w: Array, y: Array | None, need: tuple) -> tuple:
        """(dx, dw, db), None where need[i] is false; y: what relu gave, or None. A node in `need` has `take_home()`."""

    # ---- conv ----------------------------------------------------------------------------------------
    def im2col(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, *, out: Array | None = None
    ) -> Array:
        """(N, H, W, C) → (N, OH, OW, KH, KW, C): each output's window, zeros outside the image."""

    def col2im(
        self, cols: Array, shape: tuple, stride: Pair, padding: Pads, dilation: Pair, *, out: Array | None = None
    ) -> Array:
        """The transpose of im2col: each window's values added back into an image of `shape`."""

    def conv2d(
        self, x: Array, w: Array, b: Array | None, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> tuple[Array, Any]:
        """(y (N, OH, OW, F), saved): cross-correlation, as every framework calls convolution."""

    def conv2d_grad(self, g: Array, saved: Any, need: tuple) -> tuple:
        """(dx, dw, db), None where need[i] is false."""

    def conv_relu_pool(
        self, x: Array, w: Array, b: Array | None, stride: Pair, padding: Pads, dilation: Pair, groups: int, pool: bool
    ) -> tuple[Array, Any]:
        """(y, saved): conv2d, relu and, if `pool`, a 2×2 maximum of stride 2: what Sequential fuses."""

    def conv_relu_pool_grad(self, g: Array, saved: Any, need: tuple) -> tuple:
        """(dx, dw, db), None where need[i] is false."""

    def conv2d_input_grad(
        self, g: Array, w: Array, shape: tuple, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """The dx of conv2d for images of `shape`, without a forward: what a transposed convolution is."""

    # ---- embedding: `index`, int64 (K,), holds numbers of rows; one that is no row gives NaN, and no gradient ----
    def take_rows(self, x: Array, index: Array, *, out: Array | None = None) -> Array:
        """x (A, R, B), floating → (A, K, B): its rows index[k]."""

    def take_rows_grad(self, g: Array, index: Array, count: int, *, out: Array | None = None) -> Array:
        """The transpose, g (A, K, B) → (A, count, B): rows that were taken repeatedly add up, in the order of k."""

    # ---- pool ----------------------------------------------------------------------------------------
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair = (1, 1)
    ) -> tuple[Array, Any]:
        """(y (N, OH, OW, C), saved); padding never wins, the first maximum of a window wins a tie."""

    def max_pool2d_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        """g at each window's winner, added where windows overlap, in the shape of x."""

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, count_include_pad: bool, *, out: Array | None = None
    ) -> Array:
        """The mean of each window of a floating x; the divisor counts padding or not."""

    def avg_pool2d_grad(
        self,
        g: Array,
        shape: tuple,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        count_include_pad: bool,
        *,
        out: Array | None = None,
    ) -> Array:
        """g spread evenly over each window, in `shape`."""

    # ---- recurrent: a cell's step for N samples of H hidden units; gates side by side, see ops/recurrent.py --------
    def lstm_cell(self, z: Array, c: Array) -> tuple:
        """z (N, 4H) before the gates' functions, c (N, H) -> (h, c, gates (N, 4H), tanh(c))."""

    def lstm_slopes(self, gates: Array, c: Array, tanh_c: Array) -> Array:
        """(N, 5H), of any number of steps at one time; c is the one before. What dz is of: of i, f and g by the
        derivative of c after the step, of o by that of h; and the derivative of c after the step by that of h."""

    def lstm_cell_grad(self, dh: Array, dc: Array, gates: Array, slopes: Array) -> tuple:
        """(dz, dc before the step) from the gradients of h and c after it."""

    def gru_cell(self, zx: Array, zh: Array, h: Array) -> tuple:
        """zx, zh (N, 3H): what input and state add to the gates, h (N, H) -> (h, gates (N, 3H))."""

    def gru_cell_grad(self, dh: Array, gates: Array, zh: Array, h: Array) -> tuple:
        """(dzx, dzh, what goes to h before the step directly)."""

    # ---- norm: x (N, L, G, K), a statistic (N, G) for the L·K values of each (n, g); gamma and beta are (G, K) ------
    def moments(self, x: Array, centered: bool = True) -> tuple:
        """(mean, biased variance), in one pass that no large mean disturbs; if not centered (None, mean square)."""

    def normalize(
        self,
        x: Array,
        mean: Array | None,
        var: Array,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        relu: bool = False,
        *,
        out: Array | None = None,
    ) -> Array:
        """x̂ gamma + beta, where x̂ = (x - mean) / sqrt(var + eps); None is left out. Then relu, where it is wanted."""

    def normalize_grad(
        self,
        g: Array,
        x: Array,
        mean: Array | None,
        var: Array,
        gamma: Array | None,
        eps: float,
        g_mean: Array | None,
        gx_mean: Array | None,
        *,
        out: Array | None = None,
    ) -> Array:
        """(g gamma - g_mean - x̂ gx_mean) / sqrt(var + eps), with the means (N, G) of g gamma and of g gamma x̂ over each
        statistic's values, computed here where they are None; no g_mean where mean is None. `out` may be g."""

    def normalize_scale_grad(self, g: Array, x: Array, mean: Array | None, var: Array, eps: float) -> tuple:
        """(dgamma, dbeta): the sums of g x̂ and of g over N and L."""

    # ---- loss ----------------------------------------------------------------------------------------
    def softmax_cross_entropy(self, logits: Array, labels: Array, scale: float | None = None) -> tuple[Array, Any]:
        """(logsumexp(row) - row[label] (N,) of logits (N, K), labels (N,), or their sum times scale, 0-d; saved)"""

    def softmax_cross_entropy_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        """g, (N,) or 0-d as forward's result, times (softmax - one-hot) and the scale, shape (N, K)."""

    # ---- random --------------------------------------------------------------------------------------
    def random_bits(
        self, shape: tuple, seed: int, stream: int, step: int, first: int, *, out: Array | None = None
    ) -> Array:
        """uint16 of `shape` (N, …): row i depends only on (seed, stream, step, first + i). The words of
        Philox4x64-10 (Salmon et al. 2011) with key (seed, stream) and counter (block, 0, step, 0), where
        row r starts at block r · ceil(row size / 16); a block gives 4 words, a word 4 values, low bits
        first."""

    def dropout(self, x: Array, rate: float, seed: int, stream: int, step: int, first: int) -> tuple[Array, Any]:
        """(y, saved), of a floating x: x / (1 - rate) where random_bits >= round(rate · 65536), else 0."""

    def dropout_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        """g under the same mask and scale."""

    # ---- optim: in place, over flat vectors ---------------------------------------------------------------
    # Arrays of one floating dtype: w, g, and the state, of which velocity, mean and largest may be None.
    # `lr_count` is a float64 array (2,) that stays on the device: [learning rate, step count]. `loss` is a
    # 0-d array or None: where it is not finite, nothing changes. Each step adds 1 to the count, then called t, first.
    # g stands for -g where `maximize` says so, plus weight_decay · w; g itself stays as it is. `decoupled` decay, and
    # lion's, shrinks w itself, by 1 - lr · weight_decay, before.
    def guard(self, g: Array, loss: Array | None, most: float) -> Array:
        """What voids a step, as a 0-d array: `loss` (0 where it is None), or NaN where an element of the flat vector g
        is NaN or lies outside [-most, most]."""

    def squares(self, x: Array) -> Array:
        """Σ x² as a 0-d float64 array: squares that overflow float32 do not overflow here."""

    def sgd_step(self, w, g, velocity, lr_count, loss, momentum, dampening, nesterov, weight_decay, maximize) -> None:
        """velocity = momentum · velocity + (1 - dampening) g, or g itself at the first step;
        w -= lr · (g + momentum · velocity if nesterov else velocity)."""

    def adam_step(
        self, w, g, m, v, largest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, maximize
    ) -> None:
        """Adam (Kingma & Ba 2015, bias-corrected); decoupled: AdamW (Loshchilov & Hutter 2019); largest, where it is
        given: AMSGrad's maximum of v (Reddi et al. 2018)."""

    def rmsprop_step(
        self, w, g, v, mean, velocity, lr_count, loss, alpha, eps, momentum, weight_decay, maximize
    ) -> None:
        """v = alpha v + (1 - alpha) g²; w -= lr · g / (sqrt(v) + eps), through a velocity if momentum; with mean, the
        same average of g, sqrt(v - mean²) in place of sqrt(v)."""

    def adagrad_step(self, w, g, v, lr_count, loss, eps, lr_decay, weight_decay, maximize) -> None:
        """v += g²; w -= lr / (1 + (t - 1) lr_decay) · g / (sqrt(v) + eps)."""

    def adadelta_step(self, w, g, v, u, lr_count, loss, rho, eps, weight_decay, maximize) -> None:
        """v = rho v + (1 - rho) g²; d = g · sqrt(u + eps) / sqrt(v + eps); u = rho u + (1 - rho) d²; w -= lr · d."""

    def adamax_step(self, w, g, m, u, lr_count, loss, beta1, beta2, eps, weight_decay, maximize) -> None:
        """m as Adam's; u = max(beta2 u, |g| + eps); w -= lr / (1 - beta1^t) · m / u."""

    def nadam_step(
        self, w, g, m, v, rest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, momentum_decay, maximize
    ) -> None:
        """Adam with Nesterov's momentum (Dozat 2016): mu_t = beta1 (1 - 0.96^(t · momentum_decay) / 2);
        rest = 1 - mu_1 · … · mu_t, which starts at 0;
        w -= lr · d / (sqrt(v / (1 - beta2^t)) + eps) with
        d = (1 - mu_t) / rest · g + mu_(t+1) / (1 - (1 - rest) mu_(t+1)) · m."""

    def lion_step(self, w, g, m, lr_count, loss, beta1, beta2, weight_decay, maximize) -> None:
        """w -= lr · (sign(beta1 m + (1 - beta1) g) + weight_decay w); then m = beta2 m + (1 - beta2) g."""

    def lamb_step(self, w, g, m, v, sizes, lr_count, loss, beta1, beta2, eps, weight_decay, maximize) -> None:
        """r = Adam's step, bias-corrected, + weight_decay w; w -= lr · ‖w‖ / ‖r‖ · r, norms over each parameter: w
        consists of some, of `sizes` elements. 1 in place of their ratio where one is 0."""

    def muon_momentum_step(self, g, velocity, update, loss, momentum, nesterov, maximize) -> None:
        """velocity = momentum · velocity + (1 - momentum) g; update = momentum · velocity + (1 - momentum) g, or the
        velocity without nesterov. It counts no step."""


for _names, _arguments, _meaning in ELEMENTWISE:
    for _name in _names.split():
        setattr(Backend, _name, declared(_name, _arguments, _meaning))

# Every kernel of the contract by name.
KERNELS: dict[str, Callable] = {
    name: f for name, f in vars(Backend).items() if inspect.isfunction(f) and not name.startswith("_")
}
