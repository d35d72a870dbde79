// Forward and backward pass of one RNN. Compiled once per instruction set; ISA names the build.
//
// Everything is a product of small matrices whose second factor lies in memory as rows of whole
// vectors, so one pattern serves all: a tile of the result stays in registers, and each step of the
// inner loop multiplies a few numbers, spread over all lanes, with a few vectors. Lanes are hidden
// units. Sizes that are no multiple of the vector are padded with zeros, in this file's own memory only.
//
// No standard library here: its inline functions would be compiled for the newest instruction set and
// the linker could keep that copy for all.

#include "cells.h"
#include "job.h"

namespace rnnatlas {
namespace ISA {

// --- products ----------------------------------------------------------------------------------

template <int V, int M, int N>
static __attribute__((noinline)) void product_tile(float* c, int64_t c_row, const float* a, int64_t a_row,
                                                   int64_t a_column, const float* b, int64_t b_row,
                                                   int64_t length, bool add) {
    constexpr int P = M * N <= 2 ? 4 : M * N <= 4 ? 2 : 1;  // partial sums: additions wait for one another
    F<V> sum[P][M][N]{};
    auto multiply = [&](int64_t k, int p) __attribute__((always_inline)) {
        F<V> right[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) right[n] = load<V>(b + k * b_row + n * V);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            F<V> left = splat<V>(a[m * a_row + k * a_column]);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[p][m][n] += left * right[n];
        }
    };
    int64_t k = 0;
    for (; k + P <= length; k += P)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) multiply(k + p, p);
    if constexpr (P > 1)
        for (; k < length; ++k) multiply(k, 0);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            F<V> total = sum[0][m][n];
#pragma GCC unroll 16
            for (int p = 1; p < P; ++p) total += sum[p][m][n];
            float* to = c + m * c_row + n * V;
            store<V>(to, add ? total + load<V>(to) : total);
        }
}

// C [rows, columns] = A [rows, length] · B [length, columns], or += where `add`. Columns are a multiple of V.
template <int V>
void product(float* c, int64_t c_row, const float* a, int64_t a_row, int64_t a_column, const float* b,
             int64_t b_row, int64_t rows, int64_t columns, int64_t length, bool add) {
    tiles<4>(columns / V, [&](int64_t column, auto n) {
        tiles<ROWS>(rows, [&](int64_t row, auto m) {
            product_tile<V, decltype(m)::value, decltype(n)::value>(
                c + row * c_row + column * V, c_row, a + row * a_row, a_row, a_column, b + column * V, b_row,
                length, add);
        });
    });
}

// Hands out parts of one block of memory, each on its own cache lines; measures the need where base is null.
struct Arena {
    float* base;
    size_t used = 0;

    float* take(int64_t floats) {
        size_t start = used;
        used += (size_t(floats) + 15) / 16 * 16;
        return base ? base + start : nullptr;
    }
};

INLINE void fill(float* to, float value, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = value;
}

INLINE void copy(float* to, const float* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

// Rows of `size` numbers (zeros where there is no source) to rows of `padded`, a multiple of V.
template <int V>
INLINE void pad(float* to, const float* from, int64_t rows, int64_t size, int64_t padded) {
    if (!from) return fill(to, 0.0f, rows * padded);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < padded; i += V)
            store<V>(to + row * padded + i, load_part<V>(from + row * size + i, size - i));
}

// --- one RNN -----------------------------------------------------------------------------------

template <class Cell, int V>
struct Network {
    static constexpr int S = Cell::slots, G = Cell::gates, K = Cell::kept;
    const Job& job;
    const int64_t rnn, B, T, H, Hp, Op;

    Network(const Job& job, int64_t rnn)
        : job(job), rnn(rnn), B(job.batch), T(job.time), H(job.hidden), Hp(padded(H)), Op(padded(job.output)) {}

    static int64_t padded(int64_t size) { return (size + V - 1) / V * V; }

    const float* weight(const Weight& w) const { return w.data ? w.data + rnn / job.parts * w.stride : nullptr; }

    const float* inputs() const {
        return job.x + rnn / job.parts * job.x_rnn + rnn % job.parts * B * job.x_batch;
    }

    // What one layer keeps for backward, time first; h and c start with the state before the first step.
    struct Layer {
        float *gates, *h, *c;
    };

    Layer keep(Arena& arena, bool gates) const {
        Layer layer;
        layer.gates = gates && K ? arena.take(T * B * K * Hp) : nullptr;
        layer.h = arena.take((T + 1) * B * Hp);
        layer.c = Cell::has_c ? arena.take((T + 1) * B * Hp) : nullptr;
        return layer;
    }

    int64_t kept_size(bool gates) const {
        Arena arena{nullptr};
        for (int64_t layer = 0; layer < job.layers; ++layer) keep(arena, gates);
        return int64_t(arena.used);
    }

    // --- forward

    // Weights as the forward tile reads them: for a group of U blocks of V units [column][block][gate][V].
    void pack(float* panels, const float* w, int64_t columns) const {
        tiles<Cell::blocks>(Hp / V, [&](int64_t block, auto u) {
            constexpr int U = decltype(u)::value;
            float* panel = panels + block * columns * G * V;
            for (int b = 0; b < U; ++b)
                for (int g = 0; g < G; ++g) {
                    int64_t unit = (block + b) * V;
                    for (int64_t k = 0; k < columns; k += V) {
                        F<V> tile[V];
#pragma GCC unroll 16
                        for (int lane = 0; lane < V; ++lane) {
                            const float* row = w + (g * H + unit + lane) * columns;
                            tile[lane] = unit + lane < H ? load_part<V>(row + k, columns - k) : F<V>{};
                        }
                        transpose<V>(tile);
#pragma GCC unroll 16
                        for (int i = 0; i < V; ++i)
                            if (k + i < columns) store<V>(panel + (((k + i) * U + b) * G + g) * V, tile[i]);
                    }
                }
        });
    }

    // [block][slot][V]
    void pack_bias(float* packed, const float* b_x, const float* b_h) const {
        fill(packed, 0.0f, S * Hp);
        for (int64_t unit = 0; b_x && unit < H; unit += V)
            for (int g = 0; g < G; ++g) {
                float* x = packed + (unit / V * S + Cell::x_slot[g]) * V;
                store<V>(x, load<V>(x) + load_part<V>(b_x + g * H + unit, H - unit));
                float* h = packed + (unit / V * S + Cell::h_slot[g]) * V;
                store<V>(h, load<V>(h) + load_part<V>(b_h + g * H + unit, H - unit));
            }
    }

    template <int M, int U>
    static INLINE void accumulate(F<V> (&sum)[M][U][S], const int (&slot)[G], const float* a, int64_t a_row,
                                  const float* panel, int64_t length) {
        for (int64_t k = 0; k < length; ++k) {
            F<V> w[U][G];
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u)
#pragma GCC unroll 16
                for (int g = 0; g < G; ++g) w[u][g] = load<V>(panel + ((k * U + u) * G + g) * V);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                F<V> left = splat<V>(a[m * a_row + k]);
#pragma GCC unroll 16
                for (int u = 0; u < U; ++u)
#pragma GCC unroll 16
                    for (int g = 0; g < G; ++g) sum[m][u][slot[g]] += left * w[u][g];
            }
        }
    }

    struct Tile {
        const float *x, *h, *c, *bias, *panel_x, *panel_h;
        int64_t x_row, inputs, unit;  // h starts at unit 0, everything else at `unit`
        float *gates, *h_new, *c_new;
    };

    template <int M, int U>
    static __attribute__((noinline)) void forward_tile(const Tile& t, int64_t H, int64_t Hp) {
        F<V> sum[M][U][S];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u)
#pragma GCC unroll 16
                for (int s = 0; s < S; ++s) sum[m][u][s] = load<V>(t.bias + (u * S + s) * V);
        accumulate<M, U>(sum, Cell::x_slot, t.x, t.x_row, t.panel_x, t.inputs);
        accumulate<M, U>(sum, Cell::h_slot, t.h, Hp, t.panel_h, H);
        finish<M, U>(t, Hp, sum);
    }

    template <int M, int U>
    static INLINE void finish(const Tile& t, int64_t Hp, F<V> (&sum)[M][U][S]) {
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u) {
                int64_t at = m * Hp + u * V;
                F<V> c_new, c = Cell::has_c ? load<V>(t.c + at) : F<V>{};
                F<V> h = load<V>(t.h + t.unit + at);
                store<V>(t.h_new + at, Cell::template forward<V>(sum[m][u], h, c, c_new));
                if (Cell::has_c) store<V>(t.c_new + at, c_new);
                if (K && t.gates)
#pragma GCC unroll 16
                    for (int s = 0; s < K; ++s) store<V>(t.gates + (m * K + s) * Hp + u * V, sum[m][u][s]);
            }
    }

    // For so few rows that packing would cost more than it saves: reads the weights as they are, one row
    // and block of units at a time, with inputs in the lanes.
    bool few() const { return B * T <= 4; }

    static INLINE void prefetch(const float* from, int64_t floats) {
        for (int64_t i = 0; i < floats && i < 16384; i += 16) __builtin_prefetch(from + i);
    }

    // While a layer runs, asks for the weights of the next one, or of the RNN that probably comes next, part by
    // part. Inlined, since the compiler drops calls of functions that do nothing else.
    INLINE void ask_for_next(int64_t l, int64_t t) const {
        const int64_t next = l + 1 < job.layers ? l + 1 : 0, one = next ? rnn : rnn + job.threads;
        if (one >= job.rnns) return;
        for (int which = 0; which < 2; ++which) {
            const int64_t floats = G * H * (which ? H : job.input_of(next));
            const Weight& w = job.of_layer(next, which);
            const float* from = w.data + one / job.parts * w.stride;
            const int64_t begin = floats * t / T;
            prefetch(from + begin, floats * (t + 1) / T - begin);
        }
    }

    static INLINE void add_products(F<V> (&sum)[V], const float* w, int64_t rows, int64_t columns, const float* a) {
        for (int64_t k = 0; k < columns; k += V) {
            F<V> right = load_part<V>(a + k, columns - k);
#pragma GCC unroll 16
            for (int i = 0; i < V; ++i) {  // lanes beyond the last unit repeat it; nothing reads them
                const float* row = w + (i < rows ? i : rows - 1) * columns;
                sum[i] += right * load_part<V>(row + k, columns - k);
            }
        }
    }

    __attribute__((noinline)) void forward_few(const Tile& t, const float* w_x, const float* w_h) const {
        F<V> sum[1][1][S];
        for (int s = 0; s < S; ++s) {
            F<V> products[V]{};
            for (int g = 0; g < G; ++g) {
                int64_t row = g * H + t.unit;
                if (Cell::x_slot[g] == s) add_products(products, w_x + row * t.inputs, H - t.unit, t.inputs, t.x);
                if (Cell::h_slot[g] == s) add_products(products, w_h + row * H, H - t.unit, H, t.h);
            }
            sum[0][0][s] = load<V>(t.bias + s * V) + sum_each<V>(products);
        }
        finish<1, 1>(t, Hp, sum);
    }

    void forward(Arena arena) const {
        Arena kept = job.saved ? Arena{job.saved + rnn * kept_size(true)} : arena;
        const float* x = inputs();
        int64_t x_row = job.x_batch, x_step = job.x_time;
        Layer layer{};
        Arena working = arena;
        if (!job.saved) working.take(kept_size(false));
        Forward memory(*this, working);
        for (int64_t l = 0; l < job.layers; ++l) {
            int64_t size = job.input_of(l);
            layer = keep(kept, job.saved);
            const float *w_x = weight(job.of_layer(l, 0)), *w_h = weight(job.of_layer(l, 1));
            if (few()) {  // all lines are asked for at once: the pages change too often for the processor to guess
                prefetch(w_x, G * H * size);
                prefetch(w_h, G * H * H);
            } else {
                pack(memory.panel_x, w_x, size);
                pack(memory.panel_h, w_h, H);
            }
            pack_bias(memory.bias, weight(job.of_layer(l, 2)), weight(job.of_layer(l, 3)));
            int64_t at = (l * job.rnns + rnn) * B * H;
            pad<V>(layer.h, job.h0 ? job.h0 + at : nullptr, B, H, Hp);
            if (Cell::has_c) pad<V>(layer.c, job.c0 ? job.c0 + at : nullptr, B, H, Hp);
            for (int64_t t = 0; t < T; ++t) {
                if (!few()) ask_for_next(l, t);
                time_step(layer, memory, w_x, w_h, x + t * x_step, x_row, size, t);
            }
            unpad(job.h_last + at, H, layer.h + T * B * Hp, Hp, B, H);
            if (Cell::has_c) unpad(job.c_last + at, H, layer.c + T * B * Hp, Hp, B, H);
            x = layer.h + B * Hp;
            x_row = Hp;
            x_step = B * Hp;
        }
        outputs(x, memory);
    }

    struct Forward {
        float *panel_x, *panel_h, *bias, *head, *head_bias, *y;

        Forward(const Network& n, Arena& arena) {
            int64_t widest = n.job.layers > 1 && n.H > n.job.input ? n.H : n.job.input;
            panel_x = arena.take(widest * G * n.Hp);
            panel_h = arena.take(n.H * G * n.Hp);
            bias = arena.take(S * n.Hp);
            head = arena.take(n.H * n.Op);
            head_bias = arena.take(n.Op);
            y = arena.take(n.B * n.Op);
        }
    };

    void time_step(const Layer& layer, const Forward& memory, const float* w_x, const float* w_h, const float* x,
                   int64_t x_row, int64_t inputs, int64_t t) const {
        const int64_t step = t * B * Hp, next = step + B * Hp;
        auto tile = [&](int64_t row, int64_t block) {
            int64_t unit = block * V, at = row * Hp + unit;
            return Tile{x + row * x_row,
                        layer.h + step + row * Hp,
                        layer.c + step + at,
                        memory.bias + block * S * V,
                        memory.panel_x + unit * inputs * G,
                        memory.panel_h + unit * H * G,
                        x_row,
                        inputs,
                        unit,
                        layer.gates ? layer.gates + (t * B + row) * K * Hp + unit : nullptr,
                        layer.h + next + at,
                        layer.c + next + at};
        };
        if (few()) {
            for (int64_t row = 0; row < B; ++row)
                for (int64_t block = 0; block < Hp / V; ++block) forward_few(tile(row, block), w_x, w_h);
            return;
        }
        tiles<Cell::blocks>(Hp / V, [&](int64_t block, auto u) {
            tiles<ROWS>(B, [&](int64_t row, auto m) {
                forward_tile<decltype(m)::value, decltype(u)::value>(tile(row, block), H, Hp);
            });
        });
    }

    static INLINE void unpad(float* to, int64_t to_row, const float* from, int64_t from_row, int64_t rows,
                             int64_t size) {
        for (int64_t row = 0; row < rows; ++row) copy(to + row * to_row, from + row * from_row, size);
    }

    // The head's, or the last layer's hidden states, from [time][batch] to [batch][time].
    void outputs(const float* h, const Forward& memory) const {
        const int64_t O = job.output ? job.output : H;
        float* out = job.out + rnn * B * T * O;
        if (!job.output) {
            for (int64_t t = 0; t < T; ++t) unpad(out + t * O, T * O, h + t * B * Hp, Hp, B, H);
            return;
        }
        const float *w = weight(job.head(0)), *bias = weight(job.head(1));
        fill(memory.head, 0.0f, H * Op);
        for (int64_t o = 0; o < O; ++o)
            for (int64_t k = 0; k < H; ++k) memory.head[k * Op + o] = w[o * H + k];
        pad<V>(memory.head_bias, bias, 1, O, Op);
        for (int64_t t = 0; t < T; ++t) {
            for (int64_t row = 0; row < B; ++row) copy(memory.y + row * Op, memory.head_bias, Op);
            product<V>(memory.y, Op, h + t * B * Hp, Hp, 1, memory.head, Op, B, Op, H, true);
            unpad(out + t * O, T * O, memory.y, Op, B, O);
        }
    }

    // --- backward

    // Time steps whose gradients are collected before they go into the weights' and the layer below:
    // enough rows that loading and storing the sums hardly counts, few enough for the first-level cache.
    int64_t chunk() const {
        int64_t steps = (64 + B - 1) / B;
        return steps < T ? steps : T;
    }

    struct Backward {
        float *d_above, *sums, *d_h, *d_c, *d_x, *x, *w_x, *w_h, *dw_x, *dw_h, *bias, *d_y, *dw_head;

        Backward(const Network& n, Arena& arena) {
            const int64_t I = n.job.layers > 1 && n.H > n.job.input ? n.H : n.job.input, Ip = padded(I);
            d_above = arena.take(n.T * n.B * n.Hp);
            sums = arena.take(n.chunk() * n.B * S * n.Hp);
            d_h = arena.take(n.B * n.Hp);
            d_c = arena.take(n.B * n.Hp);
            d_x = arena.take(n.chunk() * n.B * Ip);
            x = arena.take(n.T * n.B * n.job.input);
            w_x = arena.take(G * n.H * Ip);
            w_h = arena.take((G * n.H > n.job.output ? G * n.H : n.job.output) * n.Hp);  // the head's too
            dw_x = arena.take(I * S * n.Hp);
            dw_h = arena.take(n.H * S * n.Hp);
            bias = arena.take(S * n.Hp);
            d_y = arena.take(n.T * n.B * n.Op);
            dw_head = arena.take(n.job.output * n.Hp);
        }
    };

    void backward(Arena arena) const {
        Backward memory(*this, arena);
        Layer layers[64];
        Arena kept{job.saved + rnn * kept_size(true)};
        for (int64_t l = 0; l < job.layers; ++l) layers[l] = keep(kept, true);
        from_outputs(layers[job.layers - 1], memory);
        const float* x = nullptr;
        if (job.of_layer(0, 0).grad) {  // time first, as the layers above have theirs
            const float* from = inputs();
            for (int64_t t = 0; t < T; ++t)
                unpad(memory.x + t * B * job.input, job.input, from + t * job.x_time, job.x_batch, B, job.input);
            x = memory.x;
        }
        for (int64_t l = job.layers - 1; l >= 0; --l)
            if (l)
                through_layer(l, layers[l], layers[l - 1].h + B * Hp, Hp, memory);
            else
                through_layer(l, layers[l], x, job.input, memory);
    }

    // The gradient in the last layer's hidden states, and the head's own.
    void from_outputs(const Layer& top, const Backward& memory) const {
        const int64_t O = job.output ? job.output : H;
        if (!job.d_out) {
            fill(memory.d_above, 0.0f, T * B * Hp);
            fill(memory.dw_head, 0.0f, job.output * Hp);
            fill(memory.d_y, 0.0f, T * B * Op);
        }
        const float* d_out = job.d_out ? job.d_out + rnn * B * T * O : nullptr;
        if (!job.output) {
            for (int64_t t = 0; d_out && t < T; ++t)
                for (int64_t row = 0; row < B; ++row)
                    pad<V>(memory.d_above + (t * B + row) * Hp, d_out + (row * T + t) * O, 1, H, Hp);
            return;
        }
        if (d_out) {
            for (int64_t t = 0; t < T; ++t)
                for (int64_t row = 0; row < B; ++row)
                    pad<V>(memory.d_y + (t * B + row) * Op, d_out + (row * T + t) * O, 1, O, Op);
            const float* w = aligned(memory.w_h, weight(job.head(0)), O, H, Hp);
            product<V>(memory.d_above, Hp, memory.d_y, Op, 1, w, Hp, T * B, Hp, O, false);
        }
        if (float* grad = job.head(0).grad) {
            product<V>(memory.dw_head, Hp, memory.d_y, 1, Op, top.h + B * Hp, Hp, O, Hp, T * B, false);
            unpad(grad + rnn * O * H, H, memory.dw_head, Hp, O, H);
        }
        if (float* grad = job.head(1).grad) {
            fill(grad + rnn * O, 0.0f, O);
            for (int64_t row = 0; row < T * B; ++row)
                for (int64_t o = 0; o < O; ++o) grad[rnn * O + o] += memory.d_y[row * Op + o];
        }
    }

    // The matrix itself where its rows are whole vectors, otherwise a padded copy.
    static const float* aligned(float* memory, const float* w, int64_t rows, int64_t columns, int64_t width) {
        if (columns == width) return w;
        pad<V>(memory, w, rows, columns, width);
        return memory;
    }

    // C [rows, columns] (+)= gradients in the sums · weights [gate·H, columns]
    template <int Runs>
    void through_weights(float* c, int64_t columns, const float* sums, const Run (&runs)[Runs], const float* w,
                         int64_t rows, bool add) const {
        for (const Run& run : runs) {
            int parts = H == Hp ? 1 : run.count;
            for (int part = 0; part < parts; ++part, add = true)
                product<V>(c, columns, sums + (run.slot + part) * Hp, S * Hp, 1,
                           w + (run.gate + part) * H * columns, columns, rows, columns, run.count / parts * H,
                           add);
        }
    }

    // Transposed gradient in weights, [columns, slot·Hp] += inputsᵀ · gradients in the sums
    template <int Runs>
    void into_weights(float* grad, const float* inputs, int64_t size, int64_t row_length, const float* sums,
                      const Run (&runs)[Runs], int64_t rows, bool add) const {
        for (const Run& run : runs)
            product<V>(grad + run.slot * Hp, S * Hp, inputs, 1, row_length, sums + run.slot * Hp, S * Hp, size,
                       run.count * Hp, rows, add);
    }

    void cells_backward(const Layer& layer, const Backward& memory, int64_t t, float* sums) const {
        for (int64_t row = 0; row < B; ++row)
            for (int64_t unit = 0; unit < Hp; unit += V) {
                int64_t at = row * Hp + unit, now = t * B * Hp + at, next = now + B * Hp;
                F<V> s[S], zero{};
                for (int i = 0; i < K; ++i) s[i] = load<V>(layer.gates + ((t * B + row) * K + i) * Hp + unit);
                F<V> d_h = load<V>(memory.d_above + now) + load<V>(memory.d_h + at), d_c{};
                if (Cell::has_c) d_c = load<V>(memory.d_c + at);
                F<V> c = Cell::has_c ? load<V>(layer.c + now) : zero;
                F<V> c_new = Cell::has_c ? load<V>(layer.c + next) : zero;
                F<V> h = load<V>(layer.h + now), h_new = load<V>(layer.h + next);
                F<V> rest = Cell::template backward<V>(s, h, h_new, c, c_new, d_h, d_c);
                store<V>(memory.d_h + at, rest);
                if (Cell::has_c) store<V>(memory.d_c + at, d_c);
                for (int i = 0; i < S; ++i) store<V>(sums + (row * S + i) * Hp + unit, s[i]);
            }
    }

    void through_layer(int64_t l, const Layer& layer, const float* x, int64_t x_length,
                       const Backward& memory) const {
        const int64_t I = job.input_of(l), width = l ? Hp : padded(I), state = (l * job.rnns + rnn) * B * H;
        const bool for_weights = job.of_layer(l, 0).grad, for_inputs = l || job.d_x;
        const float* w_h = aligned(memory.w_h, weight(job.of_layer(l, 1)), G * H, H, Hp);
        const float* w_x = for_inputs ? aligned(memory.w_x, weight(job.of_layer(l, 0)), G * H, I, width) : nullptr;
        pad<V>(memory.d_h, job.d_h_last ? job.d_h_last + state : nullptr, B, H, Hp);
        pad<V>(memory.d_c, job.d_c_last ? job.d_c_last + state : nullptr, B, H, Hp);
        fill(memory.bias, 0.0f, S * Hp);
        for (int64_t end = T; end > 0; end -= chunk()) {
            const int64_t begin = end > chunk() ? end - chunk() : 0, rows = (end - begin) * B;
            for (int64_t t = end - 1; t >= begin; --t) {
                float* sums = memory.sums + (t - begin) * B * S * Hp;
                cells_backward(layer, memory, t, sums);
                if (t || job.d_h0) through_weights(memory.d_h, Hp, sums, Cell::h_runs, w_h, B, true);
            }
            if (for_weights) {
                bool add = end < T;
                into_weights(memory.dw_x, x + begin * B * x_length, I, x_length, memory.sums, Cell::x_runs, rows, add);
                into_weights(memory.dw_h, layer.h + begin * B * Hp, H, Hp, memory.sums, Cell::h_runs, rows, add);
                for (int64_t row = 0; row < rows; ++row)
                    for (int64_t i = 0; i < S * Hp; i += V)
                        store<V>(memory.bias + i, load<V>(memory.bias + i) + load<V>(memory.sums + row * S * Hp + i));
            }
            if (!for_inputs) continue;
            float* below = l ? memory.d_above + begin * B * Hp : memory.d_x;
            through_weights(below, width, memory.sums, Cell::x_runs, w_x, rows, false);
            for (int64_t t = begin; l == 0 && t < end; ++t)
                unpad(job.d_x + (rnn * B * T + t) * I, T * I, below + (t - begin) * B * width, width, B, I);
        }
        if (job.d_h0) unpad(job.d_h0 + state, H, memory.d_h, Hp, B, H);
        if (job.d_c0) unpad(job.d_c0 + state, H, memory.d_c, Hp, B, H);
        if (for_weights) write_gradients(l, memory);
    }

    void write_gradients(int64_t l, const Backward& memory) const {
        const int64_t I = job.input_of(l), rows = G * H;
        float* d_x = job.of_layer(l, 0).grad + rnn * rows * I;
        float* d_h = job.of_layer(l, 1).grad + rnn * rows * H;
        for (int g = 0; g < G; ++g)
            for (int64_t unit = 0; unit < H; ++unit) {
                const float* from_x = memory.dw_x + Cell::x_slot[g] * Hp + unit;
                const float* from_h = memory.dw_h + Cell::h_slot[g] * Hp + unit;
                for (int64_t k = 0; k < I; ++k) d_x[(g * H + unit) * I + k] = from_x[k * S * Hp];
                for (int64_t k = 0; k < H; ++k) d_h[(g * H + unit) * H + k] = from_h[k * S * Hp];
            }
        if (!job.of_layer(l, 2).grad) return;
        for (int g = 0; g < G; ++g) {
            copy(job.of_layer(l, 2).grad + (rnn * G + g) * H, memory.bias + Cell::x_slot[g] * Hp, H);
            copy(job.of_layer(l, 3).grad + (rnn * G + g) * H, memory.bias + Cell::h_slot[g] * Hp, H);
        }
    }
};

// --- what the other files see ------------------------------------------------------------------

// Calls function with the network of the job's cell, in narrow vectors where wide ones would compute many
// zeros.
template <class Function>
INLINE auto with_network(const Job& job, int64_t rnn, Function&& function) {
    auto by_width = [&](auto cell) {
        using Cell = decltype(cell);
        using Wide = Network<Cell, WIDE>;
        using Narrow = Network<Cell, NARROW>;
        if (4 * Wide::padded(job.hidden) > 5 * Narrow::padded(job.hidden)) return function(Narrow(job, rnn));
        return function(Wide(job, rnn));
    };
    switch (job.cell) {
        case 0: return by_width(LSTM{});
        case 1: return by_width(GRU{});
        case 2: return by_width(Elman<false>{});
        default: return by_width(Elman<true>{});
    }
}

int64_t saved_size(const Job& job) {
    return with_network(job, 0, [](auto network) { return network.kept_size(true); });
}

size_t forward_scratch(const Job& job) {
    return with_network(job, 0, [&](auto network) {
        Arena arena{nullptr};
        if (!job.saved) arena.take(network.kept_size(false));
        typename decltype(network)::Forward(network, arena);
        return arena.used;
    });
}

size_t backward_scratch(const Job& job) {
    return with_network(job, 0, [](auto network) {
        Arena arena{nullptr};
        typename decltype(network)::Backward(network, arena);
        return arena.used;
    });
}

void forward(const Job& job, int64_t rnn, float* scratch) {
    with_network(job, rnn, [&](auto network) { network.forward(Arena{scratch}); });
}

void backward(const Job& job, int64_t rnn, float* scratch) {
    with_network(job, rnn, [&](auto network) { network.backward(Arena{scratch}); });
}

void activate(int64_t which, const float* x, float* y, int64_t count) {
    for (int64_t i = 0; i + WIDE <= count; i += WIDE)
        store<WIDE>(y + i, which ? tanh<WIDE>(load<WIDE>(x + i)) : sigmoid<WIDE>(load<WIDE>(x + i)));
}

}  // namespace ISA

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
extern const Kernels JOIN(kernels_, ISA) = {ISA::saved_size, ISA::forward_scratch, ISA::backward_scratch,
                                            ISA::forward,    ISA::backward,        ISA::activate};

}  // namespace rnnatlas
