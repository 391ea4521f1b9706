// A CUDA driver, a cuBLAS and a cuDNN that compute on the processor: with them in front of the real libraries, the CUDA
// executor and whole training runs go where there is no GPU, kernel by kernel and thread by thread. build.sh makes it.
//
// It shows that every kernel, ours (from ../../src/cuda) and candle's (candle.cpp, from candle's own sources), computes
// what the reference does, how many launches a step takes, and that nothing forbidden happens during a capture or to
// what was captured. It shows neither speed nor what only a GPU does: races between blocks, sums in any order
// (atomicAdd), the rounding of its own functions, cuDNN's choice of algorithms.
//
// Kernels that it does not know (candle's in f16, bf16 and fp8, its convolutions and quantised ones) end the process, as
// do products of cuBLAS in other types than f32 and f64: nothing here returns a value that was not computed. With
// EMULATOR_SKIP=1 nothing at all is computed and memory is zeros: what is left is the sequence of calls.

#include "emulator.h"

std::recursive_mutex turns;

void give_up(const char *text, const char *name) {
    fprintf(stderr, "emulator: %s%s\n", text, name);
    abort();
}

// ---- the language of kernels.cu ---------------------------------------------------------------------------------------

Dimension blockIdx, threadIdx, gridDim, blockDim;
static int min(int a, int b) { return a < b ? a : b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }

#define KERNEL(name) static void name
namespace f32 {
#define VALUE float
#include "kernels.cu"
#undef VALUE
#undef THREADS
#undef EACH
#undef MANY
#undef FOLDS
} // namespace f32
namespace bf16 {
#define VALUE Bf16
#include "kernels.cu"
#undef VALUE
} // namespace bf16

// ---- threads of a block: fibers that change at __syncthreads ----------------------------------------------------------

#if !defined(__x86_64__)
#error "the emulator changes stacks by hand, on x86-64 only"
#endif
extern "C" void change_stack(void **save, void *load);
asm(".globl change_stack\nchange_stack:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

// No power of two: the ends of all stacks would share a few lines of the processor's cache.
static const int STACK = 16384 + 3 * 64, WARP = 32;
enum State { READY, AT_BLOCK, AT_WARP, ENDED };
static char *stacks;
static void *fiber[MOST_THREADS], *scheduler;
static State state[MOST_THREADS];
static Dimension place[MOST_THREADS];
static bool in_fibers;
static int running, threads_here;
static const std::function<void()> *body;

// Leaves the thread that runs for the next one, if that can go on, and for the scheduler otherwise.
static void leave(State as) {
    void **from = &fiber[running], *to = scheduler;
    state[running] = as;
    if (running + 1 < threads_here && state[running + 1] == READY) {
        threadIdx = place[++running];
        to = fiber[running];
    }
    change_stack(from, to);
}

static void fiber_main() {
    (*body)();
    leave(ENDED);
    abort();
}

static void wait_as(State as) {
    if (!in_fibers) give_up("a kernel synchronises its block and is not on the list of those that do");
    leave(as);
}
void __syncthreads() { wait_as(AT_BLOCK); }
void wait_for_warp() { wait_as(AT_WARP); }
int running_thread() { return running; }

// Lets these threads go on if all that have not ended wait so.
static bool release(int from, int to, State from_state) {
    int waiting = 0;
    for (int thread = from; thread < to; thread++) {
        if (state[thread] == ENDED) continue;
        if (state[thread] != from_state) return false;
        waiting++;
    }
    for (int thread = from; thread < to; thread++)
        if (state[thread] != ENDED) state[thread] = READY;
    return waiting > 0;
}

static void run_block(const std::function<void()> &kernel, int threads) {
    body = &kernel;
    threads_here = threads;
    for (int thread = 0; thread < threads; thread++) {
        void **top = (void **)((uintptr_t)(stacks + (size_t)(thread + 1) * STACK) & ~(uintptr_t)15);
        *--top = nullptr;
        *--top = (void *)fiber_main;
        top -= 6;
        memset(top, 0, 6 * sizeof(void *));
        fiber[thread] = top;
        state[thread] = READY;
    }
    do {
        for (int first = 0; first < threads; first += WARP) {
            int end = first + WARP < threads ? first + WARP : threads;
            do {
                for (int thread = first; thread < end; thread++) {
                    if (state[thread] != READY) continue;
                    running = thread;
                    threadIdx = place[thread];
                    change_stack(&scheduler, fiber[thread]);
                }
            } while (release(first, end, AT_WARP));
        }
    } while (release(0, threads, AT_BLOCK));
    for (int thread = 0; thread < threads; thread++)
        if (state[thread] != ENDED) give_up("threads of a block wait for each other in different places");
}

void run_in_fibers(const Launch &launch, const std::function<void()> &kernel) {
    if (!stacks) stacks = (char *)malloc((size_t)MOST_THREADS * STACK);
    gridDim = launch.grid;
    blockDim = launch.block;
    int threads = (int)threads_of(blockDim);
    for (unsigned thread = 0; thread < (unsigned)threads; thread++)
        place[thread] = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
    in_fibers = true;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block(kernel, threads);
    in_fibers = false;
}

// ---- kernels by name --------------------------------------------------------------------------------------------------

static const Kernels &own_kernels() {
    static const Kernels all = {
#define ENTRY(name) {#name "_f32", Bound<f32::name>::make}, {#name "_bf16", Bound<bf16::name>::make},
#include "entries.inc"
    };
    return all;
}

static bool own_synchronises(const std::string &name) {
    for (const char *one : {"moments_", "gradient_sums_", "prepare_", "line_", "gaussian_", "profiles_", "cross_entropy_", "divergence_",
                            "sum_of_losses_", "unit_rows_"})
        if (name.rfind(one, 0) == 0) return true;
    return false;
}

// ---- the stream -------------------------------------------------------------------------------------------------------

// A further stream in a capture.
struct Side {
    std::vector<Work> waiting;
    size_t done, seen; // of its works, how many are in the graph; of the captured stream's, how many it waits for
};

// What was captured. It is its own executable: both are destroyed, and the last one takes what the graph holds with it.
struct Graph {
    std::vector<Work> work;
    std::vector<char *> memory; // what was allocated during the capture
    int handles;
    void *stream;
    std::map<void *, Side> sides;
    std::map<void *, std::pair<void *, size_t>> events; // where each was recorded: stream, and works before it
};
static Graph *capture;
bool is_capturing() { return capture; }
unsigned long library_calls, blas_calls;
static unsigned long held, most_held, launches, copies, uploads, downloads, allocations, violations, waits, outliving;

static void violation(const char *what) {
    violations++;
    fprintf(stderr, "emulator: %s%s\n", what, capture ? " while a graph is captured" : "");
}

const bool skip = getenv("EMULATOR_SKIP") != nullptr;

void submit(Work work) {
    TURN;
    if (skip) return;
    if (capture)
        capture->work.push_back(std::move(work));
    else
        work();
}

void submit_on(void *stream, Work work) {
    TURN;
    if (skip) return;
    if (!capture || stream == capture->stream) return submit(std::move(work));
    Side &side = capture->sides[stream];
    if (side.seen != capture->work.size()) violation("a further stream does not wait for all that was submitted before it");
    side.waiting.push_back(std::move(work));
}
static void event_in_capture(void *event, void *stream) {
    size_t before = capture->work.size();
    if (stream != capture->stream) before = capture->sides[stream].done + capture->sides[stream].waiting.size();
    capture->events[event] = {stream, before};
}
API int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    TURN;
    if (!capture) return 0;
    auto found = capture->events.find(event);
    if (found == capture->events.end()) return 0;
    auto [from, before] = found->second;
    if (stream != capture->stream) {
        capture->sides[stream].seen = before;
    } else if (from != stream) {
        Side &side = capture->sides[from];
        size_t count = before > side.done ? before - side.done : 0;
        for (size_t at = 0; at < count; at++) capture->work.push_back(std::move(side.waiting[at]));
        side.waiting.erase(side.waiting.begin(), side.waiting.begin() + count);
        side.done += count;
    }
    return 0;
}

API void emulator_reset() {
    launches = library_calls = blas_calls = copies = allocations = violations = waits = outliving = 0;
}
// Kernels, library calls, copies and fills, allocations, violations, waits of the host.
API void emulator_counts(unsigned long *to) {
    unsigned long all[] = {launches, library_calls, copies, allocations, violations, waits};
    memcpy(to, all, sizeof all);
}
// Allocations of captures that were not freed within them, and frees of such memory afterwards.
API void emulator_outliving(unsigned long *to) { *to = outliving; }
static void __attribute__((destructor)) tell() {
    if (!getenv("EMULATOR_TELL")) return;
    fprintf(stderr,
            "emulator: %lu kernels, %lu library calls, %lu products, %lu copies, %lu up, %lu down, %lu allocations, "
            "%lu waits, %lu bytes held at most, %lu allocations that outlive their capture\n",
            launches, library_calls, blas_calls, copies, uploads, downloads, allocations, waits, most_held, outliving);
}

// ---- memory, with marks on both sides ---------------------------------------------------------------------------------

static const size_t MARGIN = 256;
static const unsigned char MARK = 0xff; // NaNs, for whoever reads beyond an end
struct Given {
    void *raw;
    size_t bytes;
    Graph *owner; // whose capture it was allocated in, if in any that is still there
    bool freed;   // within that capture
};
static std::map<char *, Given> memory;

static void check_margins(char *base, size_t bytes) {
    for (size_t at = 0; at < MARGIN; at++)
        if ((unsigned char)base[at] != MARK || (unsigned char)base[MARGIN + bytes + at] != MARK) {
            fprintf(stderr, "emulator: a kernel wrote outside of %zu bytes\n", bytes);
            abort();
        }
}

static size_t most_allowed = (size_t)1 << 34;
// From now on there is that much memory beside what is held.
API void emulator_leave(unsigned long bytes) { most_allowed = bytes ? held + bytes : (size_t)1 << 34; }

static int allocate(void **to, size_t bytes) {
    TURN;
    if (held + bytes > most_allowed) return 2; // CUDA_ERROR_OUT_OF_MEMORY
    allocations++;
    // glibc's aligned_alloc does not take again what it gave: a long run would grow with every step.
    void *raw = malloc(bytes + 2 * MARGIN + 256);
    char *base = (char *)(((uintptr_t)raw + 255) & ~(uintptr_t)255);
    memset(base, MARK, MARGIN);
    memset(base + MARGIN, skip ? 0 : 0xff, bytes); // 0xff: f32 and bf16 NaNs, so that what is read unwritten is seen
    memset(base + MARGIN + bytes, MARK, MARGIN);
    memory[base] = {raw, bytes, capture, false};
    if (capture) capture->memory.push_back(base);
    held += bytes;
    if (held > most_held) most_held = held;
    *to = base + MARGIN;
    return 0;
}

static void forget(char *base) {
    auto found = memory.find(base);
    held -= found->second.bytes;
    free(found->second.raw);
    memory.erase(found);
}

static int release(void *address) {
    TURN;
    if (!address) return 0;
    char *base = (char *)address - MARGIN;
    auto found = memory.find(base);
    if (found == memory.end()) give_up("memory is freed that was never given");
    Given &given = found->second;
    check_margins(base, given.bytes);
    if (!given.owner) {
        if (capture) violation("memory from before is freed");
        forget(base);
        return 0;
    }
    // What a graph allocates is its own until the graph is destroyed: every replay writes there again.
    if (given.freed) give_up("memory of a graph is freed twice");
    given.freed = true;
    if (given.owner == capture) {
        size_t bytes = given.bytes;
        submit([=] { memset(address, 0xff, bytes); });
        return 0;
    }
    outliving++;
    fprintf(stderr, "emulator: memory of a captured graph is freed outside of its capture (%zu bytes)\n", given.bytes);
    return 0;
}

// What a graph freed within itself is nobody's before a replay and after it: NaNs for whoever reads it then.
static void spoil(Graph *graph) {
    for (char *base : graph->memory)
        if (memory[base].freed) memset(base + MARGIN, 0xff, memory[base].bytes);
}

static void tell_outliving(Graph *graph) {
    size_t bytes = 0, count = 0;
    for (char *base : graph->memory) {
        if (memory[base].freed) continue;
        bytes += memory[base].bytes;
        count++;
    }
    if (!count) return;
    outliving += count;
    fprintf(stderr, "emulator: %zu allocations of %zu bytes outlive their capture\n", count, bytes);
}

static int destroy(Graph *graph) {
    TURN;
    if (!graph || --graph->handles) return 0;
    for (char *base : graph->memory) {
        check_margins(base, memory[base].bytes);
        if (memory[base].freed)
            forget(base);
        else
            memory[base].owner = nullptr; // somebody still has it and frees it like any other
    }
    delete graph;
    return 0;
}

// Memory that is handed out again without a call of the driver.
API void emulator_poison(void *to, size_t bytes) {
    submit([=] { memset(to, 0xff, bytes); });
}

static void check_all() {
    for (auto &it : memory) check_margins(it.first, it.second.bytes);
}

API int cuMemAllocAsync(void **to, size_t bytes, void *) { return allocate(to, bytes); }
API int cuMemAlloc_v2(void **to, size_t bytes) { return allocate(to, bytes); }
API int cuMemFreeAsync(void *address, void *) { return release(address); }
API int cuMemFree_v2(void *address) { return release(address); }
API int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, void *) {
    TURN;
    copies++;
    if (skip)
        memset(to, value, bytes);
    else
        submit([=] { memset(to, value, bytes); });
    return 0;
}
static int copy(void *to, const void *from, size_t bytes, const char *host) {
    TURN;
    copies++;
    if (host && capture) violation(host);
    if (host || skip)
        memcpy(to, from, bytes);
    else
        submit([=] { memcpy(to, from, bytes); });
    return 0;
}
static int upload(void *to, const void *from, size_t bytes) {
    TURN;
    uploads++;
    if (!read_later(from, bytes)) violation("a host's memory that an upload may still be reading is uploaded anew");
    return copy(to, from, bytes, "an upload");
}
API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, void *) { return upload(to, from, n); }
API int cuMemcpyHtoD_v2(void *to, const void *from, size_t n) { return upload(to, from, n); }
// Into memory that is not pinned the host waits for what it reads, whatever the call is named.
static int download(void *to, const void *from, size_t bytes) {
    TURN;
    waits++;
    downloads++;
    return copy(to, from, bytes, "a download");
}
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, void *) { return download(to, from, n); }
API int cuMemcpyDtoH_v2(void *to, const void *from, size_t n) { return download(to, from, n); }
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, void *) { return copy(to, from, n, nullptr); }

// ---- the driver -------------------------------------------------------------------------------------------------------

void *new_handle() {
    TURN;
    static uintptr_t next = 0x10000;
    return (void *)(next += 16);
}
static __thread void *current;
API int cuInit(unsigned) { return 0; }
API int cuDriverGetVersion(int *version) {
    const char *told = getenv("EMULATOR_DRIVER");
    *version = told ? atoi(told) : 13000;
    return 0;
}
API int cuDeviceGetCount(int *count) {
    const char *told = getenv("EMULATOR_GPUS");
    *count = told ? atoi(told) : 2;
    return *count ? 0 : 100;
}
API int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return 0;
}
API int cuDeviceGetUuid_v2(char *to, int device) {
    memset(to, 0, 16);
    to[0] = (char)(device + 1);
    return 0;
}
API int cuDeviceGetName(char *name, int length, int) {
    snprintf(name, length, "emulator");
    return 0;
}
API int cuDeviceGetAttribute(int *value, int, int) {
    *value = 1;
    return 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(0x1000 + 16 * (uintptr_t)device);
    return 0;
}
API int cuCtxGetCurrent(void **context) {
    *context = current;
    return 0;
}
API int cuCtxSetCurrent(void *context) {
    current = context;
    return 0;
}
API int cuMemGetInfo_v2(size_t *left, size_t *total) {
    TURN;
    *total = most_allowed;
    *left = most_allowed - held;
    return 0;
}
API int cuDeviceGetDefaultMemPool(void **pool, int) {
    *pool = new_handle();
    return 0;
}
API int cuModuleLoadData(void **module, const void *) {
    *module = new_handle();
    return 0;
}
API int cuModuleGetFunction(void **function, void *, const char *name) {
    *function = new std::string(name);
    return 0;
}
API int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void *, void **arguments, void **) {
    TURN;
    const std::string &name = *(std::string *)function;
    launches++;
    if (getenv("EMULATOR_TRACE")) fprintf(stderr, "launch %s %u x %u\n", name.c_str(), gx, gy);
    if (skip) return 0;
    Launch launch = {{gx, gy, gz}, {bx, by, bz}, false};
    if (threads_of(launch.block) > (size_t)MOST_THREADS || shared > MOST_SHARED)
        give_up("a block is larger than a GPU has room for: ", name.c_str());
    auto found = own_kernels().find(name);
    if (found != own_kernels().end()) {
        launch.synchronises = own_synchronises(name);
    } else {
        found = candle_kernels().find(name);
        if (found == candle_kernels().end()) give_up("none of kernels.cu and of candle.cpp is kernel ", name.c_str());
        launch.synchronises = candle_synchronises(name);
    }
    submit(found->second(launch, arguments));
    return 0;
}
API int cuStreamCreate(void **stream, unsigned) {
    *stream = new_handle();
    return 0;
}
API int cuEventRecord(void *event, void *stream) {
    TURN;
    if (capture) event_in_capture(event, stream);
    read_behind(event);
    return 0;
}
API int cuEventSynchronize(void *event) {
    TURN;
    if (capture) violation("the host waits");
    if (!read_until(event)) violation("a host's memory was changed before its upload was done");
    return 0;
}
API int cuStreamSynchronize(void *) {
    TURN;
    waits++;
    if (!all_read()) violation("a host's memory was changed before its upload was done");
    if (capture) violation("the host waits");
    check_all();
    return 0;
}
API int cuStreamBeginCapture_v2(void *stream, int) {
    TURN;
    // A driver that refuses: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.
    if (getenv("EMULATOR_REFUSES_CAPTURES")) return 900;
    if (capture) give_up("a capture begins within a capture");
    capture = new Graph();
    capture->stream = stream;
    return 0;
}
API int cuStreamIsCapturing(void *, int *is) {
    *is = capture ? 1 : 0;
    return 0;
}
API int cuStreamEndCapture(void *, void **graph) {
    TURN;
    if (!capture) give_up("a capture ends that never began");
    tell_outliving(capture);
    for (auto &it : capture->sides)
        if (!it.second.waiting.empty()) violation("a further stream is not waited for");
    capture->handles = 1;
    *graph = capture;
    capture = nullptr;
    return 0;
}
API int cuGraphInstantiateWithFlags(void **executable, Graph *graph, unsigned long long) {
    graph->handles++;
    *executable = graph;
    return 0;
}
API int cuGraphLaunch(Graph *graph, void *) {
    TURN;
    if (capture) violation("a graph is launched");
    spoil(graph);
    for (auto &work : graph->work) work();
    spoil(graph);
    return 0;
}
API int cuGraphExecDestroy(Graph *graph) { return destroy(graph); }
API int cuGraphDestroy(Graph *graph) { return destroy(graph); }
API int cuGetErrorString(int, const char **text) {
    *text = "an error of the emulator";
    return 0;
}
API int cuGetErrorName(int, const char **text) {
    *text = "EMULATOR";
    return 0;
}
API int cublasCreate_v2(void **library) {
    *library = new_handle();
    return 0;
}
API int cublasLtCreate(void **library) {
    *library = new_handle();
    return 0;
}
API int curandCreateGenerator(void **generator, int) {
    *generator = new_handle();
    return 0;
}
