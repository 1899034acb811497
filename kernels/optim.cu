// Optimisers over one flat vector: all parameters of a network in one launch.
//
// Bound by memory: Adam reads w, g, m, v and writes w, m, v, so 7 · sizeof(T) bytes a parameter over the
// bandwidth; the arithmetic hides behind it. Launched tensor by tensor, the launches alone would cost more.
//
// lr_count = [learning rate, step count] lies on the device, so a schedule or a captured graph changes it without
// the host. `advance` counts the step, before the update; where the guard's loss is not finite, neither does
// anything. The update of LAMB needs two passes, as it scales each parameter's step by norms of the whole of it.
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

// What a rule takes for the gradient: -g where the loss is to be made large, plus weight_decay · w.
template <typename T> __device__ __forceinline__ T wanted(T g, T w, T weight_decay, bool maximize) {
    return (maximize ? -g : g) + weight_decay * w;
}

// velocity = momentum · velocity + (1 - dampening) · g, but g itself at the first step;
// w -= lr · velocity, or with Nesterov w -= lr · (g + momentum · velocity)
template <typename T>
__global__ void sgd(InOut<T> w, In<T> g, InOut<T> velocity, In<double> lr_count, In<T> loss, T momentum, T dampening,
                    bool nesterov, T weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]), share = lr_count[1] > 1 ? 1 - dampening : T(1);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], w[i], weight_decay, maximize);
        if (velocity) {
            T v = momentum * velocity[i] + share * d;
            velocity[i] = v;
            d = nesterov ? d + momentum * v : v;
        }
        w[i] = w[i] - lr * d;
    }
}

// m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr · m̂ / (√v̂ + ε)   (Kingma & Ba 2015)
// decoupled: the decay shrinks w itself instead of joining g   (Loshchilov & Hutter 2019)
// largest: the maximum of v so far, in v's place   (AMSGrad, Reddi, Kale & Kumar 2018)
template <typename T>
__global__ void adam(InOut<T> w, In<T> g, InOut<T> m, InOut<T> v, InOut<T> largest, In<double> lr_count, In<T> loss,
                     double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    double lr = lr_count[0], t = lr_count[1];
    T rate = T(lr / (1 - pow(beta1, t))), root = T(1 / sqrt(1 - pow(beta2, t)));       // the bias corrections
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1), rest2 = T(1 - beta2), e = T(eps);
    T shrink = decoupled ? T(1 - lr * weight_decay) : T(1), decay = decoupled ? T(0) : T(weight_decay);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T x = w[i] * shrink, d = wanted<T>(g[i], w[i], decay, maximize);
        T m1 = b1 * m[i] + rest1 * d, v1 = b2 * v[i] + rest2 * d * d;
        m[i] = m1;
        v[i] = v1;
        if (largest) {
            T most = largest[i];
            v1 = most > v1 ? most : v1;
            largest[i] = v1;
        }
        w[i] = x - rate * m1 / (sqrt(v1) * root + e);
    }
}

// v = α v + (1 - α) g²;  w -= lr · g / (√v + ε), through a velocity if there is one   (Hinton 2012)
// mean: the same average of g; √(v - mean²) in √v's place   (Graves 2013)
template <typename T>
__global__ void rmsprop(InOut<T> w, In<T> g, InOut<T> v, InOut<T> mean, InOut<T> velocity, In<double> lr_count,
                        In<T> loss, double alpha, T eps, T momentum, T weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]), keep = T(alpha), rest = T(1 - alpha);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], w[i], weight_decay, maximize);
        T v1 = keep * v[i] + rest * d * d;
        v[i] = v1;
        if (mean) {
            T m1 = keep * mean[i] + rest * d;
            mean[i] = m1;
            v1 = v1 > m1 * m1 ? v1 - m1 * m1 : T(0);
        }
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
                        T weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0] / (1 + (lr_count[1] - 1) * lr_decay));
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], w[i], weight_decay, maximize);
        T v1 = v[i] + d * d;
        v[i] = v1;
        w[i] = w[i] - lr * d / (sqrt(v1) + eps);
    }
}

// v = ρ v + (1 - ρ) g²;  d = g · √(u + ε) / √(v + ε);  u = ρ u + (1 - ρ) d²;  w -= lr · d   (Zeiler 2012)
template <typename T>
__global__ void adadelta(InOut<T> w, In<T> g, InOut<T> v, InOut<T> u, In<double> lr_count, In<T> loss, double rho,
                         T eps, T weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]), keep = T(rho), rest = T(1 - rho);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], w[i], weight_decay, maximize);
        T v1 = keep * v[i] + rest * d * d;
        v[i] = v1;
        d = d * sqrt(u[i] + eps) / sqrt(v1 + eps);
        u[i] = keep * u[i] + rest * d * d;
        w[i] = w[i] - lr * d;
    }
}

// m = β₁ m + (1 - β₁) g;  u = max(β₂ u, |g| + ε);  w -= lr / (1 - β₁ᵗ) · m / u   (Kingma & Ba 2015, §7.1)
template <typename T>
__global__ void adamax(InOut<T> w, In<T> g, InOut<T> m, InOut<T> u, In<double> lr_count, In<T> loss, double beta1,
                       double beta2, T eps, T weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T rate = T(lr_count[0] / (1 - pow(beta1, lr_count[1])));
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], w[i], weight_decay, maximize);
        T m1 = b1 * m[i] + rest1 * d, size = fabs(d) + eps, u1 = b2 * u[i];
        m[i] = m1;
        u[i] = u1 > size ? u1 : size;
        w[i] = w[i] - rate * m1 / u[i];
    }
}

// Adam whose step looks ahead along m; μ_t = β₁ (1 - 0.96^(t ψ) / 2), rest = 1 - μ₁ μ₂ … μ_t   (Dozat 2016)
template <typename T>
__global__ void nadam(InOut<T> w, In<T> g, InOut<T> m, InOut<T> v, InOut<T> rest, In<double> lr_count, In<T> loss,
                      double beta1, double beta2, double eps, double weight_decay, bool decoupled,
                      double momentum_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    double lr = lr_count[0], t = lr_count[1];
    T mu = T(beta1 * (1 - 0.5 * pow(0.96, t * momentum_decay)));
    T mu_next = T(beta1 * (1 - 0.5 * pow(0.96, (t + 1) * momentum_decay)));
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1), rest2 = T(1 - beta2), e = T(eps);
    T root = T(1 / sqrt(1 - pow(beta2, t)));
    T shrink = decoupled ? T(1 - lr * weight_decay) : T(1), decay = decoupled ? T(0) : T(weight_decay);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T x = w[i] * shrink, d = wanted<T>(g[i], w[i], decay, maximize);
        T m1 = b1 * m[i] + rest1 * d, v1 = b2 * v[i] + rest2 * d * d, r = mu * rest[i] + (1 - mu);
        m[i] = m1;
        v[i] = v1;
        rest[i] = r;
        d = (1 - mu) / r * d + mu_next / (mu_next * r + (1 - mu_next)) * m1;
        w[i] = x - T(lr) * d / (sqrt(v1) * root + e);
    }
}

// w -= lr · (sign(β₁ m + (1 - β₁) g) + decay · w);  m = β₂ m + (1 - β₂) g   (Chen et al. 2023)
template <typename T>
__global__ void lion(InOut<T> w, In<T> g, InOut<T> m, In<double> lr_count, In<T> loss, double beta1, double beta2,
                     double weight_decay, bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    T lr = T(lr_count[0]), shrink = T(1 - lr_count[0] * weight_decay);
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1), rest2 = T(1 - beta2);
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], 0, 0, maximize), u = b1 * m[i] + rest1 * d;
        m[i] = b2 * m[i] + rest2 * d;
        w[i] = w[i] * shrink - lr * T((u > 0) - (u < 0));
    }
}

// LAMB's direction: Adam's step, bias-corrected, and the decay   (You et al. 2020, algorithm 2)
template <typename T>
__device__ __forceinline__ T lamb_direction(T w, T m, T v, In<double> lr_count, double beta1, double beta2, T eps,
                                            T weight_decay) {
    T mend1 = T(1 / (1 - pow(beta1, lr_count[1]))), root = T(1 / sqrt(1 - pow(beta2, lr_count[1])));
    return mend1 * m / (sqrt(v) * root + eps) + weight_decay * w;
}

// Parameter p is w[starts[p]] to w[starts[p + 1]]. Each warp leaves Σ w² and Σ direction² over its part of one.
// Launch: blocks (x, p): x of them stride through parameter p.
template <typename T>
__global__ void lamb_norms(In<T> w, In<T> g, InOut<T> m, InOut<T> v, In<i64> starts, In<double> lr_count, In<T> loss,
                           Out<double> sums, double beta1, double beta2, T eps, T weight_decay, bool maximize) {
    if (voided<T>(loss)) return;
    i64 p = blockIdx.y, end = starts[p + 1];
    T b1 = T(beta1), b2 = T(beta2), rest1 = T(1 - beta1), rest2 = T(1 - beta2);
    double own = 0, step = 0;
    for (i64 i = starts[p] + thread_index(); i < end; i += thread_count()) {
        T d = wanted<T>(g[i], 0, 0, maximize);
        T m1 = b1 * m[i] + rest1 * d, v1 = b2 * v[i] + rest2 * d * d;
        m[i] = m1;
        v[i] = v1;
        double r = lamb_direction<T>(w[i], m1, v1, lr_count, beta1, beta2, eps, weight_decay);
        own += double(w[i]) * double(w[i]);
        step += r * r;
    }
    own = warp_sum(own);
    step = warp_sum(step);
    i64 warp = (p * thread_count() + thread_index()) / WARP;
    if (threadIdx.x % WARP == 0) {
        sums[2 * warp] = own;
        sums[2 * warp + 1] = step;
    }
}

// w -= lr · ‖w‖ / ‖direction‖ · direction, parameter by parameter; 1 in place of the ratio where a norm is 0.
// Launch: that of lamb_norms.
template <typename T>
__global__ void lamb(InOut<T> w, In<T> m, In<T> v, In<i64> starts, In<double> lr_count, In<T> loss, In<double> sums,
                     double beta1, double beta2, T eps, T weight_decay) {
    if (voided<T>(loss)) return;
    i64 p = blockIdx.y, end = starts[p + 1], warps = thread_count() / WARP;
    double own = 0, step = 0;
    for (i64 k = threadIdx.x % WARP; k < warps; k += WARP) {
        own += sums[2 * (p * warps + k)];
        step += sums[2 * (p * warps + k) + 1];
    }
    own = warp_sum(own);
    step = warp_sum(step);
    T rate = T(own > 0 && step > 0 ? lr_count[0] * sqrt(own / step) : lr_count[0]);
    for (i64 i = starts[p] + thread_index(); i < end; i += thread_count())
        w[i] = w[i] - rate * lamb_direction<T>(w[i], m[i], v[i], lr_count, beta1, beta2, eps, weight_decay);
}

// velocity = μ velocity + (1 - μ) g;  update = the same mixture of g and the new velocity, or that itself. The
// matrices of `update` are then made orthogonal by products, and `sgd` subtracts them.   (Jordan et al. 2024)
template <typename T>
__global__ void muon_momentum(In<T> g, InOut<T> velocity, InOut<T> update, In<T> loss, T momentum, bool nesterov,
                              bool maximize, i64 n) {
    if (voided<T>(loss)) return;
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        T d = wanted<T>(g[i], 0, 0, maximize), v = velocity[i] + (1 - momentum) * (d - velocity[i]);
        velocity[i] = v;
        update[i] = nesterov ? d + momentum * (v - d) : v;
    }
}
