// Elementwise functions: y[i] = f(x[i]), z[i] = f(x[i], y[i]), and a choice between two.
//
// Bound by memory: f costs a few instructions, its operands 4 or 8 bytes each, so the floor is the bytes
// read and written over the bandwidth. Hence one pass for a derivative times its gradient, and no
// temporary for broadcasting: operands are read through their strides, of which some are 0.
//
// One template serves every function: f is a struct with `apply`, given as the template argument Op. Half types
// are computed in float.
// Launch: a thread an element, grid-stride.
#include "tinynet.cuh"

// ---- functions of one value; a and b are its numbers (a slope, two limits) -----------------------------

template <typename T> __device__ T absolute(T x) { return fabs(x); }
__device__ __forceinline__ i64 absolute(i64 x) { return x < 0 ? i64(-u64(x)) : x; }

// Of mish, x·tanh(log(1 + e)) with e = e^x, the tanh: n / (n + 2) with n = e (e + 2). It is 1 from x = 20 on.
template <typename T> __device__ T mish_e(T x) { return exp(x < T(20) ? x : T(20)); }
template <typename T> __device__ T mish_tanh(T e) { return e * (e + T(2)) / (e * (e + T(2)) + T(2)); }
template <typename T> __device__ T mish_slope(T x, T e) {
    T n = e * (e + T(2)) + T(2);
    return mish_tanh(e) + x * T(4) * e * (T(1) + e) / (n * n);
}

#define UNARY(Name, expression)                                            \
    struct Name {                                                          \
        template <typename T> __device__ static T apply(T x, T a, T b) {   \
            (void)a, (void)b;                                              \
            return expression;                                             \
        }                                                                  \
    };

UNARY(Negative, -x)
UNARY(Exp, exp(x))
UNARY(Log, log(x))
UNARY(Sqrt, sqrt(x))
UNARY(Abs, absolute(x))
UNARY(Sign, x > T(0) ? T(1) : x < T(0) ? T(-1) : x)                        // x itself: 0, and NaN
UNARY(Tanh, tanh(x))
UNARY(Sigmoid, T(1) / (T(1) + exp(-x)))                                    // e^-x may overflow: 1 / inf is 0
UNARY(Relu, x < T(0) ? T(0) : x)                                           // NaN < 0 is false: NaN stays
UNARY(LeakyRelu, x > T(0) ? x : a * x)
UNARY(Gelu, x * T(0.5) * erfc(-x * T(0.70710678118654752440)))             // x·Φ(x)
UNARY(Softplus, (x > T(0) ? x : T(0)) + log1p(exp(-fabs(x))))
UNARY(Exp2, exp2(x))
UNARY(Expm1, expm1(x))
UNARY(Log2, log2(x))
UNARY(Log10, log10(x))
UNARY(Log1p, log1p(x))
UNARY(Cbrt, cbrt(x))
UNARY(Sin, sin(x))
UNARY(Cos, cos(x))
UNARY(Tan, tan(x))
UNARY(Arcsin, asin(x))
UNARY(Arccos, acos(x))
UNARY(Arctan, atan(x))
UNARY(Sinh, sinh(x))
UNARY(Cosh, cosh(x))
UNARY(Floor, floor(x))
UNARY(Ceil, ceil(x))
UNARY(Trunc, trunc(x))
UNARY(Round, rint(x))                                                      // of two, the even one
UNARY(Erf, erf(x))
UNARY(Mish, x * mish_tanh(mish_e(x)))
UNARY(Clip, x < a ? a : x > b ? b : x)

// ---- functions of two values ---------------------------------------------------------------------------

#define BINARY(Name, expression)                                           \
    struct Name {                                                          \
        template <typename T> __device__ static T apply(T x, T y, T a) {   \
            (void)a;                                                       \
            return expression;                                             \
        }                                                                  \
    };

template <typename T> __device__ T power_of(T x, T y) { return T(pow(x, y)); }

// Integers by squaring, exact until they wrap around, as products do (CUDA has no pow of two integers, and floats would
// round). The operation refuses negative exponents; here the fraction is cut off.
__device__ __forceinline__ i64 power_of(i64 x, i64 y) {
    if (y < 0) return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
    u64 result = 1;
    for (u64 square = u64(x); y > 0; y /= 2, square *= square)
        if (y % 2) result *= square;
    return i64(result);
}

// Remainders and the quotient that goes with them, as NumPy's: floats by C's fmod, which is exact; integers by 0 are 0.
template <typename T> __device__ T fmod_of(T x, T y) { return fmod(x, y); }
__device__ __forceinline__ i64 fmod_of(i64 x, i64 y) { return y == 0 || y == -1 ? 0 : x % y; }

template <typename T> __device__ T mod_of(T x, T y) {
    T r = fmod_of(x, y);
    if (r != T(0)) return (y < T(0)) != (r < T(0)) ? r + y : r;
    return copysign(r, y);
}
__device__ __forceinline__ i64 mod_of(i64 x, i64 y) {
    i64 r = fmod_of(x, y);
    return r != 0 && (y < 0) != (r < 0) ? r + y : r;
}

template <typename T> __device__ T floor_divide_of(T x, T y) {
    if (y == T(0)) return x / y;
    T r = fmod_of(x, y), q = (x - r) / y;
    if (r != T(0) && (y < T(0)) != (r < T(0))) q -= T(1);
    if (q == T(0)) return copysign(T(0), x / y);
    return q - floor(q) > T(0.5) ? floor(q) + T(1) : floor(q);
}
__device__ __forceinline__ i64 floor_divide_of(i64 x, i64 y) {
    if (y == 0 || y == -1) return i64(u64(x) * u64(y));
    return x / y - (fmod_of(x, y) != 0 && (x < 0) != (y < 0) ? 1 : 0);
}

// log(e^x + e^y): the larger, and log1p of e to minus their distance; equal infinities have none.
template <typename T> __device__ T logaddexp_of(T x, T y) {
    if (x == y) return x + T(0.69314718055994530942);
    return (x > y ? x : y) + log1p(exp(-fabs(x - y)));
}

// A shift by 64 bits or more, as NumPy's.
__device__ __forceinline__ i64 shifted_left(i64 x, i64 y) { return u64(y) < 64 ? i64(u64(x) << y) : 0; }
__device__ __forceinline__ i64 shifted_right(i64 x, i64 y) { return x >> (u64(y) < 64 ? y : 63); }

BINARY(Add, x + y)
BINARY(AddRelu, x + y < T(0) ? T(0) : x + y)                               // NaN < 0 is false: NaN stays
BINARY(Mod, mod_of(x, y))
BINARY(Fmod, fmod_of(x, y))
BINARY(FloorDivide, floor_divide_of(x, y))
BINARY(Copysign, copysign(x, y))
BINARY(Logaddexp, logaddexp_of(x, y))
BINARY(Arctan2, atan2(x, y))
BINARY(BitwiseAnd, T(i64(x) & i64(y)))
BINARY(BitwiseOr, T(i64(x) | i64(y)))
BINARY(BitwiseXor, T(i64(x) ^ i64(y)))
BINARY(LeftShift, T(shifted_left(i64(x), i64(y))))
BINARY(RightShift, T(shifted_right(i64(x), i64(y))))
BINARY(Subtract, x - y)
BINARY(Multiply, x * y)
BINARY(Divide, x / y)
BINARY(Power, power_of(x, y))
BINARY(Maximum, x >= y || x != x ? x : y)                                  // NaN, in either place, wins
BINARY(Minimum, x <= y || x != x ? x : y)

// derivatives times the gradient g, which comes first; of the output y where that is the shorter rule
#define GRADIENT(Name, expression)                                         \
    struct Name {                                                          \
        template <typename T> __device__ static T apply(T g, T y, T a) {   \
            (void)a;                                                       \
            return expression;                                             \
        }                                                                  \
    };

GRADIENT(SqrtGrad, g / (T(2) * y))
GRADIENT(TanhGrad, g * (T(1) - y * y))
GRADIENT(SigmoidGrad, g * y * (T(1) - y))
GRADIENT(ReluGrad, y > T(0) ? g : T(0))
GRADIENT(LeakyReluGrad, y > T(0) ? g : a * g)
GRADIENT(GeluGrad, g * (T(0.5) * erfc(-y * T(0.70710678118654752440))      // Φ(x) + x·φ(x)
                        + y * T(0.39894228040143267794) * exp(T(-0.5) * y * y)))
GRADIENT(SoftplusGrad, g * (tanh(y * T(0.5)) + T(1)) * T(0.5))
GRADIENT(MishGrad, g * mish_slope(y, mish_e(y)))

// d(x^y)/dx and d(x^y)/dy
BINARY(PowerSlope, y == T(0) ? T(0) : y * power_of(x, y - T(1)))
BINARY(PowerLog, x == T(0) ? T(0) : power_of(x, y) * log(x))

// ---- comparisons -----------------------------------------------------------------------------------------

#define COMPARE(Name, operation)                                                                     \
    struct Name {                                                                                    \
        template <typename T> __device__ static bool apply(T x, T y) { return x operation y; }       \
    };

COMPARE(Equal, ==)
COMPARE(NotEqual, !=)
COMPARE(Less, <)
COMPARE(LessEqual, <=)
COMPARE(Greater, >)
COMPARE(GreaterEqual, >=)
COMPARE(LogicalAnd, &&)
COMPARE(LogicalOr, ||)

// ---- kernels -------------------------------------------------------------------------------------------------

template <typename Op, typename T>
__global__ void unary(In<T> x, Out<T> y, T a, T b, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = T(Op::apply(Acc<T>(x[i]), Acc<T>(a), Acc<T>(b)));
}

// An operand that is a number comes without an array: x is None, and `x_number` stands for all its elements.
template <typename Op, typename T>
__global__ void binary(In<T> x, T x_number, In<T> y, T y_number, Out<T> z, T a, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count())
        z[i] = T(Op::apply(Acc<T>(x ? T(x[i]) : x_number), Acc<T>(y ? T(y[i]) : y_number), Acc<T>(a)));
}

template <typename Op, typename T>
__global__ void binary_strided(In<T> x, i64 x_offset, Ints<8> x_strides, In<T> y, i64 y_offset, Ints<8> y_strides,
                               Out<T> z, T a, Ints<8> shape, i32 axes, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count())
        z[i] = T(Op::apply(Acc<T>(x[place(i, shape, x_offset, x_strides, axes)]),
                           Acc<T>(y[place(i, shape, y_offset, y_strides, axes)]), Acc<T>(a)));
}

template <typename Op, typename T>
__global__ void compare(In<T> x, T x_number, In<T> y, T y_number, Out<bool> z, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count())
        z[i] = Op::apply(Acc<T>(x ? T(x[i]) : x_number), Acc<T>(y ? T(y[i]) : y_number));
}

// condition ? x : y
template <typename T>
__global__ void select(In<bool> condition, In<T> x, T x_number, In<T> y, T y_number, Out<T> z, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        if (condition[i]) z[i] = x ? T(x[i]) : x_number;
        else z[i] = y ? T(y[i]) : y_number;
    }
}

// y = x in another type
template <typename T, typename R>
__global__ void convert(In<T> x, Out<R> y, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = R(T(x[i]));
}

template <typename T>
__global__ void fill(Out<T> y, T value, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = value;
}
