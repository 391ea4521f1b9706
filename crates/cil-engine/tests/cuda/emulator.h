// What the emulator's files share: the language of kernels, the threads that run them, the stream.

#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

[[noreturn]] void give_up(const char *text, const char *name = "");

// There is one processor, and ranks that are threads take turns on it, call by call.
extern std::recursive_mutex turns;
#define TURN std::lock_guard<std::recursive_mutex> turn(turns)

// ---- the language of kernels ------------------------------------------------------------------------------------------

#define __device__
#define __shared__ static
struct Dimension {
    unsigned x, y, z;
};
extern Dimension blockIdx, threadIdx, gridDim, blockDim;
static inline size_t threads_of(Dimension block) { return (size_t)block.x * block.y * block.z; }

// A barrier for the threads of a block, and one for those of a warp that have not ended.
void __syncthreads();
void wait_for_warp();
// Which thread of its block runs, from 0.
int running_thread();

// ---- kernels by name --------------------------------------------------------------------------------------------------

static const int MOST_THREADS = 1024;
static const size_t MOST_SHARED = 48 << 10;
struct Launch {
    Dimension grid, block;
    bool synchronises; // whether its threads wait for each other
};

// Runs every block of the launch, its threads as fibers that wait for each other.
void run_in_fibers(const Launch &launch, const std::function<void()> &thread);

typedef std::function<void()> Work;
typedef Work (*Maker)(const Launch &, void **arguments);
typedef std::map<std::string, Maker> Kernels;

template <typename One> static void run_one_by_one(const Launch &launch, const One &one) {
    gridDim = launch.grid;
    blockDim = launch.block;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
                for (threadIdx.z = 0; threadIdx.z < blockDim.z; threadIdx.z++)
                    for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++)
                        for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) one();
}

template <auto kernel> struct Bound;
template <typename... A, void (*kernel)(A...)> struct Bound<kernel> {
    template <size_t... I> static std::tuple<std::decay_t<A>...> read(void **from, std::index_sequence<I...>) {
        return {*(std::decay_t<A> *)from[I]...};
    }
    // The arguments are read now, as the driver does; what they point to is read when the work is done.
    static Work make(const Launch &launch, void **arguments) {
        auto values = read(arguments, std::index_sequence_for<A...>());
        auto one = [values] { std::apply(kernel, values); };
        if (launch.synchronises) return [=] { run_in_fibers(launch, one); };
        return [=] { run_one_by_one(launch, one); };
    }
};

// candle's kernels, and whether the threads of the named one wait for each other.
const Kernels &candle_kernels();
bool candle_synchronises(const std::string &name);

// ---- the stream -------------------------------------------------------------------------------------------------------

// EMULATOR_SKIP: nothing is computed.
extern const bool skip;
extern unsigned long library_calls, blas_calls;

// Page-locked memory: what an upload reads of it, it may read any time before an event behind it (pinned.cpp). Each says
// whether the host has left alone what it had to.
bool read_later(const void *from, size_t bytes);
void read_behind(void *event);
bool read_until(void *event);
bool all_read();

void *new_handle();
bool is_capturing();
// Does the work, or adds it to the graph that is being captured.
void submit(Work work);
// The same on a stream that may be another than the captured one: what it is given there is done as late as may be, where
// the captured stream waits for it.
void submit_on(void *stream, Work work);
