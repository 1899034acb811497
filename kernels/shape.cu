// Moving values: copies through strides, borders, gathering and scattering.
//
// Bound by memory: nothing is computed. Element types do not matter, only their size, so the host hands
// every array over as unsigned or signed integers of that size.
// Launch: a thread an element of the result, grid-stride.
#include "tinynet.cuh"

// A copy between any two views of one shape: transpose, slice, reverse, broadcast, concatenate, pad.
template <typename T>
__global__ void strided_copy(In<T> x, i64 x_offset, Ints<8> x_strides, InOut<T> y, i64 y_offset, Ints<8> y_strides,
                             Ints<8> shape, i32 axes, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count())
        y[place(i, shape, y_offset, y_strides, axes)] = x[place(i, shape, x_offset, x_strides, axes)];
}

// y = x with a border that repeats its edge values: each index is moved to the nearest one inside.
template <typename T>
__global__ void pad_edge(In<T> x, Out<T> y, Ints<8> x_shape, Ints<8> before, Ints<8> y_shape, i32 axes, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 rest = i, from = 0, stride = 1;
#pragma unroll
        for (int d = 7; d >= 0; d--) {    // as in `place`
            if (d >= axes) continue;
            i64 k = rest % y_shape[d] - before[d];
            rest /= y_shape[d];
            k = k < 0 ? 0 : k >= x_shape[d] ? x_shape[d] - 1 : k;
            from += k * stride;
            stride *= x_shape[d];
        }
        y[i] = x[from];
    }
}

// The transpose of pad_edge along one axis, in gather form: seen as (outer, before + length + after, inner),
// each element inside collects its own gradient, the first and the last also that of the border beside them.
template <typename T>
__global__ void fold_edges(In<T> g, Out<T> dx, i64 length, i64 before, i64 after, i64 inner, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 o = i / inner / length, k = i / inner % length, c = i % inner;
        i64 first = k == 0 ? 0 : before + k;
        i64 last = k == length - 1 ? before + length + after - 1 : before + k;
        Acc<T> sum = 0;
        for (i64 j = first; j <= last; j++) sum += Acc<T>(g[(o * (before + length + after) + j) * inner + c]);
        dx[i] = T(sum);
    }
}

// y[i] = x[index[i]], index in elements of x
template <typename T>
__global__ void gather(In<T> x, In<i64> index, Out<T> y, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = x[index[i]];
}

// The transpose of gather. Elements of g that go to one place are added by one thread, in the order of
// `order`, so that results repeat bit for bit: segment s holds order[starts[s]] … order[starts[s+1] - 1], all
// of which go to place[s].
template <typename T>
__global__ void scatter_add(In<T> g, In<i64> order, In<i64> starts, In<i64> place, InOut<T> dx, i64 segments) {
    for (i64 s = thread_index(); s < segments; s += thread_count()) {
        Acc<T> sum = Acc<T>(dx[place[s]]);
        for (i64 j = starts[s]; j < starts[s + 1]; j++) sum += Acc<T>(g[order[j]]);
        dx[place[s]] = sum;
    }
}
