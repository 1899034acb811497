// Normalisation: x̂ = (x - mean) / √(variance + eps), y = gamma · x̂ + beta, and both derivatives.
//
// x is (N, L, G, K); a statistic belongs to one (n, g) and is of L·K values; gamma and beta are (G, K). Batch
// normalisation has N = K = 1, layer normalisation L = G = 1, group normalisation all four.
// Bound by memory: x is read once for its statistics and once to be normalised, y is written once.
// References: B. P. Welford, "Note on a method for calculating corrected sums of squares and products" (1962); how two
// parts are merged: Chan, Golub & LeVeque (1979). No large mean is ever squared.
#include "tinynet.cuh"

// How many values there were, their mean, and the sum of their squared distances from it.
template <typename T> struct Moments {
    Sum<T> count = 0, mean = 0, squares = 0;
    __device__ void add(Sum<T> x) {
        count += 1;
        Sum<T> delta = x - mean;
        mean += delta / count;
        squares += delta * (x - mean);
    }
    __device__ void merge(Sum<T> n, Sum<T> m, Sum<T> s) {
        if (n == 0) return;
        Sum<T> total = count + n, delta = m - mean;
        mean += delta * n / total;
        squares += s + delta * delta * count * n / total;
        count = total;
    }
    // The mean, or where values are not centred 0, which leaves their mean square.
    __device__ Sum<T> var(bool centered) const { return squares / count + (centered ? Sum<T>(0) : mean * mean); }
};

struct Shape { i64 L, G, K; };
__device__ __forceinline__ Shape shape_of(const Ints<3>& s) { return {s[0], s[1], s[2]}; }
// Value j of the L·K that statistic s (of n and g) is made from, and the place of element i's statistic.
__device__ __forceinline__ i64 member(const Shape& d, i64 s, i64 j) {
    return ((s / d.G * d.L + j / d.K) * d.G + s % d.G) * d.K + j % d.K;
}
__device__ __forceinline__ i64 statistic(const Shape& d, i64 i) {
    return i / (d.L * d.G * d.K) * d.G + i / d.K % d.G;
}

// 1. Naive: a thread a statistic, Welford's method as it stands. Of a layer's rows, neighbouring threads read far apart.
// Launch: a thread a statistic.
template <typename T>
__global__ void moments_naive(In<T> x, Out<T> mean, Out<T> var, Ints<3> sizes, bool centered, i64 rows) {
    Shape d = shape_of(sizes);
    for (i64 s = thread_index(); s < rows; s += thread_count()) {
        Moments<T> m;
        for (i64 j = 0; j < d.L * d.K; j++) m.add(Acc<T>(x[member(d, s, j)]));
        if (mean) mean[s] = T(m.mean);
        var[s] = T(m.var(centered));
    }
}

// 2. In use for samples: a warp a statistic. Lane k takes values k, k + 32, …, and the lanes' moments meet in five
// exchanges, each of which merges two neighbours' (both lanes compute the same, in one order).
// Launch: a warp a statistic.
template <typename T>
__global__ void moments(In<T> x, Out<T> mean, Out<T> var, Ints<3> sizes, bool centered, i64 rows) {
    Shape d = shape_of(sizes);
    int lane = threadIdx.x % WARP;
    for (i64 s = thread_index() / WARP; s < rows; s += thread_count() / WARP) {
        Moments<T> m;
        for (i64 j = lane; j < d.L * d.K; j += WARP) m.add(Acc<T>(x[member(d, s, j)]));
        for (int step = WARP / 2; step > 0; step /= 2) {
            Sum<T> n = __shfl_down_sync(ALL_LANES, m.count, step), a = __shfl_down_sync(ALL_LANES, m.mean, step);
            m.merge(n, a, __shfl_down_sync(ALL_LANES, m.squares, step));
        }
        if (lane == 0) {
            if (mean) mean[s] = T(m.mean);
            var[s] = T(m.var(centered));
        }
    }
}

// 3. In use for batches, whose channels stand side by side: 32 columns across, 8 threads down each, a slice of the rows a
// block, as in column_sum. What a slice found is (count, mean, squares) in `part` (3, slices, columns).
// Launch: (columns / 32, slices) blocks of (32, 8) threads.
template <typename T>
__global__ void column_moments(In<T> x, Out<double> part, i64 rows, i64 columns, i64 slice) {
    SHARED_2D(Sum<T>, means, 8, 32);
    SHARED_2D(Sum<T>, squares, 8, 32);
    SHARED_2D(Sum<T>, counts, 8, 32);
    i64 c = i64(blockIdx.x) * 32 + threadIdx.x;
    i64 first = blockIdx.y * slice, last = first + slice < rows ? first + slice : rows;
    Moments<T> m;
    if (c < columns)
        for (i64 r = first + threadIdx.y; r < last; r += 8) m.add(Acc<T>(x[r * columns + c]));
    counts[threadIdx.y][threadIdx.x] = m.count;
    means[threadIdx.y][threadIdx.x] = m.mean;
    squares[threadIdx.y][threadIdx.x] = m.squares;
    __syncthreads();
    if (threadIdx.y == 0 && c < columns) {
        for (int k = 1; k < 8; k++) m.merge(counts[k][threadIdx.x], means[k][threadIdx.x], squares[k][threadIdx.x]);
        i64 all = gridDim.y * columns, i = blockIdx.y * columns + c;
        part[i] = m.count;
        part[all + i] = m.mean;
        part[2 * all + i] = m.squares;
    }
}

// The slices' moments become one. Launch: a thread a column.
template <typename T>
__global__ void merge_moments(In<double> part, Out<T> mean, Out<T> var, i64 slices, i64 n) {
    for (i64 c = thread_index(); c < n; c += thread_count()) {
        Moments<T> m;
        for (i64 k = 0; k < slices; k++)
            m.merge(part[k * n + c], part[(slices + k) * n + c], part[(2 * slices + k) * n + c]);
        mean[c] = T(m.mean);
        var[c] = T(m.var(true));
    }
}

template <typename T> __device__ __forceinline__ Acc<T> root_of(In<T> var, i64 s, T eps) {
    return Acc<T>(1) / sqrt(Acc<T>(var[s]) + Acc<T>(eps));
}

// y = (x - mean) / √(var + eps) · gamma + beta; mean, gamma and beta may be left out. Then relu, which lets NaN through.
// Launch: a thread an element.
template <typename T>
__global__ void normalize(In<T> x, In<T> mean, In<T> var, In<T> gamma, In<T> beta, Out<T> y, Ints<3> sizes, T eps,
                          bool relu, i64 n) {
    Shape d = shape_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 s = statistic(d, i), c = i % (d.G * d.K);
        Acc<T> value = (Acc<T>(x[i]) - (mean ? Acc<T>(mean[s]) : Acc<T>(0))) * root_of<T>(var, s, eps);
        if (gamma) value *= Acc<T>(gamma[c]);
        if (beta) value += Acc<T>(beta[c]);
        if (relu && value < Acc<T>(0)) value = 0;
        y[i] = T(value);
    }
}

// g_mean and gx_mean: the means of gamma · g and of gamma · g · x̂ over each statistic's values. Launch: a warp each.
template <typename T>
__global__ void normalize_means(In<T> g, In<T> x, In<T> mean, In<T> var, In<T> gamma, Out<T> g_mean, Out<T> gx_mean,
                                Ints<3> sizes, T eps, i64 rows) {
    Shape d = shape_of(sizes);
    int lane = threadIdx.x % WARP;
    for (i64 s = thread_index() / WARP; s < rows; s += thread_count() / WARP) {
        Acc<T> centre = mean ? Acc<T>(mean[s]) : Acc<T>(0), root = root_of<T>(var, s, eps);
        Sum<T> sum = 0, along = 0;
        for (i64 j = lane; j < d.L * d.K; j += WARP) {
            i64 i = member(d, s, j);
            Acc<T> slope = Acc<T>(g[i]) * (gamma ? Acc<T>(gamma[i % (d.G * d.K)]) : Acc<T>(1));
            sum += slope;
            along += slope * (Acc<T>(x[i]) - centre) * root;
        }
        sum = warp_sum(sum);
        along = warp_sum(along);
        if (lane == 0) {
            g_mean[s] = T(sum / (d.L * d.K));
            gx_mean[s] = T(along / (d.L * d.K));
        }
    }
}

// dx = (gamma · g - g_mean - x̂ · gx_mean) / √(var + eps). Launch: a thread an element.
template <typename T>
__global__ void normalize_grad(In<T> g, In<T> x, In<T> mean, In<T> var, In<T> gamma, In<T> g_mean, In<T> gx_mean,
                               Out<T> dx, Ints<3> sizes, T eps, i64 n) {
    Shape d = shape_of(sizes);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 s = statistic(d, i);
        Acc<T> root = root_of<T>(var, s, eps), slope = Acc<T>(g[i]) * (gamma ? Acc<T>(gamma[i % (d.G * d.K)]) : Acc<T>(1));
        Acc<T> along = (Acc<T>(x[i]) - (mean ? Acc<T>(mean[s]) : Acc<T>(0))) * root;
        dx[i] = T((slope - (mean ? Acc<T>(g_mean[s]) : Acc<T>(0)) - along * Acc<T>(gx_mean[s])) * root);
    }
}

// dgamma = Σ g x̂ and dbeta = Σ g over N and L, that is down the columns of g (rows, G·K): in slices, as above. `part` is
// (2, slices, columns); where there are several slices a sum over them follows.
// Launch: (columns / 32, slices) blocks of (32, 8) threads.
template <typename T>
__global__ void normalize_scale_grad(In<T> g, In<T> x, In<T> mean, In<T> var, Out<T> part, Ints<3> sizes, T eps,
                                     i64 rows, i64 columns, i64 slice) {
    SHARED_2D(Sum<T>, sums, 8, 32);
    SHARED_2D(Sum<T>, alongs, 8, 32);
    Shape d = shape_of(sizes);
    i64 c = i64(blockIdx.x) * 32 + threadIdx.x;
    i64 first = blockIdx.y * slice, last = first + slice < rows ? first + slice : rows;
    Sum<T> sum = 0, along = 0;
    if (c < columns)
        for (i64 r = first + threadIdx.y; r < last; r += 8) {
            i64 i = r * columns + c, s = statistic(d, i);
            Acc<T> centre = mean ? Acc<T>(mean[s]) : Acc<T>(0), slope = Acc<T>(g[i]);
            sum += slope;
            along += slope * (Acc<T>(x[i]) - centre) * root_of<T>(var, s, eps);
        }
    sums[threadIdx.y][threadIdx.x] = sum;
    alongs[threadIdx.y][threadIdx.x] = along;
    __syncthreads();
    if (threadIdx.y == 0 && c < columns) {
        for (int k = 1; k < 8; k++) {
            sum += sums[k][threadIdx.x];
            along += alongs[k][threadIdx.x];
        }
        i64 i = blockIdx.y * columns + c;
        part[i] = T(along);
        part[gridDim.y * columns + i] = T(sum);
    }
}
