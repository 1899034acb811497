// Pooling, channels last: a window's maximum or mean, and the way back.
//
// Bound by memory: x is read once (overlapping windows hit the cache), y written once. Channels are
// innermost, so neighbouring threads, which have neighbouring channels, read neighbouring addresses.
// Backward is in gather form: each pixel looks for the windows that hold it and adds what they send, in a
// fixed order, so no atomics are needed and results repeat bit for bit.
// Launch: a thread an element of the result, grid-stride.
#include "tinynet.cuh"

// Sizes of one pooling, passed by value: image (H, W), channels, output, kernel, stride, top and left padding.
struct Pool { i64 H, W, C, OH, OW, KH, KW, SH, SW, top, left; };
__device__ __forceinline__ Pool pool_of(const Ints<11>& s) {
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]};
}

// y = the window's maximum, winner = its place in the window, u · KW + v. Pixels of the padding take no part;
// the first of equals wins; a NaN wins over all, the first of them. After a relu (`positive`) a window whose maximum is
// not above 0 has no winner, -1: then nothing comes back through it, and relu's own derivative need not be taken.
template <typename T>
__global__ void max_pool(In<T> x, Out<T> y, Out<i32> winner, Ints<11> sizes, bool positive, i64 n) {
    Pool p = pool_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 c = i % p.C, ow = i / p.C % p.OW, oh = i / p.C / p.OW % p.OH, image = i / p.C / p.OW / p.OH;
        T best = 0;
        i32 where = -1;
        for (i64 u = 0; u < p.KH; u++)
            for (i64 v = 0; v < p.KW; v++) {
                i64 h = oh * p.SH + u - p.top, w = ow * p.SW + v - p.left;
                if (h < 0 || h >= p.H || w < 0 || w >= p.W) continue;
                T value = x[((image * p.H + h) * p.W + w) * p.C + c];
                if (where < 0 || value > best || (value != value && best == best)) best = value, where = i32(u * p.KW + v);
            }
        y[i] = best;
        winner[i] = positive && !(best > T(0)) ? -1 : where;
    }
}

// The windows that hold row h are oh with oh·S ≤ h + top < oh·S + K: from `first` on, K / S of them.
__device__ __forceinline__ i64 first_window(i64 h, i64 top, i64 K, i64 S) {
    i64 from = h + top - K;      // windows that start at or before this end too early
    return from < 0 ? 0 : from / S + 1;
}

template <typename T>
__global__ void max_pool_grad(In<T> g, In<i32> winner, Out<T> dx, Ints<11> sizes, i64 n) {
    Pool p = pool_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 c = i % p.C, w = i / p.C % p.W, h = i / p.C / p.W % p.H, image = i / p.C / p.W / p.H;
        Sum<T> sum = 0;
        for (i64 oh = first_window(h, p.top, p.KH, p.SH); oh < p.OH && oh * p.SH <= h + p.top; oh++)
            for (i64 ow = first_window(w, p.left, p.KW, p.SW); ow < p.OW && ow * p.SW <= w + p.left; ow++) {
                i64 o = ((image * p.OH + oh) * p.OW + ow) * p.C + c;
                if (winner[o] == (h + p.top - oh * p.SH) * p.KW + (w + p.left - ow * p.SW)) sum += Acc<T>(g[o]);
            }
        dx[i] = T(sum);
    }
}

// How many pixels window (oh, ow) divides by: all of them, or those inside the image.
__device__ __forceinline__ i64 divisor(const Pool& p, i64 oh, i64 ow, bool count_padding) {
    if (count_padding) return p.KH * p.KW;
    i64 h0 = oh * p.SH - p.top, w0 = ow * p.SW - p.left;
    i64 h1 = h0 + p.KH < p.H ? h0 + p.KH : p.H, w1 = w0 + p.KW < p.W ? w0 + p.KW : p.W;
    return (h1 - (h0 > 0 ? h0 : 0)) * (w1 - (w0 > 0 ? w0 : 0));
}

template <typename T>
__global__ void avg_pool(In<T> x, Out<T> y, Ints<11> sizes, bool count_padding, i64 n) {
    Pool p = pool_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 c = i % p.C, ow = i / p.C % p.OW, oh = i / p.C / p.OW % p.OH, image = i / p.C / p.OW / p.OH;
        Sum<T> sum = 0;
        for (i64 u = 0; u < p.KH; u++)
            for (i64 v = 0; v < p.KW; v++) {
                i64 h = oh * p.SH + u - p.top, w = ow * p.SW + v - p.left;
                if (h >= 0 && h < p.H && w >= 0 && w < p.W)
                    sum += Acc<T>(x[((image * p.H + h) * p.W + w) * p.C + c]);
            }
        y[i] = T(Acc<T>(sum) / Acc<T>(divisor(p, oh, ow, count_padding)));
    }
}

template <typename T>
__global__ void avg_pool_grad(In<T> g, Out<T> dx, Ints<11> sizes, bool count_padding, i64 n) {
    Pool p = pool_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 c = i % p.C, w = i / p.C % p.W, h = i / p.C / p.W % p.H, image = i / p.C / p.W / p.H;
        Sum<T> sum = 0;
        for (i64 oh = first_window(h, p.top, p.KH, p.SH); oh < p.OH && oh * p.SH <= h + p.top; oh++)
            for (i64 ow = first_window(w, p.left, p.KW, p.SW); ow < p.OW && ow * p.SW <= w + p.left; ow++)
                sum += Acc<T>(g[((image * p.OH + oh) * p.OW + ow) * p.C + c]) / Acc<T>(divisor(p, oh, ow, count_padding));
        dx[i] = T(sum);
    }
}
