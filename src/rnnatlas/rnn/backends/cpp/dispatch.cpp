// Chooses the instruction set, spreads RNNs over threads, and offers the functions that ctypes calls.

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <thread>

#include "job.h"

namespace rnnatlas {
namespace {

const char* isa_name = "portable";

const Kernels* choose() {
    const char* forced = std::getenv("RNNATLAS_ISA");  // for tests of the slower ones
    [[maybe_unused]] auto allowed = [&](const char* name) { return !forced || !std::strcmp(forced, name); };
#ifdef RNNATLAS_AVX512
    if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
        isa_name = "avx512";
        return &kernels_avx512;
    }
#endif
#ifdef RNNATLAS_AVX2
    if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        isa_name = "avx2";
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
            while (started < threads - 1) {
                std::thread([this, index = started] { serve(index); }).detach();
                ++started;
            }
            current = &work;
            invited = running = threads - 1;
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

int for_each_rnn(const Job& job, size_t floats, void (*kernel)(const Job&, int64_t, float*)) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    auto work = [&] {
        try {
            float* memory = scratch.reserve(floats);
            for (int64_t rnn; (rnn = next++) < job.rnns;) kernel(job, rnn, memory);
            if (scratch.size > Scratch::keep) scratch.release();
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    };
    // Waking a thread takes about as long as 200k multiply-adds.
    double products = double(job.rnns) * job.batch * job.time * job.layers * job.hidden * job.hidden;
    int64_t threads = products < 200e3 ? 1 : std::min(job.threads, job.rnns);
    if (threads > 1)
        pool->run(int(threads), work);
    else
        work();
    return failed ? 1 : 0;
}

}  // namespace
}  // namespace rnnatlas

using rnnatlas::Job;

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

void rnnatlas_activate(int64_t which, const float* x, float* y, int64_t count) {
    rnnatlas::kernels->activate(which, x, y, count);
}
}  // extern "C"
#pragma GCC visibility pop
