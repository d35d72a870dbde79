// What happens in a unit once its gates' sums are there, and the same backwards.

#pragma once
#include "vectors.h"

namespace rnnatlas {
namespace ISA {

// A cell's gates lie in `slots`: sums that are kept apart. The GRU's candidate has two, since its reset
// gate scales only what comes from the state. A run is a range of slots that belongs to a range of gates.
struct Run {
    int slot, gate, count;
};

struct LSTM {  // i f g o
    static constexpr int gates = 4, slots = 4, kept = 4, blocks = 1;
    static constexpr bool has_c = true;
    static constexpr int x_slot[4] = {0, 1, 2, 3}, h_slot[4] = {0, 1, 2, 3};
    static constexpr Run x_runs[1] = {{0, 0, 4}}, h_runs[1] = {{0, 0, 4}};

    template <int V>
    static INLINE F<V> forward(F<V>* s, F<V>, F<V> c, F<V>& c_new) {
        s[0] = sigmoid<V>(s[0]);
        s[1] = sigmoid<V>(s[1]);
        s[2] = tanh<V>(s[2]);
        s[3] = sigmoid<V>(s[3]);
        c_new = s[1] * c + s[0] * s[2];
        return s[3] * tanh<V>(c_new);
    }

    // `s` becomes the gradient in the sums; d_c moves on to the step before.
    template <int V>
    static INLINE F<V> backward(F<V>* s, F<V>, F<V>, F<V> c, F<V> c_new, F<V> d_h, F<V>& d_c) {
        F<V> i = s[0], f = s[1], g = s[2], o = s[3], t = tanh<V>(c_new);
        d_c += d_h * o * (1.0f - t * t);
        s[0] = d_c * g * i * (1.0f - i);
        s[1] = d_c * c * f * (1.0f - f);
        s[2] = d_c * i * (1.0f - g * g);
        s[3] = d_h * t * o * (1.0f - o);
        d_c *= f;
        return F<V>{};
    }
};

struct GRU {  // gates r z n; slots r z, n from the input, n from the state
    static constexpr int gates = 3, slots = 4, kept = 4, blocks = 1;
    static constexpr bool has_c = false;
    static constexpr int x_slot[3] = {0, 1, 2}, h_slot[3] = {0, 1, 3};
    static constexpr Run x_runs[1] = {{0, 0, 3}}, h_runs[2] = {{0, 0, 2}, {3, 2, 1}};

    template <int V>
    static INLINE F<V> forward(F<V>* s, F<V> h, F<V>, F<V>&) {
        s[0] = sigmoid<V>(s[0]);
        s[1] = sigmoid<V>(s[1]);
        s[2] = tanh<V>(s[2] + s[0] * s[3]);
        return s[2] + s[1] * (h - s[2]);
    }

    template <int V>
    static INLINE F<V> backward(F<V>* s, F<V> h, F<V>, F<V>, F<V>, F<V> d_h, F<V>&) {
        F<V> r = s[0], z = s[1], n = s[2], q = s[3];
        F<V> d_n = d_h * (1.0f - z) * (1.0f - n * n);
        s[0] = d_n * q * r * (1.0f - r);
        s[1] = d_h * (h - n) * z * (1.0f - z);
        s[2] = d_n;
        s[3] = d_n * r;
        return d_h * z;
    }
};

template <bool Relu>
struct Elman {
    static constexpr int gates = 1, slots = 1, kept = 0, blocks = 2;
    static constexpr bool has_c = false;
    static constexpr int x_slot[1] = {0}, h_slot[1] = {0};
    static constexpr Run x_runs[1] = {{0, 0, 1}}, h_runs[1] = {{0, 0, 1}};

    template <int V>
    static INLINE F<V> forward(F<V>* s, F<V>, F<V>, F<V>&) {
        if (Relu) return s[0] < 0.0f ? F<V>{} : s[0];  // so that NaN stays NaN
        return tanh<V>(s[0]);
    }

    template <int V>
    static INLINE F<V> backward(F<V>* s, F<V>, F<V> h_new, F<V>, F<V>, F<V> d_h, F<V>&) {
        s[0] = Relu ? (h_new > 0.0f ? d_h : F<V>{}) : d_h * (1.0f - h_new * h_new);
        return F<V>{};
    }
};

}  // namespace ISA
}  // namespace rnnatlas
