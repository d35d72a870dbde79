// Forward and backward pass of one LSTM layer whose weights all sequences share. Compiled once per instruction
// set, as kernels.cpp is and with its rules.
//
// What is multiplied lies in memory as words of 32 bits: a float32 number, or two bfloat16 numbers that follow one
// another along the sum. The second factor is packed into panels, [columns / V][word][V], so that a tile of the
// result reads streams that are each contiguous. Sums are float32. Each has one order of additions, whatever the
// tile, so results depend neither on the number of threads nor on which rows run together.

#include "cells.h"
#include "layer.h"

namespace rnnatlas {
namespace ISA {

constexpr int W = WIDE, GATES = 4;

// --- words ---------------------------------------------------------------------------------------

struct Single {
    static constexpr int numbers = 1;
    static INLINE F<W> spread(const float* word) { return splat<W>(*word); }
    static INLINE F<W> multiply(F<W> sum, F<W> a, F<W> b) { return sum + a * b; }
    // Words of W · numbers numbers that follow one another in memory, of which `count` are there.
    static INLINE F<W> words(const float* from, int64_t count) { return load_part<W>(from, count); }
    // Words of W columns, of `numbers` rows that lie one below the other, of which `count` are there.
    static INLINE F<W> words_below(const float* from, int64_t, int64_t) { return load<W>(from); }
};

#if defined(__AVX512BF16__)
struct Pair {
    static constexpr int numbers = 2;
    static INLINE F<W> spread(const float* word) { return (F<W>)_mm512_set1_ps(*word); }
    static INLINE F<W> multiply(F<W> sum, F<W> a, F<W> b) {
        return (F<W>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
    }
    static INLINE F<W> words(const float* from, int64_t count) {
        F<W> low = load_part<W>(from, count), high = count > W ? load_part<W>(from + W, count - W) : F<W>{};
        return (F<W>)(__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    }
    static INLINE __m512i half(F<W> x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x)); }
    static INLINE F<W> words_below(const float* from, int64_t row, int64_t count) {
        __m512i low = half(load<W>(from)), high = count > 1 ? half(load<W>(from + row)) : _mm512_setzero_si512();
        return (F<W>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
    }
};
#endif

template <class Function>
INLINE auto with_words(int64_t half, Function&& function) {
#if defined(__AVX512BF16__)
    if (half) return function(Pair{});
#endif
    return function(Single{});
}

template <class N>
INLINE int64_t in_words(int64_t numbers) {
    return (numbers + N::numbers - 1) / N::numbers;
}

// Rows of numbers to rows of words; they lie where they are, if they are words already.
template <class N>
INLINE const float* row_words(float* memory, const float* from, int64_t rows, int64_t size) {
    if (N::numbers == 1) return from;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < size; k += W * N::numbers) {
            F<W> words = N::words(from + row * size + k, size - k);
            if (size - k >= W * N::numbers) {
                store<W>(memory + (row * size + k) / N::numbers, words);
            } else {  // half a vector is left
                for (int i = 0; i < W / 2; ++i) memory[(row * size + k) / N::numbers + i] = words[i];
            }
        }
    return memory;
}

// Panels of B [length, columns], from B or, where `transposed`, from Bᵀ.
template <class N>
static void pack_panels(const float* from, int64_t length, int64_t columns, bool transposed, float* panels) {
    const int64_t words = in_words<N>(length);
    for (int64_t column = 0; column < columns; column += W) {
        float* panel = panels + column * words;
        if (transposed) {
            for (int64_t word = 0; word < words; word += W) {
                F<W> tile[W];
#pragma GCC unroll 16
                for (int i = 0; i < W; ++i) {
                    int64_t k = word * N::numbers;
                    tile[i] = N::words(from + (column + i) * length + k, length - k);
                }
                transpose<W>(tile);
#pragma GCC unroll 16
                for (int i = 0; i < W; ++i)
                    if (word + i < words) store<W>(panel + (word + i) * W, tile[i]);
            }
        } else {
            for (int64_t word = 0; word < words; ++word) {
                int64_t k = word * N::numbers;
                store<W>(panel + word * W, N::words_below(from + k * columns + column, columns, length - k));
            }
        }
    }
}

// --- products --------------------------------------------------------------------------------------

// sum += rows of words · panels that lie `panel` floats from one another
template <class N, int M, int P>
static INLINE void accumulate(F<W> (&sum)[M][P], const float* a, int64_t a_row, int64_t a_word, const float* b,
                              int64_t panel, int64_t words) {
    for (int64_t k = 0; k < words; ++k) {
        F<W> right[P];
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) right[p] = load<W>(b + p * panel + k * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            F<W> left = N::spread(a + m * a_row + k * a_word);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) sum[m][p] = N::multiply(sum[m][p], left, right[p]);
        }
    }
}

template <class N, int M, int P>
static __attribute__((noinline)) void product_tile(float* c, int64_t c_row, const float* a, int64_t a_row,
                                                   int64_t a_word, const float* b, int64_t panel, int64_t words,
                                                   bool add) {
    F<W> sum[M][P]{};
    if (add)
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) sum[m][p] = load<W>(c + m * c_row + p * W);
    accumulate<N, M, P>(sum, a, a_row, a_word, b, panel, words);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) store<W>(c + m * c_row + p * W, sum[m][p]);
}

// C [rows, columns] = rows of words · panels
template <class N>
static void rows_by_panels(float* c, int64_t columns, const float* a, int64_t words, const float* panels,
                           int64_t rows) {
    tiles<4>(columns / W, [&](int64_t column, auto p) {
        tiles<ROWS>(rows, [&](int64_t row, auto m) {
            product_tile<N, decltype(m)::value, decltype(p)::value>(c + row * columns + column * W, columns,
                                                                    a + row * words, words, 1,
                                                                    panels + column * W * words, W * words, words,
                                                                    false);
        });
    });
}

// --- a product over all tokens: gradients in weights --------------------------------------------------

constexpr int TALL = ROWS > 4 ? 8 : ROWS > 2 ? 4 : 2, BROAD = ROWS > 4 ? 3 : 2;  // rows and panels of a tile
constexpr int64_t ITEM = 64, CHUNK = 512;  // rows of C that are one item, and tokens at a time

template <class N>
static void product_item(const Product& job, int64_t item, float* scratch) {
    const int64_t first = item * ITEM, rows = first + ITEM < job.rows ? ITEM : job.rows - first;
    const int64_t all = in_words<N>(job.length);
    for (int64_t begin = 0; begin < job.length; begin += CHUNK) {
        const int64_t length = begin + CHUNK < job.length ? CHUNK : job.length - begin;
        const int64_t words = in_words<N>(length);
        for (int64_t row = 0; row < rows; row += W)
            for (int64_t word = 0; word < words; ++word) {
                int64_t k = word * N::numbers;
                store<W>(scratch + row * words + word * W,
                         N::words_below(job.a + (begin + k) * job.rows + first + row, job.rows, length - k));
            }
        tiles<BROAD>(job.columns / W, [&](int64_t column, auto p) {
            for (int64_t row = 0; row < rows; row += TALL) {
                const float* a = scratch + row / W * W * words + row % W;
                const float* b = job.panels + column * W * all + begin / N::numbers * W;
                product_tile<N, TALL, decltype(p)::value>(job.c + (first + row) * job.columns + column * W,
                                                          job.columns, a, 1, W, b, W * all, words, begin > 0);
            }
        });
    }
}

// --- the layer ---------------------------------------------------------------------------------------

template <class N>
struct Block {  // some of the rows
    const Layer& job;
    const int64_t begin, end, H, I;
    float *x_words, *h_words, *d_words, *zeros, *d_h, *d_c;

    Block(const Layer& job, int64_t begin, int64_t end, float* scratch)
        : job(job), begin(begin), end(end), H(job.hidden), I(job.inputs) {
        float* next = scratch;
        auto take = [&](int64_t floats) { return next += floats, next - floats; };
        const int64_t rows = end - begin;
        x_words = take(N::numbers == 1 ? 0 : rows * I / N::numbers);
        h_words = take(N::numbers == 1 ? 0 : rows * H / N::numbers);
        d_words = take(N::numbers == 1 ? 0 : rows * GATES * H / N::numbers);
        zeros = take(rows * H);
        d_h = take(rows * H);
        d_c = take(rows * H);
    }

    static size_t scratch_size(const Layer& job, int64_t rows) {
        int64_t floats = 3 * job.hidden;
        if (N::numbers > 1) floats += (job.inputs + (1 + GATES) * job.hidden) / N::numbers;
        return size_t(rows * floats);
    }

    int64_t active(int64_t t) const {
        int64_t last = job.active[t] < end ? job.active[t] : end;
        return last > begin ? last - begin : 0;
    }

    // The state before step t, whose tokens and whose predecessors' begin at the positions given.
    const float* before(const float* states, const float* start, int64_t t, int64_t previous) const {
        if (t) return states + (previous + begin) * H;
        return start ? start + begin * H : zeros;
    }

    void forward() const {
        for (int64_t i = 0; i < (end - begin) * H; ++i) zeros[i] = 0.0f;
        int64_t previous = 0, token = 0;
        for (int64_t t = 0; t < job.steps; previous = token, token += job.active[t], ++t) {
            const int64_t rows = active(t);
            if (!rows) return;
            const float* x =
                job.x ? row_words<N>(x_words, job.x + (token + begin) * I, rows, I) : nullptr;
            const bool zero = !t && !job.h0;
            const float* h =
                zero ? nullptr : row_words<N>(h_words, before(job.h, job.h0, t, previous), rows, H);
            const float* c = before(job.c, job.c0, t, previous);
            for (int64_t unit = 0; unit < H; unit += W)
                tiles<ROWS>(rows, [&](int64_t row, auto m) {
                    forward_tile<decltype(m)::value>(x, h, c, token + begin, row, unit);
                });
        }
    }

    template <int M>
    __attribute__((noinline)) void forward_tile(const float* x, const float* h, const float* c, int64_t token,
                                                int64_t row, int64_t unit) const {
        F<W> sum[M][GATES];
        const int64_t h_size = H / N::numbers, x_size = I / N::numbers;
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
            for (int g = 0; g < GATES; ++g)
                sum[m][g] = load<W>(job.sums + (token + row + m) * job.sums_row + g * H + unit);
        if (x)
            accumulate<N, M, GATES>(sum, x + row * x_size, x_size, 1, job.w_x + unit * x_size, H * x_size, x_size);
        if (h)
            accumulate<N, M, GATES>(sum, h + row * h_size, h_size, 1, job.w_h + unit * h_size, H * h_size, h_size);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            int64_t at = (token + row + m) * H + unit;
            F<W> c_new;
            F<W> h_new = LSTM::forward<W>(sum[m], F<W>{}, load<W>(c + (row + m) * H + unit), c_new);
            store<W>(job.h + at, h_new);
            store<W>(job.c + at, c_new);
            if (job.gates)
#pragma GCC unroll 16
                for (int g = 0; g < GATES; ++g)
                    store<W>(job.gates + (token + row + m) * GATES * H + g * H + unit, sum[m][g]);
        }
    }

    void backward() const {
        for (int64_t i = 0; i < (end - begin) * H; ++i) {
            zeros[i] = d_h[i] = 0.0f;
            d_c[i] = job.d_c ? job.d_c[begin * H + i] : 0.0f;
        }
        int64_t token = 0;
        for (int64_t t = 0; t < job.steps; ++t) token += job.active[t];
        for (int64_t t = job.steps; t-- > 0;) {
            token -= job.active[t];
            const int64_t rows = active(t);
            if (!rows) continue;
            cells_backward(rows, t, token);
            const float* sums = job.d_sums + (token + begin) * GATES * H;
            const float* words = row_words<N>(d_words, sums, rows, GATES * H);
            const int64_t size = GATES * H / N::numbers;
            if (t || job.d_h0) rows_by_panels<N>(d_h, H, words, size, job.w_h, rows);
            if (job.d_x) rows_by_panels<N>(job.d_x + (token + begin) * I, I, words, size, job.w_x, rows);
        }
        for (int64_t i = 0; job.d_h0 && i < (end - begin) * H; ++i) job.d_h0[begin * H + i] = d_h[i];
        for (int64_t i = 0; job.d_c0 && i < (end - begin) * H; ++i) job.d_c0[begin * H + i] = d_c[i];
    }

    void cells_backward(int64_t rows, int64_t t, int64_t token) const {
        const float* before_it = before(job.c, job.c0, t, t ? token - job.active[t - 1] : 0);
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t unit = 0; unit < H; unit += W) {
                const int64_t at = (token + begin + row) * H + unit, own = row * H + unit;
                const int64_t gates = (token + begin + row) * GATES * H + unit;
                F<W> s[GATES], zero{};
                for (int g = 0; g < GATES; ++g) s[g] = load<W>(job.gates + gates + g * H);
                F<W> d_out = load<W>(d_h + own), d_cell = load<W>(d_c + own);
                if (job.d_h) d_out += load<W>(job.d_h + at);
                LSTM::backward<W>(s, zero, zero, load<W>(before_it + own), load<W>(job.c + at), d_out, d_cell);
                store<W>(d_c + own, d_cell);
                for (int g = 0; g < GATES; ++g) store<W>(job.d_sums + gates + g * H, s[g]);
            }
    }
};

// --- what the other files see --------------------------------------------------------------------------

size_t panel_size(int64_t half, int64_t length, int64_t columns) {
    return with_words(half, [&](auto n) { return size_t(in_words<decltype(n)>(length) * columns); });
}

void pack(int64_t half, const float* from, int64_t length, int64_t columns, bool transposed, float* panels) {
    with_words(half, [&](auto n) { pack_panels<decltype(n)>(from, length, columns, transposed, panels); });
}

size_t layer_scratch(const Layer& job, int64_t rows) {
    return with_words(job.half, [&](auto n) { return Block<decltype(n)>::scratch_size(job, rows); });
}

void layer_forward(const Layer& job, int64_t begin, int64_t end, float* scratch) {
    with_words(job.half, [&](auto n) { Block<decltype(n)>(job, begin, end, scratch).forward(); });
}

void layer_backward(const Layer& job, int64_t begin, int64_t end, float* scratch) {
    with_words(job.half, [&](auto n) { Block<decltype(n)>(job, begin, end, scratch).backward(); });
}

int64_t product_items(const Product& job) { return (job.rows + ITEM - 1) / ITEM; }

size_t product_scratch(const Product& job) {
    return with_words(job.half, [&](auto n) { return size_t(ITEM * in_words<decltype(n)>(CHUNK)); });
}

void product(const Product& job, int64_t item, float* scratch) {
    with_words(job.half, [&](auto n) { product_item<decltype(n)>(job, item, scratch); });
}

}  // namespace ISA

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
extern const Layers JOIN(layers_, ISA) = {ISA::panel_size,     ISA::pack,           ISA::layer_scratch,
                                          ISA::layer_forward,  ISA::layer_backward, ISA::product_items,
                                          ISA::product_scratch, ISA::product};

}  // namespace rnnatlas
