// What the Python side hands over, and what the kernels of one instruction set offer.

#pragma once
#include <cstddef>
#include <cstdint>

namespace rnnatlas {

// One parameter of all RNNs; `data` is null where the architecture lacks it, `grad` where nobody asks.
struct Weight {
    const float* data;
    int64_t stride;  // floats from one RNN's to the next's
    float* grad;     // [rnn·part, …], contiguous
};

// Laid out like the int64 array that native.py fills; every pointer may be null where that is said.
struct Job {
    int64_t cell;  // 0 LSTM, 1 GRU, 2 Elman with tanh, 3 Elman with relu
    int64_t rnns, parts;  // each RNN counts `parts` times, each time with that part of its batch
    int64_t batch, time, input, hidden, layers;
    int64_t output;  // 0 for no head
    int64_t threads;
    const float* x;  // its last axis is contiguous
    int64_t x_rnn, x_batch, x_time;  // strides; x_rnn = 0 for inputs that all RNNs share
    const float *h0, *c0;            // [layer, rnn, batch, hidden]; null for zeros
    float* out;                      // [rnn, batch, time, output]
    float *h_last, *c_last;          // [layer, rnn, batch, hidden]
    float* saved;                    // what backward needs; null where no gradient will be asked for
    const float *d_out, *d_h_last, *d_c_last;  // null for zeros
    float* d_x;                                // [rnn, batch, time, input], or null
    float *d_h0, *d_c0;                        // null where nobody asks
    Weight weights[];  // each layer's w_ih, w_hh, b_ih, b_hh, then the head's weight and bias

    const Weight& of_layer(int64_t layer, int which) const { return weights[4 * layer + which]; }
    const Weight& head(int which) const { return weights[4 * layers + which]; }
    int64_t input_of(int64_t layer) const { return layer ? hidden : input; }
};

struct Kernels {
    int64_t (*saved_size)(const Job&);        // floats per RNN
    size_t (*forward_scratch)(const Job&);    // floats per thread
    size_t (*backward_scratch)(const Job&);
    void (*forward)(const Job&, int64_t rnn, float* scratch);
    void (*backward)(const Job&, int64_t rnn, float* scratch);
    void (*activate)(int64_t which, const float* x, float* y, int64_t count);  // for tests of their error
};

extern const Kernels kernels_portable, kernels_avx2, kernels_avx512;

}  // namespace rnnatlas
