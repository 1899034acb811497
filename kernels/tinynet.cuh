// The words that every kernel of this folder shares. On CUDA they are plain pointers, arrays and
// instructions; in the simulator (a host compiler reads this file) the same words are checked.
#ifndef TINYNET_CUH
#define TINYNET_CUH

using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

#ifdef __CUDACC__

#ifdef TINYNET_HALF           // the launcher sets it where a kernel is used with half or bfloat16
#include <cuda_bf16.h>
#include <cuda_fp16.h>
using bfloat16 = __nv_bfloat16;
#endif

// What a kernel does with an array: reads it, fills it, or updates it.
template <typename T> using In = const T* __restrict__;
template <typename T> using Out = T* __restrict__;
template <typename T> using InOut = T* __restrict__;

// Memory that the threads of a block share: SHARED(float, row, 32) declares float row[32]. It begins at a
// multiple of 16 bytes, so that `load` can read it in vectors.
#define SHARED(T, name, n) __shared__ __align__(16) T name[n]
#define SHARED_2D(T, name, rows, cols) __shared__ __align__(16) T name[rows][cols]
#define DYNAMIC_SHARED(T, name)                                           \
    extern __shared__ __align__(16) unsigned char tinynet_dynamic_shared[]; \
    T* const name = reinterpret_cast<T*>(tinynet_dynamic_shared)
template <typename T> using Shared = T*;    // a shared array as the parameter of a __device__ function

#else
#include "simulator.h"
#endif

// A few 64-bit integers passed by value, for shapes and strides: a Python sequence at the launch.
template <int N> struct Ints {
    i64 value[N];
    __device__ i64 operator[](int k) const { return value[k]; }
};

// Sums are kept in `Acc<T>`: half types add up in float, float and double in themselves.
template <typename T> struct Accumulator { using type = T; };
#if !defined(__CUDACC__) || defined(TINYNET_HALF)
template <> struct Accumulator<half> { using type = float; };
template <> struct Accumulator<bfloat16> { using type = float; };
#endif
template <typename T> using Acc = typename Accumulator<T>::type;

// N neighbouring elements moved by one instruction; `i` must be a multiple of N.
template <typename T, int N> struct alignas(sizeof(T) * N) Vec {
    T value[N];
    __device__ T& operator[](int k) { return value[k]; }
    __device__ const T& operator[](int k) const { return value[k]; }
};
#ifdef __CUDACC__
template <int N, typename T> __device__ __forceinline__ Vec<T, N> load(const T* x, i64 i) {
    return *reinterpret_cast<const Vec<T, N>*>(x + i);
}
template <int N, typename T> __device__ __forceinline__ void store(T* y, i64 i, const Vec<T, N>& v) {
    *reinterpret_cast<Vec<T, N>*>(y + i) = v;
}
#endif

// A grid-stride loop, for (i64 i = thread_index(); i < n; i += thread_count()), is right for every
// launch shape, and neighbouring threads touch neighbouring elements.
__device__ __forceinline__ i64 thread_index() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 thread_count() { return i64(gridDim.x) * blockDim.x; }

// Where element i of the result finds its operand: i counts through `shape` in C order, and the operand
// lies at offset + Σ k_d · strides_d. A broadcast axis has stride 0; a transposed or reversed view simply
// has its own strides.
//
// The loop has a fixed length and is unrolled: arguments have no addresses that an index could be added to at run
// time, so an index that is not a constant would copy each of these arrays to the thread's local memory first.
__device__ __forceinline__ i64 place(i64 i, const Ints<8>& shape, i64 offset, const Ints<8>& strides, i32 axes) {
#pragma unroll
    for (int d = 7; d >= 0; d--)
        if (d < axes) {
            offset += i % shape[d] * strides[d];
            i /= shape[d];
        }
    return offset;
}

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Every lane gets the sum (maximum) over its warp, added in a fixed order; all 32 lanes must call.
template <typename T> __device__ __forceinline__ T warp_sum(T value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}
template <typename T> __device__ __forceinline__ T warp_max(T value) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        T other = __shfl_xor_sync(ALL_LANES, value, step);
        value = other > value ? other : value;
    }
    return value;
}

#endif
