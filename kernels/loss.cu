// Softmax cross-entropy: loss[r] = log Σ exp(x[r]) - x[r][label[r]], and what its gradient needs.
//
// Bound by memory: the logits are read (the second and third reading hit the cache) and as many values
// written. One pass does both: the forward kernel leaves softmax - one-hot, so that backward is a product.
// Reference: the gradient of log-sum-exp is softmax (Bridle 1990); the shift by the maximum keeps exp finite.
// Launch: a warp a row.
#include "tinynet.cuh"

template <typename T>
__global__ void softmax_cross_entropy(In<T> x, In<i64> label, Out<T> loss, Out<T> slope, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        i64 start = r * columns, y = label[r];
        Acc<T> top = Acc<T>(x[start]);
        for (i64 c = lane; c < columns; c += WARP) top = Acc<T>(x[start + c]) > top ? Acc<T>(x[start + c]) : top;
        top = warp_max(top);
        Sum<T> exps = 0;
        for (i64 c = lane; c < columns; c += WARP) exps += exp(Acc<T>(x[start + c]) - top);
        Acc<T> sum = warp_sum(exps);
        for (i64 c = lane; c < columns; c += WARP)
            slope[start + c] = exp(Acc<T>(x[start + c]) - top) / sum - (c == y ? Acc<T>(1) : Acc<T>(0));
        if (lane == 0) loss[r] = log(sum) + top - Acc<T>(x[start + y]);
    }
}

// dx[r][c] = g[r] · slope[r][c]. Launch: a thread an element.
template <typename T>
__global__ void scale_rows(In<T> slope, In<T> g, Out<T> dx, i64 columns, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) dx[i] = slope[i] * g[i / columns];
}
