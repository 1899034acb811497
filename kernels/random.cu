// Counter-based random numbers and dropout.
//
// Philox4x64-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) is a
// function from a counter and a key to four 64-bit words, ten rounds of multiply and exchange: any number can be had
// from its place alone, by any thread, in any order. So a dropout mask is not stored: backward computes it
// again, and masks are the same on every backend and for every number of replicas.
//
// Here the key is (seed, stream), the counter (block, 0, step, 0); a sample of `size` values starts at block
// sample · ceil(size / 16), and a block gives 16 values of 16 bits, low bits first.
// Bound by memory for dropout (a block of ten rounds serves 16 elements).
// Launch: a thread a Philox block, that is, 16 elements.
#include "tinynet.cuh"

struct Words { u64 word[4]; };

__device__ inline Words philox(u64 c0, u64 c1, u64 c2, u64 c3, u64 k0, u64 k1) {
    for (int round = 0; round < 10; round++) {
        u64 high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
        u64 high1 = __umul64hi(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
        c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B97F4A7C15ull, k1 += 0xBB67AE8584CAA73Bull;      // the golden ratio, and √3 - 1
    }
    return {{c0, c1, c2, c3}};
}

__device__ __forceinline__ u32 bits_of(const Words& w, int k) { return u32(w.word[k / 4] >> (16 * (k % 4)) & 0xffff); }

// A captured graph repeats its arguments, so there the draws made since it was captured lie on the device, in `moved`.
__device__ __forceinline__ u64 moved_on(u64 step, const In<i64>& moved) { return moved ? step + u64(moved[0]) : step; }

// bits: (rows, size); `blocks` = ceil(size / 16) Philox blocks a row, the first row being sample `first`.
__global__ void random_bits(Out<u16> bits, u64 seed, u64 stream, u64 step, In<i64> moved, i64 first, i64 size, i64 blocks,
                            i64 n) {
    step = moved_on(step, moved);
    for (i64 b = thread_index(); b < n; b += thread_count()) {
        Words words = philox(u64(first * blocks + b), 0, step, 0, seed, stream);
        i64 row = b / blocks, start = b % blocks * 16;
#pragma unroll
        for (int k = 0; k < 16; k++)    // of fixed length, so that the words stay in registers
            if (start + k < size) bits[row * size + start + k] = u16(bits_of(words, k));
    }
}

// y = x · scale where the element's bits are at least `limit`, else 0. Backward is the same on g.
template <typename T>
__global__ void dropout(In<T> x, Out<T> y, u32 limit, T scale, u64 seed, u64 stream, u64 step, In<i64> moved, i64 first,
                        i64 size, i64 blocks, i64 n) {
    step = moved_on(step, moved);
    for (i64 b = thread_index(); b < n; b += thread_count()) {
        Words words = philox(u64(first * blocks + b), 0, step, 0, seed, stream);
        i64 row = b / blocks, start = b % blocks * 16;
#pragma unroll
        for (int k = 0; k < 16; k++) {
            if (start + k >= size) continue;
            i64 i = row * size + start + k;
            y[i] = bits_of(words, k) >= limit ? T(x[i]) * scale : T(0);
        }
    }
}
