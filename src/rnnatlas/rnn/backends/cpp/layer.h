// One LSTM layer whose weights all sequences share, as the emulator's and the reader's: what the Python side hands
// over, and what each build offers. Sizes are multiples of 16.

#pragma once
#include <cstddef>
#include <cstdint>

namespace rnnatlas {

// Laid out like the int64 array that layers.py fills. A token is a sequence at a step; tokens lie step by step,
// and at each step there are those of the first `active[step]` sequences. Every pointer may be null where that is
// said. "Panels" are second factors of products, packed by `pack`.
struct Layer {
    int64_t half;  // products of bfloat16 numbers instead of float32 ones
    int64_t steps, rows, inputs, hidden, threads;
    const int64_t* active;
    const float* sums;      // what joins the gates' sums: [token, gate·hidden]
    int64_t sums_row;       // 0 where all tokens share one row, such as a bias
    const float* x;         // [token, inputs]; null where `sums` holds all that comes from the input
    const float *h0, *c0;   // [row, hidden]; null for zeros
    const float *w_x, *w_h; // panels; of backward those of the transposed
    float *h, *c;           // [token, hidden]
    float* gates;           // [token, gate·hidden], null where no gradient will be asked for
    const float *d_h, *d_c; // gradients in h, and in c of the last step [row, hidden]; null for zeros
    float* d_sums;          // [token, gate·hidden]
    float *d_x, *d_h0, *d_c0;  // null where nobody asks
};

// C [rows, columns] = Aᵀ B, where A is [length, rows] and B [length, columns].
struct Product {
    int64_t half, rows, columns, length, threads;
    const float *a, *b;
    float* c;
    float* panels;  // memory for B's
};

struct Layers {
    size_t (*panel_size)(int64_t half, int64_t length, int64_t columns);  // floats of B [length, columns]
    void (*pack)(int64_t half, const float* from, int64_t length, int64_t columns, bool transposed, float* panels);
    size_t (*layer_scratch)(const Layer&, int64_t rows);
    void (*forward)(const Layer&, int64_t begin, int64_t end, float* scratch);
    void (*backward)(const Layer&, int64_t begin, int64_t end, float* scratch);
    int64_t (*product_items)(const Product&);
    size_t (*product_scratch)(const Product&);
    void (*product)(const Product&, int64_t item, float* scratch);
};

extern const Layers layers_portable, layers_avx2, layers_avx512, layers_avx512bf16;

}  // namespace rnnatlas
