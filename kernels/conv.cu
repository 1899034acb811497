// Convolution, channels last: x (N, H, W, C), w (KH, KW, c, F), y (N, OH, OW, F); c = C / groups, f = F / groups.
//
//     y[n][i][j][q] = bias[q] + Σ_(u, v, k) x[n][i·SH + u·DH - top][j·SW + v·DW - left][k] · w[u][v][k][q]
//
// 1. im2col copies every output's window into a row, so that one matrix product does the rest; its transpose,
//    col2im, adds rows back where they came from. That is all there is to know, and easy to check. But the
//    columns hold KH·KW copies of x: 3×3 moves 9 times x to memory and back, and is bound by that.
// 2. Implicit GEMM, the one in use: the same products, but the tile loop of gemm.cuh asks for elements of the
//    columns as it needs them, and they come straight from x. Nothing is stored; what overlapping windows
//    share comes from the cache. Bound by arithmetic, 2·N·OH·OW·KH·KW·c·F operations, or where channels are few
//    by the bytes of x and y.
//
// The three products, for each group (they are the batch of gemm.cuh):
//
//     forward            (pixels of y × taps)   · (taps × filters)        taps: (u, v, channel)
//     input gradient     (pixels of x × taps)   · (taps × channels)       taps: (u, v, filter)
//     weight gradient    (taps × pixels of y)   · (pixels of y × filters)
//
// The last has few tiles and much depth: split-K (see gemm.cu).
// References: K. Chellapilla, S. Puri & P. Simard (2006) for im2col; S. Chetlur et al., "cuDNN: Efficient
// Primitives for Deep Learning" (2014) for doing it in the tile loop; A. Lavin & S. Gray, "Fast Algorithms for
// Convolutional Neural Networks" (2016) for Winograd's way to fewer multiplications, which is not taken here.
#include "gemm.cuh"

// n / d for n < 2³¹ by a multiplication and a shift (Granlund & Montgomery 1994): a division proper takes twenty
// instructions, of 64 bits a hundred, and tiles are full of them. The host packs magic + 2³² · shift.
struct Divisor {
    u32 magic, shift;
    __device__ i32 operator()(i32 n) const { return i32((__umulhi(magic, u32(n)) + u32(n)) >> shift); }
};
__device__ __forceinline__ Divisor divisor(i64 packed) { return {u32(packed), u32(packed >> 32)}; }

// The sizes of one convolution, passed by value.
struct Conv {
    i32 H, W, C, OH, OW, F, KH, KW, SH, SW, DH, DW, top, left, c, f;
    Divisor by_H, by_W, by_OH, by_OW, by_KW, by_SH, by_SW, by_c, by_f;
};
__device__ __forceinline__ Conv conv_of(const Ints<25>& s) {
    return {i32(s[0]), i32(s[1]), i32(s[2]), i32(s[3]), i32(s[4]), i32(s[5]), i32(s[6]), i32(s[7]), i32(s[8]), i32(s[9]),
            i32(s[10]), i32(s[11]), i32(s[12]), i32(s[13]), i32(s[14]), i32(s[15]), divisor(s[16]), divisor(s[17]),
            divisor(s[18]), divisor(s[19]), divisor(s[20]), divisor(s[21]), divisor(s[22]), divisor(s[23]),
            divisor(s[24])};
}

// ---- 1. the teaching path ------------------------------------------------------------------------------------

// cols (N, OH, OW, KH, KW, C): each output's window, zeros outside of the image.
// Launch: a thread an element of cols; neighbours have neighbouring channels on both sides.
template <typename T>
__global__ void im2col(In<T> x, Out<T> cols, Ints<25> sizes, i64 n) {
    Conv s = conv_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 channel = i % s.C, tap = i / s.C, pixel = tap / s.KW / s.KH, image = pixel / s.OW / s.OH;
        i64 h = pixel / s.OW % s.OH * s.SH + tap / s.KW % s.KH * s.DH - s.top;
        i64 w = pixel % s.OW * s.SW + tap % s.KW * s.DW - s.left;
        bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
        cols[i] = inside ? T(x[((image * s.H + h) * s.W + w) * s.C + channel]) : T(0);
    }
}

// The output line whose window has line h of the image under tap u: (h + top - u·DH) / SH, or -1 if there is none.
__device__ __forceinline__ i32 output_line(i32 place, i32 stride, const Divisor& by_stride, i32 lines) {
    if (place < 0) return -1;
    i32 o = stride == 1 ? place : by_stride(place);
    return o * stride == place && o < lines ? o : -1;
}

// The transpose: each pixel adds up, in the order of the taps, what the windows that hold it send back.
// Launch: a thread an element of dx. (A thread a window would need atomics, as windows overlap.)
template <typename T>
__global__ void col2im(In<T> cols, Out<T> dx, Ints<25> sizes, i64 n) {
    Conv s = conv_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 channel = i % s.C, pixel = i / s.C, image = pixel / s.W / s.H;
        i32 h = i32(pixel / s.W % s.H) + s.top, w = i32(pixel % s.W) + s.left;
        Sum<T> sum = 0;
        for (i32 u = 0; u < s.KH; u++)
            for (i32 v = 0; v < s.KW; v++) {
                i32 oh = output_line(h - u * s.DH, s.SH, s.by_SH, s.OH), ow = output_line(w - v * s.DW, s.SW, s.by_SW, s.OW);
                if (oh < 0 || ow < 0) continue;
                sum += Acc<T>(cols[((((image * s.OH + oh) * s.OW + ow) * s.KH + u) * s.KW + v) * s.C + channel]);
            }
        dx[i] = T(sum);
    }
}

// ---- 2. implicit GEMM: operands of the tile loop that look into images --------------------------------------------

// Half of an address: `offset` in memory, and the place (h, w) in the image that says whether it lies inside.
struct Half { i64 offset; i32 h, w; };
__device__ __forceinline__ Half outside() { return {0, -(1 << 30), 0}; }
__device__ __forceinline__ Half ones() { return {-1, 0, 0}; }
__device__ __forceinline__ i64 taps_of(const Conv& s) { return i64(s.KH) * s.KW * s.c; }

// The element of x under a tap (u, v, channel) of an output pixel; with TRANSPOSED taps are lines, pixels the depth, and
// below the taps comes a line of ones.
template <typename T, bool TRANSPOSED> struct Patches {
    static constexpr bool ALONG_DEPTH = !TRANSPOSED;
    using Line = Half;
    using Step = Half;
    In<T> x;
    const Conv& s;
    i64 group, lines;

    __device__ Half pixel(i32 m) const {
        i32 line = s.by_OW(m), ow = m - line * s.OW, image = s.by_OH(line), oh = line - image * s.OH;
        i32 h = oh * s.SH - s.top, w = ow * s.SW - s.left;
        return {((i64(image) * s.H + h) * s.W + w) * s.C + group * s.c, h, w};
    }
    __device__ Half tap(i32 k) const {
        i32 uv = s.by_c(k), channel = k - uv * s.c, u = s.by_KW(uv), v = uv - u * s.KW;
        return {i64(u * s.DH * s.W + v * s.DW) * s.C + channel, u * s.DH, v * s.DW};
    }
    __device__ Half line(i64 m) const {
        if (TRANSPOSED && m == taps_of(s)) return ones();
        return m >= lines ? outside() : TRANSPOSED ? tap(i32(m)) : pixel(i32(m));
    }
    __device__ Half step(i64 k) const { return TRANSPOSED ? pixel(i32(k)) : tap(i32(k)); }
    __device__ T at(const Half& a, const Half& b) const {
        if (TRANSPOSED && a.offset < 0) return T(1);
        i32 h = a.h + b.h, w = a.w + b.w;
        return h >= 0 && h < s.H && w >= 0 && w < s.W ? T(x[a.offset + b.offset]) : T(0);
    }
};

// The element of g that a tap (u, v, filter) sends back to a pixel of x. With a stride above 1 most are 0.
template <typename T> struct GradientPatches {
    static constexpr bool ALONG_DEPTH = true;
    using Line = Half;
    using Step = Half;
    In<T> g;
    const Conv& s;
    i64 group, lines;

    __device__ Half line(i64 m) const {
        if (m >= lines) return outside();
        i32 row = s.by_W(i32(m)), w = i32(m) - row * s.W, image = s.by_H(row), h = row - image * s.H;
        return {i64(image) * s.OH * s.OW * s.F + group * s.f, h + s.top, w + s.left};
    }
    __device__ Half step(i64 k) const {
        i32 uv = s.by_f(i32(k)), filter = i32(k) - uv * s.f, u = s.by_KW(uv), v = uv - u * s.KW;
        return {filter, u * s.DH, v * s.DW};
    }
    __device__ T at(const Half& a, const Half& b) const {
        i32 oh = output_line(a.h - b.h, s.SH, s.by_SH, s.OH), ow = output_line(a.w - b.w, s.SW, s.by_SW, s.OW);
        return oh >= 0 && ow >= 0 ? T(g[a.offset + (i64(oh) * s.OW + ow) * s.F + b.offset]) : T(0);
    }
};

// w as the input gradient reads it: column `channel`, depth (u, v, filter).
template <typename T> struct TurnedWeights {
    static constexpr bool ALONG_DEPTH = true;
    using Line = i64;
    using Step = i64;
    In<T> w;
    const Conv& s;
    i64 group;

    __device__ i64 line(i64 channel) const { return channel < s.c ? channel * s.F + group * s.f : -1; }
    __device__ i64 step(i64 k) const {
        i32 uv = s.by_f(i32(k)), filter = i32(k) - uv * s.f;
        return i64(uv) * s.c * s.F + filter;
    }
    __device__ T at(i64 line, i64 step) const { return line < 0 ? T(0) : T(w[line + step]); }
};

// All three: launch (tiles of the result · groups, slices) blocks of 128 threads. With several slices the result is
// a stack of partial sums. (The gradients add no bias: theirs is None.)

template <typename T>
__global__ void __launch_bounds__(128, BLOCKS<T>)
conv_forward(In<T> x, In<T> w, In<T> bias, Out<T> y, i64 rows, i64 columns, i64 depth, i64 batches, i64 slice,
             bool relu, Ints<25> sizes) {
    Conv s = conv_of(sizes);
    Place p = place_of(rows, columns, depth, slice);
    i64 group = p.batch;
    Patches<T, false> a{x, s, group, rows};
    Matrix<T, false> b{w, group * s.f, columns, 1, s.F};
    Output<T> out{y, bias, blockIdx.y * rows * s.F + group * s.f, s.F, group * s.f, rows, columns, relu};
    Acc<T> sum[ROWS][COLUMNS];
    multiply_tile<T>(a, b, p.row, p.column, p.first, p.end, sum);
    out.store(p.row, p.column, sum);
}

template <typename T>
__global__ void __launch_bounds__(128, BLOCKS<T>)
conv_input_grad(In<T> g, In<T> w, In<T> bias, Out<T> dx, i64 rows, i64 columns, i64 depth, i64 batches, i64 slice,
                bool relu, Ints<25> sizes) {
    Conv s = conv_of(sizes);
    Place p = place_of(rows, columns, depth, slice);
    i64 group = p.batch;
    GradientPatches<T> a{g, s, group, rows};
    TurnedWeights<T> b{w, s, group};
    Output<T> out{dx, bias, blockIdx.y * rows * s.C + group * s.c, s.C, 0, rows, columns, relu};
    Acc<T> sum[ROWS][COLUMNS];
    multiply_tile<T>(a, b, p.row, p.column, p.first, p.end, sum);
    out.store(p.row, p.column, sum);
}

// The bias's gradient, g summed over all pixels, is one more line of the product: a bias is the weight of a tap under
// which there is always 1. It goes to db; with several slices, as the last line to the stack, and db is None. Without
// a bias, `rows` are the taps. (Naive: column_sum of reduce.cu, which reads g once more.)
template <typename T>
__global__ void __launch_bounds__(128, BLOCKS<T>)
conv_weight_grad(In<T> x, In<T> g, In<T> bias, Out<T> dw, Out<T> db, i64 rows, i64 columns, i64 depth, i64 batches,
                 i64 slice, Ints<25> sizes) {
    Conv s = conv_of(sizes);
    Place p = place_of(rows, columns, depth, slice);
    i64 group = p.batch;
    Patches<T, true> a{x, s, group, rows};
    Matrix<T, false> b{g, group * s.f, columns, 1, s.F};
    Output<T> out{dw, bias, blockIdx.y * rows * s.F + group * s.f, s.F, 0, db ? taps_of(s) : rows, columns, false};
    Acc<T> sum[ROWS][COLUMNS];
    multiply_tile<T>(a, b, p.row, p.column, p.first, p.end, sum);
    out.store(p.row, p.column, sum);
    if (db) store_line<T>(db, group * s.f, taps_of(s), columns, p.row, p.column, sum);
}
