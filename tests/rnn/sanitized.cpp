// Runs the kernels from several threads at once, for the sanitizers; test_sanitizers.py compiles it.

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "job.h"

extern "C" {
int rnnatlas_forward(const rnnatlas::Job*);
int rnnatlas_backward(const rnnatlas::Job*);
int64_t rnnatlas_saved_size(const rnnatlas::Job*);
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

int main() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([] {
            for (int cell = 0; cell < 4; ++cell) {
                call(cell, 32, 9, 11);
                call(cell, 13, 3, 5);
                call(cell, 33, 1, 1);
            }
        });
    for (std::thread& caller : callers) caller.join();
    _Exit(0);  // the pool's threads still wait
}
