// Rows of a table by their numbers, y[a][k] = x[a][index[k]], and back: embeddings, resized images.
//
// x is (A, rows, width), y (A, count, width). Bound by memory: forward each value is read and written once. A number that
// is no row gives NaN forward and nothing backward: the host does not look at numbers that lie on the device.
#include "tinynet.cuh"

// Launch: a thread an element of y.
template <typename T>
__global__ void take_rows(In<T> x, In<i64> index, Out<T> y, i64 rows, i64 count, i64 width, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 row = index[i / width % count];
        bool inside = row >= 0 && row < rows;
        y[i] = inside ? T(x[(i / width / count * rows + row) * width + i % width]) : T(sqrt(Acc<T>(-1)));
    }
}

// Back: dx[a][r] = Σ g[a][k] over all k with index[k] = r, always in the order of k and without atomics.
// 1. Naive: a thread an element of dx looks through all numbers; neighbours read the same ones.
// Launch: a thread an element of dx.
template <typename T>
__global__ void take_rows_grad_naive(In<T> g, In<i64> index, Out<T> dx, i64 rows, i64 count, i64 width, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 row = i / width % rows, start = i / width / rows * count;
        Sum<T> sum = 0;
        for (i64 k = 0; k < count; k++)
            if (index[k] == row) sum += Acc<T>(g[(start + k) * width + i % width]);
        dx[i] = T(sum);
    }
}

// 2. In use: a warp a row of the table. Its lanes look at 32 numbers at one time and vote; only those that name the row
// are then gone through, the lanes side by side along the row's width.
// Launch: a warp a row of dx, `segments` = A · rows of them.
template <typename T>
__global__ void take_rows_grad(In<T> g, In<i64> index, Out<T> dx, i64 rows, i64 count, i64 width, i64 segments) {
    int lane = threadIdx.x % WARP;
    for (i64 s = thread_index() / WARP; s < segments; s += thread_count() / WARP) {
        i64 row = s % rows, start = s / rows * count;
        for (i64 column = 0; column < width; column += WARP) {
            bool mine = column + lane < width;
            Sum<T> sum = 0;
            for (i64 first = 0; first < count; first += WARP) {
                i64 k = first + lane;
                unsigned named = __ballot_sync(ALL_LANES, k < count && index[k] == row);
                for (; named; named &= named - 1) {
                    i64 which = first + __ffs(int(named)) - 1;
                    if (mine) sum += Acc<T>(g[(start + which) * width + column + lane]);
                }
            }
            if (mine) dx[s * width + column + lane] = T(sum);
        }
    }
}
