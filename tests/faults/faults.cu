// One fault each, beside its right twin. The comment FAULT marks the line that the simulator must name.
#include "tinynet.cuh"

__global__ void missing_barrier(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    turn[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = turn[63 - threadIdx.x];    // FAULT
}
__global__ void missing_barrier_right(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    turn[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = turn[63 - threadIdx.x];
}

// The second round overwrites what slower threads of the first still read.
__global__ void missing_second_barrier(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    for (int round = 0; round < 2; round++) {
        turn[threadIdx.x] = x[threadIdx.x] + round;    // FAULT or the other
        __syncthreads();
        y[threadIdx.x] = turn[63 - threadIdx.x];    // FAULT or the other
    }
}
__global__ void missing_second_barrier_right(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    for (int round = 0; round < 2; round++) {
        turn[threadIdx.x] = x[threadIdx.x] + round;
        __syncthreads();
        y[threadIdx.x] = turn[63 - threadIdx.x];
        __syncthreads();
    }
}

// Raw CUDA is not watched; that the result depends on the order of the threads still shows.
__global__ void missing_barrier_raw(const float* x, Out<float> y) {
    __shared__ float turn[64];
    turn[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = turn[63 - threadIdx.x];    // FAULT
}
__global__ void missing_barrier_raw_right(const float* x, Out<float> y) {
    __shared__ float turn[64];
    turn[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = turn[63 - threadIdx.x];
}

__global__ void divergent_barrier(In<float> x, Out<float> y) {
    if (threadIdx.x < 40) {
        y[threadIdx.x] = x[threadIdx.x];
        __syncthreads();    // FAULT or the other
    } else {
        y[threadIdx.x] = 0;
        __syncthreads();    // FAULT or the other
    }
}
__global__ void divergent_barrier_right(In<float> x, Out<float> y) {
    if (threadIdx.x < 40)
        y[threadIdx.x] = x[threadIdx.x];
    else
        y[threadIdx.x] = 0;
    __syncthreads();
}

__global__ void barrier_for_some(In<float> x, Out<float> y) {
    y[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < 40) __syncthreads();    // FAULT
}
__global__ void barrier_for_some_right(In<float> x, Out<float> y) {
    y[threadIdx.x] = x[threadIdx.x];
    if (blockDim.x > 40) __syncthreads();    // the same for all threads of the block
}

__global__ void return_before_barrier(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    int i = threadIdx.x;
    if (i >= 50) return;
    turn[i] = x[i];
    __syncthreads();    // FAULT
    y[i] = turn[49 - i];
}
__global__ void return_before_barrier_right(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    int i = threadIdx.x;
    if (i < 50) turn[i] = x[i];
    __syncthreads();
    if (i < 50) y[i] = turn[49 - i];
}

__global__ void shuffle_with_absent_lanes(In<float> x, Out<float> y) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_down_sync(ALL_LANES, value, 8);    // FAULT
    y[threadIdx.x] = value;
}
__global__ void shuffle_with_absent_lanes_right(In<float> x, Out<float> y) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_down_sync(0x0000ffffu, value, 8, 16);
    y[threadIdx.x] = value;
}

__global__ void shuffle_from_outside_its_mask(In<float> x, Out<float> y) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_down_sync(0x0000ffffu, value, 8);    // FAULT
    y[threadIdx.x] = value;
}
__global__ void shuffle_from_outside_its_mask_right(In<float> x, Out<float> y) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_xor_sync(0x0000ffffu, value, 8);
    y[threadIdx.x] = value;
}

__global__ void vote_without_oneself(In<float> x, Out<float> y) {
    y[threadIdx.x] = __any_sync(0xfffffffeu, x[threadIdx.x] > 1);    // FAULT
}
__global__ void vote_without_oneself_right(In<float> x, Out<float> y) {
    y[threadIdx.x] = __any_sync(ALL_LANES, x[threadIdx.x] > 1);
}

__global__ void reads_past_the_end(In<float> x, Out<float> y) {
    y[threadIdx.x] = x[threadIdx.x + 1];    // FAULT
}
__global__ void reads_past_the_end_right(In<float> x, Out<float> y) {
    y[threadIdx.x] = threadIdx.x + 1 < 64 ? x[threadIdx.x + 1] : 0.0f;
}

__global__ void writes_before_the_start(In<float> x, Out<float> y) {
    Out<float> shifted = y - 1;
    shifted[threadIdx.x] = x[threadIdx.x];    // FAULT
}
__global__ void writes_before_the_start_right(In<float> x, Out<float> y) {
    Out<float> shifted = y - 1;
    shifted[threadIdx.x + 1] = x[threadIdx.x];
}

__global__ void outside_of_shared(In<float> x, Out<float> y) {
    SHARED(float, row, 63);
    row[threadIdx.x] = x[threadIdx.x];    // FAULT
    y[threadIdx.x] = row[threadIdx.x];
}
__global__ void outside_of_shared_right(In<float> x, Out<float> y) {
    SHARED(float, row, 64);
    row[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = row[threadIdx.x];
}

// Memory [0][8] is that of [1][0]: no fault in flat memory, but a wrong index all the same.
__global__ void outside_of_shared_row(In<float> x, Out<float> y) {
    SHARED_2D(float, tile, 8, 8);
    int row = threadIdx.x / 8, column = threadIdx.x % 8;
    tile[row][column + 1] = x[threadIdx.x];    // FAULT
    y[threadIdx.x] = tile[row][column + 1];
}
__global__ void outside_of_shared_row_right(In<float> x, Out<float> y) {
    SHARED_2D(float, tile, 8, 9);
    int row = threadIdx.x / 8, column = threadIdx.x % 8;
    tile[row][column + 1] = x[threadIdx.x];
    y[threadIdx.x] = tile[row][column + 1];
}

__global__ void outside_of_dynamic_shared(In<float> x, Out<float> y) {
    DYNAMIC_SHARED(double, row);    // half as many doubles as floats in the bytes of the launch
    row[threadIdx.x] = x[threadIdx.x];    // FAULT
    y[threadIdx.x] = float(row[threadIdx.x]);
}
__global__ void outside_of_dynamic_shared_right(In<float> x, Out<float> y) {
    DYNAMIC_SHARED(float, row);
    row[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = row[threadIdx.x];
}

__global__ void shared_never_written(In<float> x, Out<float> y) {
    SHARED(float, row, 64);
    if (threadIdx.x != 7) row[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = row[63 - threadIdx.x];    // FAULT
}
__global__ void shared_never_written_right(In<float> x, Out<float> y) {
    SHARED(float, row, 64);
    row[threadIdx.x] = threadIdx.x != 7 ? x[threadIdx.x] : 0.0f;
    __syncthreads();
    y[threadIdx.x] = row[63 - threadIdx.x];
}

// What a block leaves in shared memory is not there for the next one.
__global__ void shared_from_the_last_block(In<float> x, Out<float> y) {
    SHARED(float, row, 32);
    if (blockIdx.x == 0) row[threadIdx.x] = x[threadIdx.x];
    y[thread_index()] = row[threadIdx.x];    // FAULT
}
__global__ void shared_from_the_last_block_right(In<float> x, Out<float> y) {
    SHARED(float, row, 32);
    row[threadIdx.x] = x[threadIdx.x];
    y[thread_index()] = row[threadIdx.x];
}

__global__ void output_read_before_written(In<float> x, Out<float> y) {
    y[threadIdx.x] += x[threadIdx.x];    // FAULT
}
__global__ void output_read_before_written_right(In<float> x, InOut<float> y) {
    y[threadIdx.x] += x[threadIdx.x];
}

__global__ void sum_without_atomic(In<float> x, InOut<float> y) {
    y[threadIdx.x / 2] += x[threadIdx.x];    // FAULT
}
__global__ void sum_without_atomic_right(In<float> x, InOut<float> y) {
    y[threadIdx.x] += x[threadIdx.x];
}

__global__ void same_write_by_two_blocks(In<float> x, Out<float> y) {
    y[threadIdx.x] = x[threadIdx.x];    // FAULT
}
__global__ void same_write_by_two_blocks_right(In<float> x, Out<float> y) {
    y[thread_index()] = x[thread_index()];
}

__global__ void reads_what_another_block_writes(In<float> x, Out<float> y) {
    y[thread_index()] = x[thread_index()];
    __syncthreads();                           // orders the threads of one block only
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) y[31] = y[0];    // FAULT or not yet written
}
__global__ void reads_what_another_block_writes_right(In<float> x, Out<float> y) {
    y[thread_index()] = x[thread_index()];
    __syncthreads();
    if (threadIdx.x == 0) y[thread_index()] = y[thread_index() + 31];
}

__global__ void plain_write_beside_atomic(In<int> x, InOut<int> y) {
    atomicAdd(&y[0], x[threadIdx.x]);       // FAULT or the other
    if (threadIdx.x == 5) y[0] = 0;         // FAULT or the other
}
__global__ void plain_write_beside_atomic_right(In<int> x, InOut<int> y) {
    if (threadIdx.x == 5) y[0] = 0;
    __syncthreads();
    atomicAdd(&y[0], x[threadIdx.x]);
}

__global__ void order_of_float_atomics(In<float> x, InOut<float> y) {
    atomicAdd(&y[0], x[threadIdx.x]);       // FAULT
}
__global__ void order_of_float_atomics_right(In<float> x, InOut<float> y) {
    float sum = warp_sum(float(x[threadIdx.x]));
    if (threadIdx.x == 0) y[0] += sum;
}

// Since Volta the lanes of a warp are not in step: without __syncwarp this is a race.
__global__ void missing_syncwarp(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    int lane = threadIdx.x % WARP, first = threadIdx.x - lane;
    turn[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = turn[first + 31 - lane];    // FAULT
}
__global__ void missing_syncwarp_right(In<float> x, Out<float> y) {
    SHARED(float, turn, 64);
    int lane = threadIdx.x % WARP, first = threadIdx.x - lane;
    turn[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = turn[first + 31 - lane];
}

__global__ void misaligned_vector(In<float> x, Out<float> y) {
    if (threadIdx.x < 15) store(y, threadIdx.x * 4, load<4>(x, threadIdx.x * 4 + 1));    // FAULT
}
__global__ void misaligned_vector_right(In<float> x, Out<float> y) {
    if (threadIdx.x < 16) store(y, threadIdx.x * 4, load<4>(x, threadIdx.x * 4));
}

__global__ void waits_for_ever(In<float> x, InOut<int> y) {
    while (atomicCAS(&y[0], 1, 0) != 1) {}    // FAULT
    y[1] = x[0] > 0;
}
__global__ void waits_for_ever_right(In<float> x, InOut<int> y) {
    if (threadIdx.x == 0) {
        y[0] = 1;
        while (atomicCAS(&y[0], 1, 0) != 1) {}
    }
}

__global__ void divides_by_zero(In<int> x, Out<int> y) {
    y[threadIdx.x] = 64 / x[threadIdx.x];    // FAULT, on the host: a GPU gives some number
}
__global__ void divides_by_zero_right(In<int> x, Out<int> y) {
    y[threadIdx.x] = x[threadIdx.x] ? 64 / x[threadIdx.x] : 0;
}

__global__ void follows_a_wild_pointer(In<i64> x, Out<i64> y) {
    const i64* pointer = reinterpret_cast<const i64*>(x[threadIdx.x]);    // FAULT or the other
    y[threadIdx.x] = *pointer;    // FAULT or the other
}
__global__ void follows_a_wild_pointer_right(In<i64> x, Out<i64> y) {
    const i64* pointer = reinterpret_cast<const i64*>(x[threadIdx.x]);
    y[threadIdx.x] = pointer == nullptr;
}

__device__ float deep(float value, int depth) {
    volatile float local[256];
    for (int k = 0; k < 256; k++) local[k] = value + k;
    return depth ? deep(local[depth % 256], depth - 1) + local[3] : value;
}
__global__ void fills_its_stack(In<float> x, Out<float> y) {
    y[threadIdx.x] = deep(x[threadIdx.x], 1000);    // FAULT
}
__global__ void fills_its_stack_right(In<float> x, Out<float> y) {
    y[threadIdx.x] = deep(x[threadIdx.x], 10);
}

__global__ void too_much_shared(In<float> x, Out<float> y) {
    SHARED(double, row, 6145);    // FAULT
    row[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = float(row[threadIdx.x]);
}
__global__ void too_much_shared_right(In<float> x, Out<float> y) {
    SHARED(double, row, 6144);
    row[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = float(row[threadIdx.x]);
}

__global__ void missing_array(In<float> x, Out<float> y, In<float> bias) {
    y[threadIdx.x] = x[threadIdx.x] + bias[0];    // FAULT
}
__global__ void missing_array_right(In<float> x, Out<float> y, In<float> bias) {
    y[threadIdx.x] = x[threadIdx.x] + (bias ? bias[0] : 0.0f);
}
