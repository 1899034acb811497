// Sums along rows: y[r] = x[r][0] + x[r][1] + … + x[r][columns-1].
//
// Bound by memory: each element is read once and used in one addition, so the floor is
// rows · columns · sizeof(T) bytes over the bandwidth of the device. Everything below is about
// reading in the right pattern and keeping enough threads busy.
// Reference: M. Harris, "Optimizing Parallel Reduction in CUDA" (2007); warp shuffles: J. Luitjens,
// "Faster Parallel Reductions on Kepler" (2014).
#include "tinynet.cuh"

// 1. Naive: a thread a row. Right, and short; but at each step neighbouring threads read addresses
// that lie a row apart, so a warp needs 32 transactions where one would do, and a matrix of few rows
// keeps most of the device idle.
// Launch: a thread a row.
template <typename T>
__global__ void row_sum_naive(In<T> x, Out<T> y, i64 rows, i64 columns) {
    for (i64 r = thread_index(); r < rows; r += thread_count()) {
        Sum<T> sum = 0;
        for (i64 c = 0; c < columns; c++) sum += Acc<T>(x[r * columns + c]);
        y[r] = T(sum);
    }
}

// 2. A warp a row: lane k reads columns k, k + 32, …, so each step of a warp reads 32 neighbours, and
// the 32 partial sums meet in five exchanges between registers, with no shared memory and no barrier.
// In use for short rows.
// Launch: a warp a row, several warps a block.
template <typename T>
__global__ void row_sum_warp(In<T> x, Out<T> y, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {    // a whole warp goes on or stops
        Sum<T> sum = 0;
        for (i64 c = lane; c < columns; c += WARP) sum += Acc<T>(x[r * columns + c]);
        sum = warp_sum(sum);
        if (lane == 0) y[r] = T(sum);
    }
}

// 3. In use for long rows: a block a row, so that a few of them (a loss) also fill the device. Each warp
// reduces its part as above and leaves it in shared memory; after a barrier the first warp adds those up.
// The order of the additions is fixed, so results repeat bit for bit.
// Launch: a block a row (or a grid of fewer, which stride); whole warps, at most 1024 threads.
template <typename T>
__global__ void row_sum(In<T> x, Out<T> y, i64 rows, i64 columns) {
    SHARED(Sum<T>, partial, WARP);
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
        Sum<T> sum = 0;
        for (i64 c = threadIdx.x; c < columns; c += blockDim.x) sum += Acc<T>(x[r * columns + c]);
        sum = warp_sum(sum);
        if (lane == 0) partial[warp] = sum;
        __syncthreads();    // every partial sum is there
        if (warp == 0) {
            sum = lane < warps ? partial[lane] : Sum<T>(0);
            sum = warp_sum(sum);
            if (lane == 0) y[r] = T(sum);
        }
        __syncthreads();    // partial may be overwritten for the next row
    }
}

// ---- sums down columns: y[c] = x[0][c] + … + x[rows-1][c] -----------------------------------------------

// What a bias gradient is: few columns, very many rows. Naive would be a thread a column. Here a block has 32
// columns across, so that each warp reads 32 neighbours, and 8 threads down each column, whose sums meet in
// shared memory. blockIdx.y takes a slice of the rows: partial sums of shape (slices, columns), which the
// same kernel, launched again with one slice, adds up. Order fixed, no atomics.
// Launch: (columns / 32, slices) blocks of (32, 8) threads.
template <typename T>
__global__ void column_sum(In<T> x, Out<T> y, i64 rows, i64 columns, i64 slice) {
    SHARED_2D(Sum<T>, partial, 8, 32);      // a warp writes, and later reads, a line of it: 32 banks
    i64 c = i64(blockIdx.x) * 32 + threadIdx.x;
    i64 first = blockIdx.y * slice, last = first + slice < rows ? first + slice : rows;
    Sum<T> sum = 0;
    if (c < columns)
        for (i64 r = first + threadIdx.y; r < last; r += 8) sum += Acc<T>(x[r * columns + c]);
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && c < columns) {
        for (int k = 1; k < 8; k++) sum += partial[k][threadIdx.x];
        y[blockIdx.y * columns + c] = T(sum);
    }
}

// ---- the largest or smallest value of each row, and where it stands ----------------------------------------

struct Largest  { template <typename T> __device__ static bool beats(T x, T y) { return x > y; } };
struct Smallest { template <typename T> __device__ static bool beats(T x, T y) { return x < y; } };

// NaN beats everything, as in NumPy; of equal values the first wins.
template <typename Op, typename T> __device__ bool wins(T x, i64 i, T y, i64 j) {
    if (x != x) return y == y || i < j;
    if (y != y) return false;
    return Op::template beats<T>(x, y) || (x == y && i < j);
}

// Launch: a warp a row. Each lane keeps the best of its columns; five exchanges find the best of all.
template <typename Op, typename T>
__global__ void row_winner(In<T> x, Out<T> y, Out<i64> winner, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        i64 best = lane < columns ? lane : 0;
        T value = x[r * columns + best];
        for (i64 c = lane + WARP; c < columns; c += WARP)
            if (T other = x[r * columns + c]; wins<Op, T>(other, c, value, best)) value = other, best = c;
        for (int step = WARP / 2; step > 0; step /= 2) {
            T other = __shfl_xor_sync(ALL_LANES, value, step);
            i64 where = __shfl_xor_sync(ALL_LANES, best, step);
            if (wins<Op, T>(other, where, value, best)) value = other, best = where;
        }
        if (lane == 0) y[r] = value, winner[r] = best;
    }
}

// Its transpose: dx[r][c] = g[r] at the winner, 0 elsewhere. Launch: a thread an element of dx.
template <typename T>
__global__ void row_winner_grad(In<T> g, In<i64> winner, Out<T> dx, i64 columns, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count())
        dx[i] = winner[i / columns] == i % columns ? T(g[i / columns]) : T(0);
}

// ---- softmax and its relatives: a warp a row, three passes over a row that stays in the cache ----------------

// The shift that keeps exp from overflowing: the row's maximum, but 0 for ±infinity, as ∞ - ∞ is NaN.
template <typename T> __device__ Acc<T> row_shift(In<T> x, i64 start, i64 columns, int lane) {
    Acc<T> top = Acc<T>(x[start]);
    for (i64 c = lane; c < columns; c += WARP) {
        Acc<T> other = x[start + c];
        top = other > top ? other : top;
    }
    top = warp_max(top);
    return isinf(top) ? Acc<T>(0) : top;
}

template <typename T> __device__ Sum<T> row_exp_sum(In<T> x, i64 start, i64 columns, int lane, Acc<T> shift) {
    Sum<T> sum = 0;
    for (i64 c = lane; c < columns; c += WARP) sum += exp(Acc<T>(x[start + c]) - shift);
    return warp_sum(sum);
}

// y = exp(x) / Σ exp(x)
template <typename T>
__global__ void row_softmax(In<T> x, Out<T> y, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Acc<T> shift = row_shift<T>(x, r * columns, columns, lane);
        Sum<T> sum = row_exp_sum<T>(x, r * columns, columns, lane, shift);
        for (i64 c = lane; c < columns; c += WARP) y[r * columns + c] = exp(Acc<T>(x[r * columns + c]) - shift) / Acc<T>(sum);
    }
}

// y = x - log Σ exp(x)
template <typename T>
__global__ void row_log_softmax(In<T> x, Out<T> y, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Acc<T> shift = row_shift<T>(x, r * columns, columns, lane);
        Acc<T> total = log(row_exp_sum<T>(x, r * columns, columns, lane, shift));
        for (i64 c = lane; c < columns; c += WARP) y[r * columns + c] = Acc<T>(x[r * columns + c]) - shift - total;
    }
}

// y[r] = log Σ exp(x[r])
template <typename T>
__global__ void row_logsumexp(In<T> x, Out<T> y, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Acc<T> shift = row_shift<T>(x, r * columns, columns, lane);
        Sum<T> sum = row_exp_sum<T>(x, r * columns, columns, lane, shift);
        if (lane == 0) y[r] = log(Acc<T>(sum)) + shift;
    }
}

// dx = y (g - Σ g y), the transpose of softmax's Jacobian at y = softmax(x)
template <typename T>
__global__ void row_softmax_grad(In<T> g, In<T> y, Out<T> dx, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Sum<T> sum = 0;
        for (i64 i = r * columns + lane; i < (r + 1) * columns; i += WARP) sum += Acc<T>(g[i]) * Acc<T>(y[i]);
        Acc<T> all = warp_sum(sum);
        for (i64 i = r * columns + lane; i < (r + 1) * columns; i += WARP) dx[i] = Acc<T>(y[i]) * (Acc<T>(g[i]) - all);
    }
}

// dx = g - exp(y) Σ g, at y = log_softmax(x)
template <typename T>
__global__ void row_log_softmax_grad(In<T> g, In<T> y, Out<T> dx, i64 rows, i64 columns) {
    int lane = threadIdx.x % WARP;
    for (i64 r = thread_index() / WARP; r < rows; r += thread_count() / WARP) {
        Sum<T> sum = 0;
        for (i64 i = r * columns + lane; i < (r + 1) * columns; i += WARP) sum += Acc<T>(g[i]);
        Acc<T> all = warp_sum(sum);
        for (i64 i = r * columns + lane; i < (r + 1) * columns; i += WARP)
            dx[i] = Acc<T>(g[i]) - exp(Acc<T>(y[i])) * all;
    }
}
