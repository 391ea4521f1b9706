// A CUDA driver and a cuDNN that compute on the processor: with them in front of the real libraries, the CUDA executor
// runs where there is no GPU, kernel by kernel and thread by thread. build.sh makes it.
//
// It shows that every kernel computes what the reference does, how many launches a step takes, and that nothing
// forbidden happens during a capture. It shows neither speed nor what only a GPU does: races between blocks, the
// rounding of its own functions, cuDNN's choice of algorithms.
//
// Kernels that it does not know (candle's own) end the process: nothing here returns a value that was not computed. With
// EMULATOR_SKIP=1 nothing at all is computed and memory is zeros: what is left is the sequence of calls.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

// ---- the language of kernels.cu ---------------------------------------------------------------------------------------

#define __device__
#define __shared__ static
struct Dimension {
    unsigned x, y, z;
};
static Dimension blockIdx, threadIdx, gridDim, blockDim;
static int min(int a, int b) { return a < b ? a : b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }
static void __syncthreads();

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

static const int MOST = 1024, STACK = 16384;
static char *stacks;
static void *fiber[MOST], *scheduler;
static bool finished[MOST], in_fibers;
static int running;
static const std::function<void()> *body;

static void fiber_main() {
    (*body)();
    finished[running] = true;
    change_stack(&fiber[running], scheduler);
    abort();
}

static void __syncthreads() {
    if (!in_fibers) {
        fprintf(stderr, "emulator: a kernel synchronises its block and is not on the list of those that do\n");
        abort();
    }
    change_stack(&fiber[running], scheduler);
}

static void run_in_fibers(const std::function<void()> &kernel, int threads) {
    if (!stacks) stacks = (char *)malloc((size_t)MOST * STACK);
    body = &kernel;
    for (int thread = 0; thread < threads; thread++) {
        void **top = (void **)((uintptr_t)(stacks + (size_t)(thread + 1) * STACK) & ~(uintptr_t)15);
        *--top = nullptr;
        *--top = (void *)fiber_main;
        top -= 6;
        memset(top, 0, 6 * sizeof(void *));
        fiber[thread] = top;
        finished[thread] = false;
    }
    in_fibers = true;
    for (int left = threads; left > 0;)
        for (int thread = 0; thread < threads; thread++) {
            if (finished[thread]) continue;
            running = thread;
            threadIdx = {(unsigned)thread, 0, 0};
            change_stack(&scheduler, fiber[thread]);
            left -= finished[thread];
        }
    in_fibers = false;
}

static void run_grid(const std::function<void()> &kernel, Dimension grid, Dimension block, bool synchronises) {
    gridDim = grid;
    blockDim = block;
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x; x++) {
            blockIdx = {x, y, 0};
            if (synchronises) {
                run_in_fibers(kernel, block.x);
                continue;
            }
            for (unsigned thread = 0; thread < block.x; thread++) {
                threadIdx = {thread, 0, 0};
                kernel();
            }
        }
}

// ---- kernels by name --------------------------------------------------------------------------------------------------

typedef std::function<std::function<void()>(void **)> Maker;

template <typename... A, size_t... I>
static std::function<void()> bound(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    auto values = std::make_tuple(*(typename std::decay<A>::type *)arguments[I]...);
    return [=] { std::apply(kernel, values); };
}

template <typename... A> static Maker maker(void (*kernel)(A...)) {
    return [=](void **arguments) { return bound(kernel, arguments, std::index_sequence_for<A...>()); };
}

static const std::map<std::string, Maker> &kernels() {
    static const std::map<std::string, Maker> all = {
#define ENTRY(name) {#name "_f32", maker(f32::name)}, {#name "_bf16", maker(bf16::name)},
#include "entries.inc"
    };
    return all;
}

static bool synchronises(const std::string &name) {
    for (const char *one : {"moments_", "gradient_sums_", "prepare_", "line_", "gaussian_", "profiles_"})
        if (name.rfind(one, 0) == 0) return true;
    return false;
}

// ---- the stream -------------------------------------------------------------------------------------------------------

typedef std::vector<std::function<void()>> Graph;
static Graph *capture;
static unsigned long held, most_held, launches, library_calls, copies, uploads, downloads, allocations, violations, waits;

static void violation(const char *what) {
    violations++;
    fprintf(stderr, "emulator: %s while a graph is captured\n", what);
}

static const bool skip = getenv("EMULATOR_SKIP") != nullptr;

static void submit(std::function<void()> work) {
    if (skip)
        return;
    if (capture)
        capture->push_back(std::move(work));
    else
        work();
}

#define API extern "C" __attribute__((visibility("default")))

API void emulator_reset() { launches = library_calls = copies = allocations = violations = waits = 0; }
// Kernels, library calls, copies and fills, allocations, violations, waits of the host.
API void emulator_counts(unsigned long *to) {
    unsigned long all[] = {launches, library_calls, copies, allocations, violations, waits};
    memcpy(to, all, sizeof all);
}
static void __attribute__((destructor)) tell() {
    if (!getenv("EMULATOR_TELL")) return;
    fprintf(stderr,
            "emulator: %lu kernels, %lu library calls, %lu copies, %lu up, %lu down, %lu allocations, %lu waits, "
            "%lu bytes held at most\n",
            launches, library_calls, copies, uploads, downloads, allocations, waits, most_held);
}

// ---- memory, with marks on both sides ---------------------------------------------------------------------------------

static const size_t MARGIN = 256;
static const unsigned char MARK = 0xa5;
struct Given {
    void *raw;
    size_t bytes;
    bool captured;
};
static std::map<char *, Given> memory;

static void check_margins(char *base, size_t bytes) {
    for (size_t at = 0; at < MARGIN; at++)
        if ((unsigned char)base[at] != MARK || (unsigned char)base[MARGIN + bytes + at] != MARK) {
            fprintf(stderr, "emulator: a kernel wrote outside of %zu bytes\n", bytes);
            abort();
        }
}

static int allocate(void **to, size_t bytes) {
    allocations++;
    // glibc's aligned_alloc does not take again what it gave: a long run would grow with every step.
    void *raw = malloc(bytes + 2 * MARGIN + 256);
    char *base = (char *)(((uintptr_t)raw + 255) & ~(uintptr_t)255);
    memset(base, MARK, MARGIN);
    memset(base + MARGIN, skip ? 0 : 0xff, bytes); // 0xff: f32 and bf16 NaNs, so that what is read unwritten is seen
    memset(base + MARGIN + bytes, MARK, MARGIN);
    memory[base] = {raw, bytes, capture != nullptr};
    held += bytes;
    if (held > most_held) most_held = held;
    *to = base + MARGIN;
    return 0;
}

static int release(void *address) {
    if (!address) return 0;
    char *base = (char *)address - MARGIN;
    auto found = memory.find(base);
    if (found == memory.end()) {
        fprintf(stderr, "emulator: memory is freed that was never given\n");
        abort();
    }
    check_margins(base, found->second.bytes);
    // What a graph allocates is its own, whoever frees it: every replay writes there again.
    if (found->second.captured) return 0;
    if (capture) violation("memory from before is freed");
    held -= found->second.bytes;
    free(found->second.raw);
    memory.erase(found);
    return 0;
}

static void check_all() {
    for (auto &it : memory) check_margins(it.first, it.second.bytes);
}

API int cuMemAllocAsync(void **to, size_t bytes, void *) { return allocate(to, bytes); }
API int cuMemAlloc_v2(void **to, size_t bytes) { return allocate(to, bytes); }
API int cuMemFreeAsync(void *address, void *) { return release(address); }
API int cuMemFree_v2(void *address) { return release(address); }
API int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, void *) {
    copies++;
    if (skip)
        memset(to, value, bytes);
    else
        submit([=] { memset(to, value, bytes); });
    return 0;
}
static int copy(void *to, const void *from, size_t bytes, const char *host) {
    copies++;
    if (host && capture) violation(host);
    if (host || skip)
        memcpy(to, from, bytes);
    else
        submit([=] { memcpy(to, from, bytes); });
    return 0;
}
static int upload(void *to, const void *from, size_t bytes) {
    uploads++;
    return copy(to, from, bytes, "an upload");
}
API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, void *) { return upload(to, from, n); }
API int cuMemcpyHtoD_v2(void *to, const void *from, size_t n) { return upload(to, from, n); }
// Into memory that is not pinned the host waits for what it reads, whatever the call is named.
static int download(void *to, const void *from, size_t bytes) {
    waits++;
    downloads++;
    return copy(to, from, bytes, "a download");
}
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, void *) { return download(to, from, n); }
API int cuMemcpyDtoH_v2(void *to, const void *from, size_t n) { return download(to, from, n); }
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, void *) { return copy(to, from, n, nullptr); }

// ---- the driver -------------------------------------------------------------------------------------------------------

static void *handle() {
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
    *count = told ? atoi(told) : 1;
    return *count ? 0 : 100;
}
API int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
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
API int cuDevicePrimaryCtxRetain(void **context, int) {
    *context = (void *)0x1000;
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
    *left = *total = (size_t)1 << 34;
    return 0;
}
API int cuDeviceGetDefaultMemPool(void **pool, int) {
    *pool = handle();
    return 0;
}
API int cuModuleLoadData(void **module, const void *) {
    *module = handle();
    return 0;
}
API int cuModuleGetFunction(void **function, void *, const char *name) {
    *function = new std::string(name);
    return 0;
}
API int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned, void *, void **arguments, void **) {
    const std::string &name = *(std::string *)function;
    launches++;
    if (getenv("EMULATOR_TRACE")) fprintf(stderr, "launch %s %u x %u\n", name.c_str(), gx, gy);
    if (skip) return 0;
    auto found = kernels().find(name);
    if (found == kernels().end() || gz != 1 || by != 1 || bz != 1) {
        fprintf(stderr, "emulator: kernel %s is none of kernels.cu\n", name.c_str());
        abort();
    }
    auto kernel = found->second(arguments);
    bool barrier = synchronises(name);
    Dimension grid = {gx, gy, 1}, block = {bx, 1, 1};
    submit([=] { run_grid(kernel, grid, block, barrier); });
    return 0;
}
API int cuStreamCreate(void **stream, unsigned) {
    *stream = handle();
    return 0;
}
API int cuEventCreate(void **event, unsigned) {
    *event = handle();
    return 0;
}
API int cuStreamSynchronize(void *) {
    waits++;
    if (capture) violation("the host waits");
    check_all();
    return 0;
}
API int cuStreamBeginCapture_v2(void *, int) {
    capture = new Graph;
    return 0;
}
API int cuStreamIsCapturing(void *, int *is) {
    *is = capture ? 1 : 0;
    return 0;
}
API int cuStreamEndCapture(void *, void **graph) {
    *graph = capture;
    capture = nullptr;
    return 0;
}
API int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    *executable = graph;
    return 0;
}
API int cuGraphLaunch(void *executable, void *) {
    for (auto &work : *(Graph *)executable) work();
    return 0;
}
API int cuGetErrorString(int, const char **text) {
    *text = "an error of the emulator";
    return 0;
}
API int cuGetErrorName(int, const char **text) {
    *text = "EMULATOR";
    return 0;
}
API int cublasCreate_v2(void **library) {
    *library = handle();
    return 0;
}
API int cublasLtCreate(void **library) {
    *library = handle();
    return 0;
}
API int curandCreateGenerator(void **generator, int) {
    *generator = handle();
    return 0;
}

// ---- cuDNN's convolutions ---------------------------------------------------------------------------------------------

struct Descriptor {
    int type, format, dims[4]; // type 0: f32, 9: bf16; format 0: channels first, 1: last
    int padding, stride;
};
#define CREATE(name)                                                                                                   \
    API int name(void **to) {                                                                                          \
        *to = new Descriptor();                                                                                        \
        return 0;                                                                                                      \
    }
#define DESTROY(name)                                                                                                  \
    API int name(void *it) {                                                                                           \
        delete (Descriptor *)it;                                                                                       \
        return 0;                                                                                                      \
    }
CREATE(cudnnCreateTensorDescriptor)
CREATE(cudnnCreateFilterDescriptor)
CREATE(cudnnCreateConvolutionDescriptor)
DESTROY(cudnnDestroyTensorDescriptor)
DESTROY(cudnnDestroyFilterDescriptor)
DESTROY(cudnnDestroyConvolutionDescriptor)
API int cudnnCreate(void **library) {
    *library = handle();
    return 0;
}
API int cudnnSetTensor4dDescriptor(Descriptor *it, int format, int type, int n, int c, int h, int w) {
    *it = {type, format, {n, c, h, w}, 0, 0};
    return 0;
}
API int cudnnSetFilter4dDescriptor(Descriptor *it, int type, int format, int k, int c, int h, int w) {
    *it = {type, format, {k, c, h, w}, 0, 0};
    return 0;
}
API int cudnnSetConvolution2dDescriptor(Descriptor *it, int py, int, int sy, int, int, int, int mode, int type) {
    if (mode != 1 || type != 0) return 3000;
    *it = {0, 0, {0, 0, 0, 0}, py, sy};
    return 0;
}

struct Found { // cudnnConvolutionFwdAlgoPerf_t and its like
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
static const size_t WORKSPACE = 4096;
// The first is fast and not reproducible, the second the one to take.
#define ALGORITHMS(name, workspace)                                                                                    \
    API int name(void *, void *, void *, void *, void *, int asked, int *count, Found *found) {                        \
        *count = 2;                                                                                                    \
        if (asked < 2) abort();                                                                                        \
        found[0] = {0, 0, 1, 0, 0, 0, {0, 0, 0}};                                                                      \
        found[1] = {1, 0, 2, WORKSPACE, 1, 0, {0, 0, 0}};                                                              \
        return 0;                                                                                                      \
    }                                                                                                                  \
    API int workspace(void *, void *, void *, void *, void *, int algorithm, size_t *bytes) {                          \
        *bytes = algorithm == 1 ? WORKSPACE : 0;                                                                       \
        return 0;                                                                                                      \
    }
ALGORITHMS(cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize)
ALGORITHMS(cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnGetConvolutionBackwardDataWorkspaceSize)
ALGORITHMS(cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnGetConvolutionBackwardFilterWorkspaceSize)

static size_t at(const Descriptor &of, int a, int b, int y, int x) {
    const int *d = of.dims;
    if (of.format == 1) return (((size_t)a * d[2] + y) * d[3] + x) * d[1] + b;
    return (((size_t)a * d[1] + b) * d[2] + y) * d[3] + x;
}
static float get(const Descriptor &of, const void *from, size_t where) {
    return of.type == 9 ? bf16::load((const bf16::Bf16 *)from, (int)where) : ((const float *)from)[where];
}
static void set(const Descriptor &of, void *to, size_t where, float value, float beta) {
    if (beta != 0) value += beta * get(of, to, where);
    if (of.type == 9)
        bf16::store((bf16::Bf16 *)to, (int)where, value);
    else
        ((float *)to)[where] = value;
}

// One of the three products: for every pair of a pixel of x and one of y that a weight joins.
enum Product { FORWARD, DATA, FILTER };
static int convolve(Product product, const Descriptor &x, void *px, const Descriptor &w, void *pw, const Descriptor &c,
                    const Descriptor &y, void *py, const Descriptor &out, void *to, const float *alpha,
                    const float *beta, int algorithm, void *work, size_t bytes) {
    int side = (x.dims[2] + 2 * c.padding - w.dims[2]) / c.stride + 1;
    int wide = (x.dims[3] + 2 * c.padding - w.dims[3]) / c.stride + 1;
    bool fits = x.dims[0] == y.dims[0] && x.dims[1] == w.dims[1] && y.dims[1] == w.dims[0] && y.dims[2] == side &&
                y.dims[3] == wide && x.type == y.type && x.type == w.type && x.format == w.format &&
                x.format == y.format && algorithm == 1 && bytes >= WORKSPACE;
    if (!fits) {
        fprintf(stderr, "emulator: the descriptors of a convolution do not fit\n");
        abort();
    }
    library_calls++;
    float scale = *alpha, keep = *beta;
    submit([=] {
        memset(work, 0xff, WORKSPACE);
        std::vector<float> sums((size_t)out.dims[0] * out.dims[1] * out.dims[2] * out.dims[3], 0.0f);
        std::vector<float> vx(sums.size()), vw, vy;
        auto all = [](const Descriptor &of, const void *from, std::vector<float> &to) {
            to.resize((size_t)of.dims[0] * of.dims[1] * of.dims[2] * of.dims[3]);
            for (size_t i = 0; i < to.size(); i++) to[i] = get(of, from, i);
        };
        if (product != DATA) all(x, px, vx);
        if (product != FILTER) all(w, pw, vw);
        if (product != FORWARD) all(y, py, vy);
        for (int n = 0; n < y.dims[0]; n++)
            for (int k = 0; k < y.dims[1]; k++)
                for (int oy = 0; oy < y.dims[2]; oy++)
                    for (int ox = 0; ox < y.dims[3]; ox++) {
                        size_t iy = at(y, n, k, oy, ox);
                        for (int ch = 0; ch < x.dims[1]; ch++)
                            for (int r = 0; r < w.dims[2]; r++)
                                for (int s = 0; s < w.dims[3]; s++) {
                                    int row = oy * c.stride + r - c.padding, column = ox * c.stride + s - c.padding;
                                    if (row < 0 || column < 0 || row >= x.dims[2] || column >= x.dims[3]) continue;
                                    size_t ix = at(x, n, ch, row, column), iw = at(w, k, ch, r, s);
                                    if (product == FORWARD) sums[iy] += vx[ix] * vw[iw];
                                    if (product == DATA) sums[ix] += vy[iy] * vw[iw];
                                    if (product == FILTER) sums[iw] += vy[iy] * vx[ix];
                                }
                    }
        for (size_t i = 0; i < sums.size(); i++) set(out, to, i, scale * sums[i], keep);
    });
    return 0;
}

typedef const Descriptor *D;
// An activation: stride 0 is none, 1 ReLU.
CREATE(cudnnCreateActivationDescriptor)
DESTROY(cudnnDestroyActivationDescriptor)
API int cudnnSetActivationDescriptor(Descriptor *it, int mode, int, double) {
    if (mode != 1 && mode != 5) return 3000;
    it->stride = mode == 1;
    return 0;
}
// From now on cuDNN has no call that joins a convolution with what follows it.
static bool no_joined;
API void emulator_join(int joins) { no_joined = !joins; }
API int cudnnConvolutionBiasActivationForward(void *, const float *alpha, D x, void *px, D w, void *pw, D c,
                                              int algorithm, void *work, size_t bytes, const float *beta, D z, void *pz,
                                              D b, void *pb, D activation, D y, void *py) {
    if (no_joined) return 3000;
    const float nothing = 0;
    Descriptor bias = *b, result = *y, added = *z;
    bool fits = bias.dims[0] == 1 && bias.dims[1] == y->dims[1] && bias.dims[2] == 1 && bias.dims[3] == 1 &&
                bias.type == y->type && !memcmp(added.dims, y->dims, sizeof added.dims) && (algorithm == 1) &&
                (pz != py || *beta == 0);
    if (!fits) {
        fprintf(stderr, "emulator: the descriptors of a joined convolution do not fit\n");
        abort();
    }
    float keep = *beta;
    bool relu = activation->stride;
    convolve(FORWARD, *x, px, *w, pw, *c, *y, py, *y, py, alpha, &nothing, algorithm, work, bytes);
    submit([=] {
        for (int n = 0; n < result.dims[0]; n++)
            for (int k = 0; k < result.dims[1]; k++)
                for (int row = 0; row < result.dims[2]; row++)
                    for (int column = 0; column < result.dims[3]; column++) {
                        size_t where = at(result, n, k, row, column);
                        float value = get(result, py, where) + get(bias, pb, k);
                        if (keep != 0) value += keep * get(added, pz, where);
                        set(result, py, where, relu && !(value > 0) ? 0 : value, 0);
                    }
    });
    return 0;
}
API int cudnnConvolutionForward(void *, const float *alpha, D x, void *px, D w, void *pw, D c, int algorithm,
                                void *work, size_t bytes, const float *beta, D y, void *py) {
    return convolve(FORWARD, *x, px, *w, pw, *c, *y, py, *y, py, alpha, beta, algorithm, work, bytes);
}
API int cudnnConvolutionBackwardData(void *, const float *alpha, D w, void *pw, D y, void *py, D c, int algorithm,
                                     void *work, size_t bytes, const float *beta, D x, void *px) {
    return convolve(DATA, *x, px, *w, pw, *c, *y, py, *x, px, alpha, beta, algorithm, work, bytes);
}
API int cudnnConvolutionBackwardFilter(void *, const float *alpha, D x, void *px, D y, void *py, D c, int algorithm,
                                       void *work, size_t bytes, const float *beta, D w, void *pw) {
    return convolve(FILTER, *x, px, *w, pw, *c, *y, py, *w, pw, alpha, beta, algorithm, work, bytes);
}
