// Chooses the instruction set, spreads work over threads, and offers the functions that ctypes calls.

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "job.h"
#include "layer.h"

namespace rnnatlas {
namespace {

const char* isa_name = "portable";
const Layers* layers = &layers_portable;
bool has_half = false;  // products of bfloat16 numbers

const Kernels* choose() {
    const char* forced = std::getenv("RNNATLAS_ISA");  // for tests of the slower ones
    [[maybe_unused]] auto allowed = [&](const char* name) { return !forced || !std::strcmp(forced, name); };
#ifdef RNNATLAS_AVX512
    if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
        isa_name = "avx512";
        has_half = __builtin_cpu_supports("avx512bf16");
        layers = has_half ? &layers_avx512bf16 : &layers_avx512;
        return &kernels_avx512;
    }
#endif
#ifdef RNNATLAS_AVX2
    if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        isa_name = "avx2";
        layers = &layers_avx2;
        return &kernels_avx2;
    }
#endif
    return &kernels_portable;
}

const Kernels* const kernels = choose();

// Memory that a thread keeps between calls, unless it grew beyond what is worth keeping.
struct Scratch {
    static constexpr size_t keep = size_t(8) << 20;  // floats
    float* data = nullptr;
    size_t size = 0;

    float* reserve(size_t floats) {
        if (floats > size) {
            release();
            void* memory = nullptr;
            if (posix_memalign(&memory, 64, floats * sizeof(float))) throw std::bad_alloc();
            data = static_cast<float*>(memory);
            size = floats;
        }
        return data;
    }
    void release() {
        std::free(data);
        data = nullptr;
        size = 0;
    }
    ~Scratch() { release(); }
};

thread_local Scratch scratch;

// Threads that wait for work. A call hands them one function, which each runs until no item is left.
class Pool {
  public:
    void run(int threads, const std::function<void()>& work) {
        std::unique_lock<std::mutex> alone(one_call, std::try_to_lock);
        if (!alone || threads < 2) return work();  // another thread of this process is using the pool
        {
            std::lock_guard<std::mutex> lock(mutex);
            try {
                while (started < threads - 1) {
                    std::thread([this, index = started] { serve(index); }).detach();
                    ++started;
                }
            } catch (const std::system_error&) {  // no more are to be had: those that there are do the work
            }
            current = &work;
            invited = running = std::min(started, threads - 1);
            ++generation;
        }
        wake.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex);
        done.wait(lock, [this] { return running == 0; });
    }

  private:
    void serve(int index) {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            wake.wait(lock, [&] { return generation != seen; });
            seen = generation;
            if (index >= invited) continue;
            const std::function<void()>* work = current;
            lock.unlock();
            (*work)();
            lock.lock();
            if (--running == 0) done.notify_one();
        }
    }

    std::mutex one_call, mutex;
    std::condition_variable wake, done;
    const std::function<void()>* current = nullptr;
    uint64_t generation = 0;
    int started = 0, invited = 0, running = 0;
};

// A pointer, so that a forked child, which has none of its parent's threads, starts with a new pool.
// Neither is ever destroyed: their threads may still wait when the process ends.
Pool* pool = new Pool;
const int registered = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });

// Calls work(item, memory of so many floats) for each item. Returns 1 where there was no memory.
template <class Work>
int for_each(int64_t items, int64_t threads, size_t floats, double products, const Work& work) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    auto until_done = [&] {
        try {
            float* memory = scratch.reserve(floats);
            for (int64_t item; (item = next++) < items;) work(item, memory);
            if (scratch.size > Scratch::keep) scratch.release();
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    };
    // Waking a thread takes about as long as 200k multiply-adds.
    threads = products < 200e3 ? 1 : std::min(threads, items);
    if (threads > 1)
        pool->run(int(threads), until_done);
    else
        until_done();
    return failed ? 1 : 0;
}

int for_each_rnn(const Job& job, size_t floats, void (*kernel)(const Job&, int64_t, float*)) {
    double products = double(job.rnns) * job.batch * job.time * job.layers * job.hidden * job.hidden;
    return for_each(job.rnns, job.threads, floats, products,
                    [&](int64_t rnn, float* memory) { kernel(job, rnn, memory); });
}

// Blocks of rows; more than threads, since the first rows have the most steps, but not many, since each block
// reads the weights at each step.
int for_each_block(const Layer& job, void (*kernel)(const Layer&, int64_t, int64_t, float*)) {
    int64_t blocks = job.threads > 1 ? 2 * job.threads : 1, size = (job.rows + blocks - 1) / blocks;
    double products = double(job.rows) * job.steps * job.hidden * job.hidden;
    return for_each((job.rows + size - 1) / size, job.threads, layers->layer_scratch(job, size), products,
                    [&](int64_t block, float* memory) {
                        kernel(job, block * size, std::min((block + 1) * size, job.rows), memory);
                    });
}

}  // namespace
}  // namespace rnnatlas

using rnnatlas::Job;
using rnnatlas::Layer;
using rnnatlas::Product;

#pragma GCC visibility push(default)
extern "C" {

const char* rnnatlas_isa() { return rnnatlas::isa_name; }

const char* rnnatlas_sources() { return RNNATLAS_SOURCES; }

int64_t rnnatlas_saved_size(const Job* job) { return rnnatlas::kernels->saved_size(*job); }

int rnnatlas_forward(const Job* job) {
    return rnnatlas::for_each_rnn(*job, rnnatlas::kernels->forward_scratch(*job), rnnatlas::kernels->forward);
}

int rnnatlas_backward(const Job* job) {
    return rnnatlas::for_each_rnn(*job, rnnatlas::kernels->backward_scratch(*job), rnnatlas::kernels->backward);
}

int rnnatlas_has_half() { return rnnatlas::has_half; }

int64_t rnnatlas_panel_size(int64_t half, int64_t length, int64_t columns) {
    return int64_t(rnnatlas::layers->panel_size(half, length, columns));
}

void rnnatlas_pack(int64_t half, const float* from, int64_t length, int64_t columns, int64_t transposed,
                   float* panels) {
    rnnatlas::layers->pack(half, from, length, columns, transposed, panels);
}

int rnnatlas_layer_forward(const Layer* job) {
    return rnnatlas::for_each_block(*job, rnnatlas::layers->forward);
}

int rnnatlas_layer_backward(const Layer* job) {
    return rnnatlas::for_each_block(*job, rnnatlas::layers->backward);
}

int rnnatlas_product(const Product* job) {
    const rnnatlas::Layers& layers = *rnnatlas::layers;
    layers.pack(job->half, job->b, job->length, job->columns, false, job->panels);
    return rnnatlas::for_each(layers.product_items(*job), job->threads, layers.product_scratch(*job),
                              double(job->rows) * job->columns * job->length,
                              [&](int64_t item, float* memory) { layers.product(*job, item, memory); });
}

void rnnatlas_activate(int64_t which, const float* x, float* y, int64_t count) {
    rnnatlas::kernels->activate(which, x, y, count);
}
}  // extern "C"
#pragma GCC visibility pop
