// Optimisers over one flat vector: all parameters of a network in one launch.
//
// Bound by memory: Adam reads w, g, m, v and writes w, m, v, so 7 · sizeof(T) bytes a parameter over the
// bandwidth; the arithmetic hides behind it. Launched tensor by tensor, the launches alone would cost more.
//
// lr_count = [learning rate, step count] lies on the device, so a schedule or a captured graph changes it without
// the host. `advance` counts the step, before the update; where the guard's loss is not
// finite, neither does anything.
// Launch: a thread an element, grid-stride; `advance` one thread.
#include "tinynet.cuh"

template <typename T> __device__ __forceinline__ bool voided(In<T> loss) { return loss && !isfinite(T(loss[0])); }

// What voids a step where the gradient does: the loss, if there is one, plus 0 for each element within ±most and NaN for
// any other. A warp leaves the sum of its part, so nothing has to be cleared before and no two threads write to one
// place; the sum of all verdicts then takes the loss's part below. Reads g once, 1/7 of what Adam moves.
// Launch: a grid of whole warps that strides, a verdict each.
template <typename T>
__global__ void guard(In<T> g, In<T> loss, Out<T> verdict, T most, i64 n) {
    T sum = loss && thread_index() == 0 ? loss[0] : T(0);
    for (i64 i = thread_index(); i < n; i += thread_count())
        if (T x = g[i]; !(x <= most && x >= -most)) sum = sqrt(T(-1));
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) verdict[thread_index() / WARP] = sum;
}

// Σ x² for the norm that gradients are clipped to, in double: a float of 2e19 has a square that is none. A warp leaves the
// sum of its part, as above.
template <typename T>
__global__ void squares(In<T> x, Out<double> part, i64 n) {
    double sum = 0;
    for (i64 i = thread_index(); i < n; i += thread_count()) sum += double(x[i]) * double(x[i]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) part[thread_index() / WARP] = sum;
}

template <typename T>
__global__ void advance(InOut<double> lr_count, In<T> loss) {
    if (thread_index() == 0 && !voided<T>(loss)) lr_count[1] = lr_count[1] + 1;
}

// velocity = momentum · velocity + g;  w -= lr · velocity, or with Nesterov w -= lr · (g + momentum · velocity)
template <typename T>
__global__ void sgd(InOut<T> w, In<T> g, InOut<T> velocity, In<double> lr_count, In<T> loss, T momentum, bool nesterov,
                    T weight_decay, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = g[i] + weight_decay * w[i];
        if (velocity) {
            T v = momentum * velocity[i] + d;
            velocity[i] = v;
            d = nesterov ? d + momentum * v : v;
        }
        w[i] = w[i] - lr * d;
    }
}

// m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr · m̂ / (√v̂ + ε)   (Kingma & Ba 2015)
// decoupled: the decay shrinks w itself instead of joining g   (Loshchilov & Hutter 2019)
template <typename T>
__global__ void adam(InOut<T> w, In<T> g, InOut<T> m, InOut<T> v, In<double> lr_count, In<T> loss, double beta1,
                     double beta2, double eps, double weight_decay, bool decoupled, i64 n) {
    if (voided<T>(loss)) return;
    double lr = lr_count[0], t = lr_count[1];
    T rate = T(lr / (1 - pow(beta1, t))), root = T(1 / sqrt(1 - pow(beta2, t)));       // the bias corrections
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1), rest2 = T(1 - beta2), e = T(eps);
    T shrink = decoupled ? T(1 - lr * weight_decay) : T(1), decay = decoupled ? T(0) : T(weight_decay);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T x = w[i] * shrink, d = g[i] + decay * w[i];
        T m1 = b1 * m[i] + rest1 * d, v1 = b2 * v[i] + rest2 * d * d;
        m[i] = m1;
        v[i] = v1;
        w[i] = x - rate * m1 / (sqrt(v1) * root + e);
    }
}

// v = α v + (1 - α) g²;  w -= lr · g / (√v + ε), through a velocity if there is one   (Hinton 2012)
template <typename T>
__global__ void rmsprop(InOut<T> w, In<T> g, InOut<T> v, InOut<T> velocity, In<double> lr_count, In<T> loss,
                        double alpha, T eps, T momentum, T weight_decay, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]), keep = T(alpha), rest = T(1 - alpha);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = g[i] + weight_decay * w[i];
        T v1 = keep * v[i] + rest * d * d;
        v[i] = v1;
        d = d / (sqrt(v1) + eps);
        if (velocity) {
            d = momentum * velocity[i] + d;
            velocity[i] = d;
        }
        w[i] = w[i] - lr * d;
    }
}

// v += g²;  w -= lr / (1 + (t - 1) · decay) · g / (√v + ε)   (Duchi, Hazan & Singer 2011)
template <typename T>
__global__ void adagrad(InOut<T> w, In<T> g, InOut<T> v, In<double> lr_count, In<T> loss, T eps, double lr_decay,
                        T weight_decay, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0] / (1 + (lr_count[1] - 1) * lr_decay));
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = g[i] + weight_decay * w[i];
        T v1 = v[i] + d * d;
        v[i] = v1;
        w[i] = w[i] - lr * d / (sqrt(v1) + eps);
    }
}
