// Runs the kernels from several threads at once, for the sanitizers; test_sanitizers.py compiles it.

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "job.h"
#include "layer.h"

extern "C" {
int rnnatlas_forward(const rnnatlas::Job*);
int rnnatlas_backward(const rnnatlas::Job*);
int64_t rnnatlas_saved_size(const rnnatlas::Job*);
int64_t rnnatlas_panel_size(int64_t, int64_t, int64_t);
void rnnatlas_pack(int64_t, const float*, int64_t, int64_t, int64_t, float*);
int rnnatlas_layer_forward(const rnnatlas::Layer*);
int rnnatlas_layer_backward(const rnnatlas::Layer*);
int rnnatlas_product(const rnnatlas::Product*);
}

using Floats = std::vector<float>;

Floats random_floats(size_t count) {
    thread_local unsigned seed = 1;
    Floats values(count);
    for (float& value : values) value = rand_r(&seed) / float(RAND_MAX) - 0.5f;
    return values;
}

// Forward, backward, and forward without gradients; every array has exactly the size that it should.
void call(int cell, int hidden, int batch, int time) {
    const int rnns = 5, input = 6, layers = 2, output = 7;
    const int rows = (cell == 0 ? 4 : cell == 1 ? 3 : 1) * hidden;
    std::vector<char> memory(sizeof(rnnatlas::Job) + sizeof(rnnatlas::Weight) * (4 * layers + 2));
    auto& job = *reinterpret_cast<rnnatlas::Job*>(memory.data());
    job.cell = cell;
    job.rnns = rnns;
    job.parts = 1;
    job.batch = batch;
    job.time = time;
    job.input = input;
    job.hidden = hidden;
    job.layers = layers;
    job.output = output;
    job.threads = 3;

    const size_t states = size_t(layers) * rnns * batch * hidden;
    Floats x = random_floats(size_t(rnns) * batch * time * input), d_x(x.size());
    Floats out(size_t(rnns) * batch * time * output), d_out = random_floats(out.size());
    Floats h0 = random_floats(states), c0 = random_floats(states), h_last(states), c_last(states);
    Floats d_h0(states), d_c0(states);
    std::vector<Floats> weights, gradients;
    for (int layer = 0; layer < layers; ++layer)
        for (int size : {rows * (layer ? hidden : input), rows * hidden, rows, rows})
            weights.push_back(random_floats(size_t(rnns) * size));
    for (int size : {output * hidden, output}) weights.push_back(random_floats(size_t(rnns) * size));
    for (const Floats& weight : weights) gradients.emplace_back(weight.size());

    job.x = x.data();
    job.x_rnn = batch * time * input;
    job.x_batch = time * input;
    job.x_time = input;
    job.h0 = h0.data();
    job.out = out.data();
    job.h_last = h_last.data();
    if (cell == 0) {
        job.c0 = c0.data();
        job.c_last = c_last.data();
        job.d_c0 = d_c0.data();
    }
    for (size_t i = 0; i < weights.size(); ++i)
        job.weights[i] = {weights[i].data(), int64_t(weights[i].size()) / rnns, gradients[i].data()};
    Floats saved(size_t(rnns) * rnnatlas_saved_size(&job));
    job.saved = saved.data();
    rnnatlas_forward(&job);
    job.d_out = d_out.data();
    job.d_x = d_x.data();
    job.d_h0 = d_h0.data();
    rnnatlas_backward(&job);
    job.saved = nullptr;
    rnnatlas_forward(&job);
}

// A layer that sequences share, forward and backward, and a product over its tokens.
void call_layer(int inputs, int hidden, std::vector<int64_t> active) {
    int64_t tokens = 0;
    for (int64_t rows : active) tokens += rows;
    const size_t states = size_t(active[0]) * hidden;
    Floats x = random_floats(tokens * inputs), w_x = random_floats(4 * hidden * inputs), d_x(x.size());
    Floats w_h = random_floats(4 * hidden * hidden), sums = random_floats(4 * hidden), gates(tokens * 4 * hidden);
    Floats h(tokens * hidden), c(h.size()), d_h = random_floats(h.size()), d_sums(gates.size());
    Floats h0 = random_floats(states), c0 = random_floats(states), d_c = random_floats(states);
    Floats d_h0(states), d_c0(states), p_x(w_x.size()), p_h(w_h.size());
    auto pack = [&](const Floats& w, int64_t length, int64_t columns, bool transposed, Floats& panels) {
        if (rnnatlas_panel_size(0, length, columns) > int64_t(panels.size())) std::abort();
        rnnatlas_pack(0, w.data(), length, columns, transposed, panels.data());
    };
    pack(w_x, inputs, 4 * hidden, true, p_x);
    pack(w_h, hidden, 4 * hidden, true, p_h);
    rnnatlas::Layer job{};
    job.steps = int64_t(active.size());
    job.rows = active[0];
    job.inputs = inputs;
    job.hidden = hidden;
    job.threads = 3;
    job.active = active.data();
    job.sums = sums.data();
    job.x = x.data();
    job.h0 = h0.data();
    job.c0 = c0.data();
    job.w_x = p_x.data();
    job.w_h = p_h.data();
    job.h = h.data();
    job.c = c.data();
    job.gates = gates.data();
    rnnatlas_layer_forward(&job);
    pack(w_x, 4 * hidden, inputs, false, p_x);
    pack(w_h, 4 * hidden, hidden, false, p_h);
    job.d_h = d_h.data();
    job.d_c = d_c.data();
    job.d_sums = d_sums.data();
    job.d_x = d_x.data();
    job.d_h0 = d_h0.data();
    job.d_c0 = d_c0.data();
    rnnatlas_layer_backward(&job);
    Floats d_w(w_x.size()), panels(x.size());
    rnnatlas::Product product{0, 4 * hidden, inputs, tokens, 3, d_sums.data(), x.data(), d_w.data(), panels.data()};
    rnnatlas_product(&product);
}

int main() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([] {
            for (int cell = 0; cell < 4; ++cell) {
                call(cell, 32, 9, 11);
                call(cell, 13, 3, 5);
                call(cell, 33, 1, 1);
            }
            call_layer(16, 32, {9, 9, 8, 5, 5, 1});
            call_layer(80, 16, {1});
            call_layer(32, 48, std::vector<int64_t>(20, 37));
        });
    for (std::thread& caller : callers) caller.join();
    _Exit(0);  // the pool's threads still wait
}
