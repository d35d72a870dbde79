// Vectors of V floats: memory, rearranging, loops, activations. ISA names the build, see kernels.cpp.

#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace rnnatlas {
namespace ISA {

#define INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int WIDE = 16, NARROW = 8, ROWS = 6;  // 32 registers: 6 rows × 4 vectors, 4 weights, 1 input
#elif defined(__AVX2__)
constexpr int WIDE = 8, NARROW = 8, ROWS = 3;  // 16 registers: 3 × 4, 1 weight, 1 input
#else
constexpr int WIDE = 4, NARROW = 4, ROWS = 2;
#endif

template <int V>
struct Lanes {
    typedef float F __attribute__((vector_size(4 * V)));
    typedef int32_t I __attribute__((vector_size(4 * V)));
    typedef float Unaligned __attribute__((vector_size(4 * V), aligned(4), may_alias));
};

template <int V>
using F = typename Lanes<V>::F;

template <int V>
INLINE F<V> load(const float* from) {
    return *reinterpret_cast<const typename Lanes<V>::Unaligned*>(from);
}

template <int V>
INLINE void store(float* to, F<V> value) {
    *reinterpret_cast<typename Lanes<V>::Unaligned*>(to) = value;
}

// x - 0 is x, so this becomes a broadcast; x + 0 would not, for it turns -0 into 0.
template <int V>
INLINE F<V> splat(float x) {
    return x - F<V>{};
}

// The first n lanes from memory, zeros in the others.
template <int V>
INLINE F<V> load_part(const float* from, int64_t n) {
    if (n >= V) return load<V>(from);
#if defined(__AVX512F__)
    if constexpr (V == 16) return (F<V>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), from);
    if constexpr (V == 8) return (F<V>)_mm256_maskz_loadu_ps(__mmask8((1u << n) - 1), from);
#elif defined(__AVX2__)
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (F<V>)_mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), lanes));
#else
    F<V> value{};
    for (int lane = 0; lane < n; ++lane) value[lane] = from[lane];
    return value;
#endif
}

// Of each pair of neighbouring blocks of S lanes, a's (then b's) first one, or with Second the second one.
template <int V, int S, bool Second, size_t... Lane>
INLINE F<V> interleave(F<V> a, F<V> b, std::index_sequence<Lane...>) {
    constexpr auto source = [](int lane) {
        return (lane / S % 2 ? V : 0) + (lane / S / 2 * 2 + Second) * S + lane % S;
    };
#if defined(__clang__)
    return __builtin_shufflevector(a, b, source(Lane)...);
#else
    return __builtin_shuffle(a, b, typename Lanes<V>::I{source(Lane)...});
#endif
}

template <int V, int S, bool Second>
INLINE F<V> interleave(F<V> a, F<V> b) {
    return interleave<V, S, Second>(a, b, std::make_index_sequence<V>{});
}

// Rows of V vectors become columns.
template <int V, int S = V / 2>
INLINE void transpose(F<V>* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i)
        if (!(i & S)) {
            F<V> a = rows[i], b = rows[i + S];
            rows[i] = interleave<V, S, false>(a, b);
            rows[i + S] = interleave<V, S, true>(a, b);
        }
    if constexpr (S > 1) transpose<V, S / 2>(rows);
}

// Lane i becomes the sum of all lanes of vector i.
template <int V, int S = V / 2>
INLINE F<V> sum_each(F<V>* vectors) {
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i) {
        F<V> a = vectors[i], b = vectors[i + S];
        vectors[i] = interleave<V, S, false>(a, b) + interleave<V, S, true>(a, b);
    }
    if constexpr (S > 1) return sum_each<V, S / 2>(vectors);
    return vectors[0];
}

// --- loops -------------------------------------------------------------------------------------

template <int N>
struct Constant {
    static constexpr int value = N;
};

template <int N, class Function>
INLINE void with_constant(int64_t n, Function&& function) {
    if constexpr (N > 1) {
        if (n < N) return with_constant<N - 1>(n, function);
    }
    function(Constant<N>{});
}

// Cuts 0..n into even parts of at most Max and calls function(start, Constant<size>).
template <int Max, class Function>
INLINE void tiles(int64_t n, Function&& function) {
    int64_t start = 0;
    for (int64_t left = (n + Max - 1) / Max; left; --left) {
        int64_t size = (n - start + left - 1) / left;
        with_constant<Max>(size, [&](auto constant) { function(start, constant); });
        start += size;
    }
}

// --- activations -------------------------------------------------------------------------------

template <int V>
INLINE F<V> clamp(F<V> x, float bound) {  // NaN stays NaN, hence the order of the arguments
    const F<V> low = splat<V>(-bound), high = splat<V>(bound);
#if defined(__AVX512F__)
    if constexpr (V == 16) return (F<V>)_mm512_max_ps((__m512)low, _mm512_min_ps((__m512)high, (__m512)x));
#endif
#if defined(__AVX2__)
    if constexpr (V == 8) return (F<V>)_mm256_max_ps((__m256)low, _mm256_min_ps((__m256)high, (__m256)x));
#endif
    x = x > high ? high : x;
    return x < low ? low : x;
}

// exp(x) - 1 for |x| ≤ 87, beyond which it stays. x = n ln 2 + r; the polynomial was fitted for the least
// relative error of expm1(r), |r| ≤ ln 2 / 2: 1.3e-8. NaN stays NaN.
template <int V>
INLINE F<V> expm1(F<V> x) {
    x = clamp<V>(x, 87.0f);
    const float magic = 12582912.0f;  // 1.5 · 2^23: adding it leaves the rounded number in the low bits
    F<V> shifted = x * 1.44269504f + magic;
    F<V> n = shifted - magic;
    F<V> r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    F<V> q = r * 0.00138825f + 0.00836658f;
    q = q * r + 0.0416672f;
    q = q * r + 0.16666543f;
    q = q * r + 0.49999998f;
    F<V> p = q * (r * r) + r;
    typename Lanes<V>::I bits = ((typename Lanes<V>::I)shifted << 23) + (127 << 23);
    F<V> power = (F<V>)bits;
    return power * p + (power - 1.0f);
}

template <int V>
INLINE F<V> sigmoid(F<V> x) {
    return 1.0f / (expm1<V>(-x) + 2.0f);
}

template <int V>
INLINE F<V> tanh(F<V> x) {
    F<V> e = expm1<V>(x + x);
    return e / (e + 2.0f);
}

}  // namespace ISA
}  // namespace rnnatlas
