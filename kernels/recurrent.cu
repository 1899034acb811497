// Cells of recurrent networks, one time step: a thread a hidden unit of a sample, which reads its own gates.
//
// Gates stand side by side: row i of z holds 4 H (or 3 H) values. Bound by memory: each value is read and written once.
// References: Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997); Cho et al. (2014), r after the product.
#include "tinynet.cuh"

template <typename T> __device__ __forceinline__ T logistic(T x) { return T(1) / (T(1) + exp(-x)); }

// c' = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c').
// Launch: a thread an element of c.
template <typename T>
__global__ void lstm_cell(In<T> z, In<T> c, Out<T> h, Out<T> next, Out<T> gates, Out<T> tanh_c, i64 width, i64 n) {
    for (i64 e = thread_index(); e < n; e += thread_count()) {
        i64 at = e / width * 4 * width + e % width;
        Acc<T> i = logistic(Acc<T>(z[at])), f = logistic(Acc<T>(z[at + width]));
        Acc<T> g = tanh(Acc<T>(z[at + 2 * width])), o = logistic(Acc<T>(z[at + 3 * width]));
        Acc<T> cell = f * Acc<T>(c[e]) + i * g, t = tanh(cell);
        gates[at] = T(i); gates[at + width] = T(f); gates[at + 2 * width] = T(g); gates[at + 3 * width] = T(o);
        next[e] = T(cell); tanh_c[e] = T(t); h[e] = T(o * t);
    }
}

// What dz is of dc and dh after the step, and dc of dh. Launch: a thread an element of c.
template <typename T>
__global__ void lstm_slopes(In<T> gates, In<T> c, In<T> tanh_c, Out<T> slopes, i64 width, i64 n) {
    for (i64 e = thread_index(); e < n; e += thread_count()) {
        i64 at = e / width * 4 * width + e % width, to = e / width * 5 * width + e % width;
        Acc<T> i = gates[at], f = gates[at + width], g = gates[at + 2 * width], o = gates[at + 3 * width];
        Acc<T> t = tanh_c[e];
        slopes[to] = T(g * i * (1 - i));
        slopes[to + width] = T(Acc<T>(c[e]) * f * (1 - f));
        slopes[to + 2 * width] = T(i * (1 - g * g));
        slopes[to + 3 * width] = T(t * o * (1 - o));
        slopes[to + 4 * width] = T(o * (1 - t * t));
    }
}

// Launch: a thread an element of dc.
template <typename T>
__global__ void lstm_cell_grad(In<T> dh, In<T> dc, In<T> gates, In<T> slopes, Out<T> dz, Out<T> before, i64 width,
                               i64 n) {
    for (i64 e = thread_index(); e < n; e += thread_count()) {
        i64 at = e / width * 4 * width + e % width, from = e / width * 5 * width + e % width;
        Acc<T> h = dh[e], d = Acc<T>(dc[e]) + h * Acc<T>(slopes[from + 4 * width]);
        for (i64 gate = 0; gate < 4; ++gate)
            dz[at + gate * width] = T((gate < 3 ? d : h) * Acc<T>(slopes[from + gate * width]));
        before[e] = T(d * Acc<T>(gates[at + width]));
    }
}

// r, z = sigmoid(zx + zh), n = tanh(zx + r zh), h' = n + z (h - n).
// Launch: a thread an element of h.
template <typename T>
__global__ void gru_cell(In<T> zx, In<T> zh, In<T> h, Out<T> next, Out<T> gates, i64 width, i64 count) {
    for (i64 e = thread_index(); e < count; e += thread_count()) {
        i64 at = e / width * 3 * width + e % width, third = at + 2 * width;
        Acc<T> r = logistic(Acc<T>(zx[at]) + Acc<T>(zh[at]));
        Acc<T> z = logistic(Acc<T>(zx[at + width]) + Acc<T>(zh[at + width]));
        Acc<T> n = tanh(Acc<T>(zx[third]) + r * Acc<T>(zh[third]));
        gates[at] = T(r); gates[at + width] = T(z); gates[third] = T(n);
        next[e] = T(n + z * (Acc<T>(h[e]) - n));
    }
}

// Launch: a thread an element of h.
template <typename T>
__global__ void gru_cell_grad(In<T> dh, In<T> gates, In<T> zh, In<T> h, Out<T> dzx, Out<T> dzh, Out<T> before,
                              i64 width, i64 count) {
    for (i64 e = thread_index(); e < count; e += thread_count()) {
        i64 at = e / width * 3 * width + e % width, third = at + 2 * width;
        Acc<T> r = gates[at], z = gates[at + width], n = gates[third], d = dh[e];
        Acc<T> dn = d * (1 - z) * (1 - n * n), dz = d * (Acc<T>(h[e]) - n) * z * (1 - z);
        Acc<T> dr = dn * Acc<T>(zh[third]) * r * (1 - r);
        dzx[at] = T(dr); dzx[at + width] = T(dz); dzx[third] = T(dn);
        dzh[at] = T(dr); dzh[at + width] = T(dz); dzh[third] = T(dn * r);
        before[e] = T(d * z);
    }
}
