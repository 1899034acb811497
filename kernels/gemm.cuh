// The tile loop that matrix products (gemm.cu) and convolutions (conv.cu) share.
//
//     C[m][n] = Σ_k A(m, k) · B(k, n)
//
// A block of 128 threads computes a 64 × 64 tile of C. It goes along k in steps of 8: fetches 64 × 8 of A
// and 8 × 64 of B into shared memory, then multiplies them, each thread 8 rows by 4 columns of the tile
// that it keeps in registers:
//
//     bytes        an element of A is fetched once for 64 columns of C, one of B once for 64 rows
//     registers    8 + 4 reads of shared memory serve 32 multiply-adds; with one output a thread, 2 serve 1
//     waiting      the next elements are on their way from memory while this step's are multiplied
//
// Bound by arithmetic: 2·M·N·K operations over the device's peak, once M, N and K are large.
// References: V. Volkov & J. Demmel, "Benchmarking GPUs to Tune Dense Linear Algebra" (2008), for outputs in
// registers; NVIDIA's CUTLASS, for the hierarchy of tiles and split-K.
//
// What A and B are, the loop does not know: an *operand* tells the element of its `line` (a row of A, a
// column of B) at depth k, in three parts so that no work is repeated:
//
//     Line line(i64 m)            what does not depend on k: found once, before the loop
//     Step step(i64 k)            what depends on k alone: once a step where threads can share it
//     T at(Line, Step)            the element; 0 beyond the last line
//     bool ALONG_DEPTH            whether neighbours in memory differ in k (else in the line)
#ifndef GEMM_CUH
#define GEMM_CUH
#include "tinynet.cuh"

constexpr int TILE = 64;                     // rows and columns of C that a block computes
constexpr int DEPTH = 8;                     // how much of k a step covers
constexpr int THREADS = 128;                 // of a block: 8 × 16
template <typename T> constexpr int BLOCKS = sizeof(T) <= 4 ? 4 : 2;    // side by side on a multiprocessor
constexpr int ROWS = 8, COLUMNS = 4;         // outputs a thread: 8 neighbouring rows, every 16th column
constexpr int ACROSS = TILE / COLUMNS;       // threads side by side
constexpr int FETCHES = TILE * DEPTH / THREADS;    // elements of each operand that a thread fetches at a step
// Of a shared row, a multiple of 16 bytes: with a few elements to spare, threads that store down a column meet other banks.
template <typename T> constexpr int PITCH = TILE + (sizeof(T) < 4 ? 8 : 4);

// A matrix in memory whose line m begins at offset + m · line_step.
template <typename T, bool ALONG> struct Matrix {
    static constexpr bool ALONG_DEPTH = ALONG;
    using Line = i64;
    using Step = i64;
    In<T> x;
    i64 offset, lines, line_step, depth_step;

    __device__ Line line(i64 m) const { return m < lines ? offset + m * line_step : -1; }
    __device__ Step step(i64 k) const { return k * depth_step; }
    __device__ T at(Line line, Step step) const { return line < 0 ? T(0) : T(x[line + step]); }
};

// What one thread fetches of an operand at each step. Neighbouring threads take neighbours in memory, so a
// thread has either one k and 4 lines, or one line and 4 values of k.
template <typename T, typename Operand> struct Fetcher {
    static constexpr bool ALONG = Operand::ALONG_DEPTH;
    static constexpr int LINES = ALONG ? FETCHES : 1, STEPS = FETCHES / LINES;
    typename Operand::Line lines[LINES];
    T values[FETCHES];

    static __device__ int line_of(int i) {
        return ALONG ? threadIdx.x / DEPTH + i * (THREADS / DEPTH) : threadIdx.x % TILE;
    }
    static __device__ int depth_of(int i) {
        return ALONG ? threadIdx.x % DEPTH : threadIdx.x / TILE + i * (THREADS / TILE);
    }
    __device__ void begin(const Operand& x, i64 first_line) {
#pragma unroll
        for (int i = 0; i < LINES; i++) lines[i] = x.line(first_line + line_of(i));
    }
    // Elements from depth k on, zeros from `end` on: they add nothing to the sums.
    __device__ void fetch(const Operand& x, i64 k, i64 end) {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            bool inside = k + depth_of(s) < end;
            typename Operand::Step step = x.step(k + depth_of(s));
#pragma unroll
            for (int l = 0; l < LINES; l++) values[s + l] = inside ? x.at(lines[l], step) : T(0);
        }
    }
    __device__ void put(Shared<T> tile) const {
#pragma unroll
        for (int i = 0; i < FETCHES; i++) tile[depth_of(i) * PITCH<T> + line_of(i)] = values[i];
    }
};

// This thread's 8 × 4 outputs of the tile at (row, column): the sums over first <= k < end.
template <typename T, typename A, typename B>
__device__ void multiply_tile(const A& a, const B& b, i64 row, i64 column, i64 first, i64 end, Acc<T> (&sum)[ROWS][COLUMNS]) {
    SHARED(T, a_tile, DEPTH * PITCH<T>);
    SHARED(T, b_tile, DEPTH * PITCH<T>);
    constexpr int WIDE = 16 / sizeof(T);            // 16 bytes: the most that one instruction reads
    int my_row = threadIdx.x / ACROSS * ROWS, my_column = threadIdx.x % ACROSS;
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) sum[i][j] = 0;

    Fetcher<T, A> from_a;
    Fetcher<T, B> from_b;
    from_a.begin(a, row);
    from_b.begin(b, column);
    from_a.fetch(a, first, end);
    from_b.fetch(b, first, end);
    for (i64 k = first; k < end; k += DEPTH) {
        from_a.put(a_tile);
        from_b.put(b_tile);
        __syncthreads();                            // the tiles are whole
        from_a.fetch(a, k + DEPTH, end);            // on their way while these are multiplied
        from_b.fetch(b, k + DEPTH, end);
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            Acc<T> x[ROWS], y[COLUMNS];
#pragma unroll
            for (int i = 0; i < ROWS; i += WIDE) {
                Vec<T, WIDE> v = load<WIDE>(a_tile, d * PITCH<T> + my_row + i);
#pragma unroll
                for (int w = 0; w < WIDE; w++) x[i + w] = Acc<T>(v[w]);
            }
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) y[j] = Acc<T>(b_tile[d * PITCH<T> + my_column + j * ACROSS]);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) sum[i][j] += x[i] * y[j];
        }
        __syncthreads();                            // the tiles may be overwritten
    }
}

// Where the outputs go: element (m, n) to offset + m · pitch + n, after the bias of column first_bias + n and relu.
template <typename T> struct Output {
    Out<T> z;
    In<T> bias;
    i64 offset, pitch, first_bias, rows, columns;
    bool relu;

    __device__ void store(i64 row, i64 column, const Acc<T> (&sum)[ROWS][COLUMNS]) const {
        row += threadIdx.x / ACROSS * ROWS;
        column += threadIdx.x % ACROSS;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            i64 n = column + j * ACROSS;
            if (n >= columns) continue;
            Acc<T> b = bias ? Acc<T>(bias[first_bias + n]) : Acc<T>(0);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                Acc<T> value = sum[i][j] + b;
                if (row + i < rows) z[offset + (row + i) * pitch + n] = T(relu && value < Acc<T>(0) ? Acc<T>(0) : value);
            }
        }
    }
};

// One more line of the product, `line`, which goes to a vector of its own, y[offset + n].
template <typename T>
__device__ void store_line(Out<T> y, i64 offset, i64 line, i64 columns, i64 row, i64 column, const Acc<T> (&sum)[ROWS][COLUMNS]) {
    row += threadIdx.x / ACROSS * ROWS;
    column += threadIdx.x % ACROSS;
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (row + i == line)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
                if (column + j * ACROSS < columns) y[offset + column + j * ACROSS] = T(sum[i][j]);
}

// What this block computes: a tile (blockIdx.x counts those of a matrix row by row, and then the matrices of the
// batch), and a part of the depth (blockIdx.y), where several blocks share a tile.
struct Place { i64 batch, row, column, first, end; };
__device__ __forceinline__ Place place_of(i64 rows, i64 columns, i64 depth, i64 slice) {
    u32 down = u32((rows + TILE - 1) / TILE), across = u32((columns + TILE - 1) / TILE), line = blockIdx.x / across;
    i64 first = blockIdx.y * slice;
    return {line / down, i64(line % down) * TILE, i64(blockIdx.x % across) * TILE, first,
            first + slice < depth ? first + slice : depth};
}

#endif
