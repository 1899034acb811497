// Matrix products: z[m][n] = Σ_k x[m][k] · y[k][n], of batches, of transposed matrices, with bias and relu.
//
// Bound by arithmetic where all three sizes are large (2·M·N·K operations over the peak), by memory where one is
// small (each matrix moved once over the bandwidth). A GPU computes some ten operations in the time that it
// reads one byte, so everything here is about using an element often once it has been fetched.
// References: see gemm.cuh; and K. Goto & R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
// (2008), for tiles at each level of memory.
#include "gemm.cuh"

// 1. Naive: a thread an output. Each element of x is read N times, each of y M times, all of it from memory or
// cache: two reads for a multiply-add.
// Launch: blocks of (16, 16) threads over the tiles of z.
template <typename T>
__global__ void gemm_naive(In<T> x, In<T> y, Out<T> z, i64 rows, i64 columns, i64 depth) {
    i64 m = i64(blockIdx.y) * blockDim.y + threadIdx.y, n = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (m >= rows || n >= columns) return;
    Acc<T> sum = 0;
    for (i64 k = 0; k < depth; k++) sum += Acc<T>(x[m * depth + k]) * Acc<T>(y[k * columns + n]);
    z[m * columns + n] = T(sum);
}

// 2. Tiles in shared memory: a block of 16 × 16 threads fetches 16 × 16 of each matrix, a thread one element of
// each, and all threads use them. Memory is read 16 times less often. Still two reads, now of shared
// memory, for a multiply-add; and shared memory gives a fraction of what the arithmetic could take.
// Launch: blocks of (16, 16) threads over the tiles of z.
template <typename T>
__global__ void gemm_tiled(In<T> x, In<T> y, Out<T> z, i64 rows, i64 columns, i64 depth) {
    constexpr int SIDE = 16;
    SHARED_2D(T, x_tile, SIDE, SIDE);
    SHARED_2D(T, y_tile, SIDE, SIDE);
    int i = threadIdx.y, j = threadIdx.x;
    i64 m = i64(blockIdx.y) * SIDE + i, n = i64(blockIdx.x) * SIDE + j;
    Acc<T> sum = 0;
    for (i64 k = 0; k < depth; k += SIDE) {
        x_tile[i][j] = m < rows && k + j < depth ? T(x[m * depth + k + j]) : T(0);
        y_tile[i][j] = k + i < depth && n < columns ? T(y[(k + i) * columns + n]) : T(0);
        __syncthreads();    // the tiles are whole
        for (int d = 0; d < SIDE; d++) sum += Acc<T>(x_tile[i][d]) * Acc<T>(y_tile[d][j]);
        __syncthreads();    // the tiles may be overwritten
    }
    if (m < rows && n < columns) z[m * columns + n] = T(sum);
}

// 3. The one in use: tiles of outputs in registers (gemm.cuh). x is (M, K), or (K, M) where TX; y is (K, N), or
// (N, K) where TY. Matrix b of a batch begins x_step · b elements after the first; step 0 repeats one matrix.
//
// Split-K: where z has fewer tiles than the device has room for blocks, several blocks (blockIdx.y) share a
// tile, each summing `slice` of the depth into a z of its own; z is then (slices, batches, M, N), which
// `add_slices` adds up in a fixed order. (Atomics would save that pass, and never repeat bit for bit.)
// Launch: (tiles of z · batches, slices) blocks of 128 threads.
template <typename T, bool TX, bool TY>
__global__ void __launch_bounds__(128, BLOCKS<T>)
gemm(In<T> x, In<T> y, In<T> bias, Out<T> z, i64 rows, i64 columns, i64 depth, i64 batches, i64 slice, bool relu,
     i64 x_step, i64 y_step) {
    Place p = place_of(rows, columns, depth, slice);
    Matrix<T, !TX> a{x, p.batch * x_step, rows, TX ? 1 : depth, TX ? rows : 1};
    Matrix<T, TY> b{y, p.batch * y_step, columns, TY ? depth : 1, TY ? 1 : columns};
    Output<T> out{z, bias, (blockIdx.y * batches + p.batch) * rows * columns, columns, 0, rows, columns, relu};
    Acc<T> sum[ROWS][COLUMNS];
    multiply_tile<T>(a, b, p.row, p.column, p.first, p.end, sum);
    out.store(p.row, p.column, sum);
}

// xᵀ (features, samples) with a line of ones below, whose product with g adds up g's columns.
template <typename T> struct WithOnes {
    static constexpr bool ALONG_DEPTH = false;
    using Line = i64;
    using Step = i64;
    In<T> x;
    i64 features;

    __device__ i64 line(i64 m) const { return m < features ? m : -1; }
    __device__ i64 step(i64 k) const { return k * features; }
    __device__ T at(i64 line, i64 step) const { return line < 0 ? T(1) : T(x[line + step]); }
};

// The gradients of a dense layer's weight and bias in one product: dw = xᵀ g and, where there is one, db = 1ᵀ g as
// its last line, for a bias is the weight of an input that is always 1. Naive: a product, then a sum down columns.
// Launch: as gemm. With several slices the last line goes to the stack of partial sums, and db is None.
template <typename T>
__global__ void __launch_bounds__(128, BLOCKS<T>)
dense_weight_grad(In<T> x, In<T> g, In<T> bias, Out<T> dw, Out<T> db, i64 rows, i64 columns, i64 depth, i64 batches,
                  i64 slice, i64 features) {
    Place p = place_of(rows, columns, depth, slice);
    WithOnes<T> a{x, features};
    Matrix<T, false> b{g, 0, columns, 1, columns};
    Output<T> out{dw, bias, blockIdx.y * rows * columns, columns, 0, db ? features : rows, columns, false};
    Acc<T> sum[ROWS][COLUMNS];
    multiply_tile<T>(a, b, p.row, p.column, p.first, p.end, sum);
    out.store(p.row, p.column, sum);
    if (db) store_line<T>(db, 0, features, columns, p.row, p.column, sum);
}

// The second pass of split-K: z[i] = relu(Σ_s partial[s][i] + bias[i % columns]), s in order; what lies behind z's
// `size` elements goes to `last`. Bound by memory. Launch: a thread an element of both.
template <typename T>
__global__ void add_slices(In<T> partial, In<T> bias, Out<T> z, Out<T> last, i64 slices, i64 columns, bool relu,
                           i64 size, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        Sum<T> total = 0;
        for (i64 s = 0; s < slices; s++) total += Acc<T>(partial[s * n + i]);
        if (bias) total += Acc<T>(bias[i % columns]);
        Acc<T> sum = total;
        if (relu && sum < Acc<T>(0)) sum = 0;
        if (i < size) z[i] = T(sum);
        else last[i - size] = T(sum);
    }
}
