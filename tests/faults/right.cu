// Small right kernels that use every word of CUDA that the simulator has.
#include "tinynet.cuh"

template <typename T>
__global__ void scale(In<T> x, Out<T> y, T factor, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = factor * x[i];
}

template <typename T>
__global__ void row_sum(In<T> x, Out<T> y, i64 rows, i64 columns) {
    SHARED(T, partial, WARP);
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    T sum = 0;
    for (i64 c = threadIdx.x; c < columns; c += blockDim.x) sum += x[blockIdx.x * columns + c];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(ALL_LANES, sum, d);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int k = 1; k < blockDim.x / WARP; k++) sum += partial[k];
        y[blockIdx.x] = sum;
    }
}

template <typename T, int TILE>
__global__ void __launch_bounds__(TILE * TILE) gemm(In<T> a, In<T> b, Out<T> c, int m, int n, int k) {
    SHARED_2D(T, a_tile, TILE, TILE);
    SHARED_2D(T, b_tile, TILE, TILE + 1);
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    T sum = 0;
    for (int first = 0; first < k; first += TILE) {
        a_tile[y][x] = row < m && first + x < k ? a[i64(row) * k + first + x] : T(0);
        b_tile[y][x] = column < n && first + y < k ? b[i64(first + y) * n + column] : T(0);
        __syncthreads();
        for (int j = 0; j < TILE; j++) sum += a_tile[y][j] * b_tile[j][x];
        __syncthreads();
    }
    if (row < m && column < n) c[i64(row) * n + column] = sum;
}

// x (H, W, C), 3 x 3 patches without padding -> patches (H-2, W-2, 3, 3, C)
template <typename T>
__global__ void im2col(In<T> x, Out<T> patches, Ints<3> shape) {
    i64 h = shape[0] - 2, w = shape[1] - 2, c = shape[2];
    for (i64 i = thread_index(); i < h * w * 9 * c; i += thread_count()) {
        i64 channel = i % c, dx = i / c % 3, dy = i / c / 3 % 3, column = i / c / 9 % w, row = i / c / 9 / w;
        patches[i] = x[((row + dy) * shape[1] + column + dx) * c + channel];
    }
}

// Reverses within each block, through dynamic shared memory, four elements at a time.
__global__ void reverse(In<float> x, Out<float> y) {
    DYNAMIC_SHARED(float, row);
    int n = blockDim.x * 4;
    store(row, threadIdx.x * 4, load<4>(x, (blockIdx.x * blockDim.x + threadIdx.x) * 4));
    __syncthreads();
    Vec<float, 4> v;
    for (int k = 0; k < 4; k++) v[k] = row[n - 1 - (threadIdx.x * 4 + k)];
    store(y, (blockIdx.x * blockDim.x + threadIdx.x) * 4, v);
}

__global__ void histogram(In<int> x, InOut<int> bins, InOut<int> largest, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        atomicAdd(&bins[x[i]], 1);
        atomicMax(&largest[0], x[i]);
    }
}

__global__ void votes(In<int> x, Out<u32> ballots, Out<int> any, Out<int> all) {
    int vote = x[threadIdx.x], warp = threadIdx.x / WARP;
    u32 ballot = __ballot_sync(ALL_LANES, vote);
    int some = __any_sync(ALL_LANES, vote), every = __all_sync(ALL_LANES, vote);
    if (threadIdx.x % WARP == 0) {
        ballots[warp] = ballot;
        any[warp] = some;
        all[warp] = every;
    }
}

__global__ void shuffles(Out<int> sync, Out<int> up, Out<int> down, Out<int> exchange, int width) {
    int lane = threadIdx.x;
    sync[lane] = __shfl_sync(ALL_LANES, lane, 3, width);
    up[lane] = __shfl_up_sync(ALL_LANES, lane, 5, width);
    down[lane] = __shfl_down_sync(ALL_LANES, lane, 5, width);
    exchange[lane] = __shfl_xor_sync(ALL_LANES, lane, 1, width);
}

__global__ void high_products(In<u64> x, Out<u64> y, In<int> a, Out<int> b) {
    y[threadIdx.x] = __umul64hi(x[threadIdx.x], 0xd2e7470ee14c6c93ull);
    b[threadIdx.x] = __mulhi(a[threadIdx.x], -123456789);
}

template <typename Half>
__global__ void through(In<Half> x, Out<float> y) {    // half and bfloat16: store, load, round
    y[threadIdx.x] = float(Half(3.0f * float(x[threadIdx.x])));
}

__global__ void __launch_bounds__(128, 2) where_am_i(Out<int> y) {
    i64 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    i64 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = int(block * 1000 + thread);
}
