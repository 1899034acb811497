// Softmax cross-entropy: loss[r] = log Σ exp(x[r]) - x[r][label[r]], and what its gradient needs.
//
// Bound by memory: the logits are read (the second and third reading hit the cache) and as many values
// written. One pass does both: the forward kernel leaves softmax - one-hot, so that backward is a product.
// Reference: the gradient of log-sum-exp is softmax (Bridle 1990); the shift by the maximum keeps exp finite.
#include "tinynet.cuh"

// The loss of row r, in all lanes of the warp that works on it; leaves the row's slope.
template <typename T>
__device__ Acc<T> row_loss(In<T> x, In<i64> label, Out<T> slope, i64 r, i64 columns) {
    int lane = threadIdx.x % WARP;
    i64 start = r * columns, y = label[r];
    Acc<T> top = Acc<T>(x[start]);
    for (i64 c = lane; c < columns; c += WARP) top = Acc<T>(x[start + c]) > top ? Acc<T>(x[start + c]) : top;
    top = warp_max(top);
    Sum<T> exps = 0;
    for (i64 c = lane; c < columns; c += WARP) exps += exp(Acc<T>(x[start + c]) - top);
    Acc<T> sum = warp_sum(exps);
    for (i64 c = lane; c < columns; c += WARP)
        slope[start + c] = exp(Acc<T>(x[start + c]) - top) / sum - (c == y ? Acc<T>(1) : Acc<T>(0));
    return log(sum) + top - Acc<T>(x[start + y]);
}

// 1. The loss of each row. Launch: a warp a row.
template <typename T>
__global__ void softmax_cross_entropy(In<T> x, In<i64> label, Out<T> loss, Out<T> slope, i64 rows, i64 columns) {
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Acc<T> own = row_loss<T>(x, label, slope, r, columns);
        if (threadIdx.x % WARP == 0) loss[r] = own;
    }
}

// 2. Their sum, times a scale (1 / rows makes it the mean), in the same launch: one block does all rows, and adds up
// in a fixed order. In use for batches so small that launching costs more than the work.
// Launch: one block of whole warps, at most 1024 threads.
template <typename T>
__global__ void softmax_cross_entropy_sum(In<T> x, In<i64> label, Out<T> loss, Out<T> slope, double scale, i64 rows,
                                          i64 columns) {
    SHARED(Sum<T>, partial, WARP);
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    Sum<T> sum = 0;
    for (i64 r = warp; r < rows; r += warps) sum += row_loss<T>(x, label, slope, r, columns);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();    // every warp's sum is there
    if (warp == 0) {
        sum = lane < warps ? partial[lane] : Sum<T>(0);
        sum = warp_sum(sum);
        if (lane == 0) loss[0] = T(sum * scale);
    }
}

// dx[r][c] = scale · g[r · step] · slope[r][c]; with step 0 all rows have one g. Launch: a thread an element.
template <typename T>
__global__ void scale_rows(In<T> slope, In<T> g, Out<T> dx, T scale, i64 step, i64 columns, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) dx[i] = slope[i] * (scale * g[i / columns * step]);
}
