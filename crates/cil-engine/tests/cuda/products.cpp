// cuBLAS's products and cuDNN's convolutions, on the processor: in f32 (cuBLAS: in f64 too) with sums in the same type;
// maps of bf16 are widened first and rounded at the end, operands in f32 cut to TF32 where the math type allows it.

#include "emulator.h"
#include <algorithm>

#define KERNEL(name) static void name
namespace maps {
#define VALUE float
#include "kernels/map.cuh"
#undef VALUE
} // namespace maps

// ---- a product of matrices --------------------------------------------------------------------------------------------

// Columns are handled a vector at a time: rows of `b` and `c` are padded with zeros to whole vectors.
template <typename T> static const int VECTOR = 64 / sizeof(T);
template <typename T> static int padded(int columns) { return (columns + VECTOR<T> - 1) / VECTOR<T> * VECTOR<T>; }

template <typename T> struct Left { // element (row, column) lies at row * down + column * right
    const T *from;
    std::ptrdiff_t down, right;
};

template <typename T, int ROWS, int VECTORS>
static void tile(Left<T> a, const T *b, T *c, int columns, int depth) {
    typedef T Vector __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
    Vector sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; row++)
        for (int at = 0; at < VECTORS; at++) sums[row][at] = ((const Vector *)(c + (size_t)row * columns))[at];
    for (int inner = 0; inner < depth; inner++) {
        const Vector *line = (const Vector *)(b + (size_t)inner * columns);
        for (int row = 0; row < ROWS; row++) {
            T factor = a.from[row * a.down + inner * a.right];
            for (int at = 0; at < VECTORS; at++) sums[row][at] += factor * line[at];
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int at = 0; at < VECTORS; at++) ((Vector *)(c + (size_t)row * columns))[at] = sums[row][at];
}

template <typename T, int ROWS> static void band(Left<T> a, const T *b, T *c, int columns, int depth) {
    int at = 0;
    for (; at + 2 * VECTOR<T> <= columns; at += 2 * VECTOR<T>) tile<T, ROWS, 2>(a, b + at, c + at, columns, depth);
    if (at < columns) tile<T, ROWS, 1>(a, b + at, c + at, columns, depth);
}

// c += a b, with `b` of depth x columns and `c` of rows x columns; every sum runs through `depth` in order.
template <typename T> static void multiply(Left<T> a, const T *b, T *c, int rows, int columns, int depth) {
    const int MANY = 8;
    for (; rows >= MANY; rows -= MANY, a.from += MANY * a.down, c += (size_t)MANY * columns)
        band<T, MANY>(a, b, c, columns, depth);
    for (; rows > 0; rows--, a.from += a.down, c += columns) band<T, 1>(a, b, c, columns, depth);
}

// ---- cuBLAS -----------------------------------------------------------------------------------------------------------

static const int TRANSPOSED = 1;

// Column by column, as cuBLAS counts: c (m x n) = alpha a (m x k) b (k x n) + beta c, for each of a batch.
template <typename T>
static void products(bool a_turned, bool b_turned, int m, int n, int k, T alpha, const T *a, int lda, long long step_a,
                     const T *b, int ldb, long long step_b, T beta, T *c, int ldc, long long step_c, int batch) {
    int columns = padded<T>(m);
    std::vector<T> lines((size_t)k * columns), sums((size_t)n * columns);
    for (int one = 0; one < batch; one++, a += step_a, b += step_b, c += step_c) {
        for (int inner = 0; inner < k; inner++)
            for (int row = 0; row < m; row++)
                lines[(size_t)inner * columns + row] =
                    a_turned ? a[inner + (size_t)row * lda] : a[row + (size_t)inner * lda];
        std::fill(sums.begin(), sums.end(), (T)0);
        Left<T> left = {b, b_turned ? 1 : (std::ptrdiff_t)ldb, b_turned ? (std::ptrdiff_t)ldb : 1};
        multiply(left, lines.data(), sums.data(), n, columns, k);
        for (int column = 0; column < n; column++)
            for (int row = 0; row < m; row++) {
                T *to = c + row + (size_t)column * ldc, sum = alpha * sums[(size_t)column * columns + row];
                *to = beta == 0 ? sum : sum + beta * *to;
            }
    }
}

template <typename T>
static int submit_products(int a_form, int b_form, int m, int n, int k, const void *alpha, const void *a, int lda,
                           long long step_a, const void *b, int ldb, long long step_b, const void *beta, void *c,
                           int ldc, long long step_c, int batch) {
    if (a_form > TRANSPOSED || b_form > TRANSPOSED) give_up("cuBLAS is asked for conjugates");
    TURN;
    blas_calls++;
    T scale = *(const T *)alpha, keep = *(const T *)beta;
    submit([=] {
        products<T>(a_form, b_form, m, n, k, scale, (const T *)a, lda, step_a, (const T *)b, ldb, step_b, keep, (T *)c,
                    ldc, step_c, batch);
    });
    return 0;
}

API int cublasGemmStridedBatchedEx(void *, int a_form, int b_form, int m, int n, int k, const void *alpha, const void *a,
                                   int a_type, int lda, long long step_a, const void *b, int b_type, int ldb,
                                   long long step_b, const void *beta, void *c, int c_type, int ldc, long long step_c,
                                   int batch, int compute, int) {
    auto all = [=](int type) { return a_type == type && b_type == type && c_type == type; };
    const int F32 = 0, F64 = 1, IN_F32 = 68, IN_F64 = 70;
    auto one = all(F32) && compute == IN_F32   ? submit_products<float>
               : all(F64) && compute == IN_F64 ? submit_products<double>
                                               : nullptr;
    if (!one) give_up("cuBLAS is asked for a product in another type than f32 and f64");
    return one(a_form, b_form, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, batch);
}
API int cublasDgemmStridedBatched(void *, int a_form, int b_form, int m, int n, int k, const double *alpha,
                                  const double *a, int lda, long long step_a, const double *b, int ldb,
                                  long long step_b, const double *beta, double *c, int ldc, long long step_c,
                                  int batch) {
    return submit_products<double>(a_form, b_form, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c,
                                   batch);
}

// ---- cuDNN's convolutions ---------------------------------------------------------------------------------------------

struct Descriptor {
    int type, format, dims[4]; // type 0: f32, 9: bf16; format 0: channels first, 1: last
    int padding, stride, math; // math 3: f32 as it is
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
    *library = new_handle();
    return 0;
}
static std::map<void *, void *> streams; // of cuDNN's handles
API int cudnnSetStream(void *handle, void *stream) {
    TURN;
    streams[handle] = stream;
    return 0;
}
API int cudnnSetTensor4dDescriptor(Descriptor *it, int format, int type, int n, int c, int h, int w) {
    *it = {type, format, {n, c, h, w}, 0, 0, 0};
    return 0;
}
API int cudnnSetFilter4dDescriptor(Descriptor *it, int type, int format, int k, int c, int h, int w) {
    *it = {type, format, {k, c, h, w}, 0, 0, 0};
    return 0;
}
API int cudnnSetConvolution2dDescriptor(Descriptor *it, int py, int, int sy, int, int, int, int mode, int type) {
    if (mode != 1 || type != 0) return 3000;
    *it = {0, 0, {0, 0, 0, 0}, py, sy, 0};
    return 0;
}
API int cudnnSetConvolutionMathType(Descriptor *it, int math) {
    it->math = math;
    return 0;
}
API size_t cudnnGetVersion() { return 91900; }
API int cublasGetVersion_v2(void *, int *version) {
    *version = 130100;
    return 0;
}

struct Found { // cudnnConvolutionFwdAlgoPerf_t and its like
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
static const size_t WORKSPACE = 4096;
// What is refused from now on: 1 adding to a gradient, 2 executing the second algorithm, 4 telling its workspace.
static int refused;
API void emulator_refuse(int what) { refused = what; }
// The first is fast and not reproducible, the second the one to take, the third for where that is refused.
#define ALGORITHMS(name, workspace)                                                                                    \
    API int name(void *, void *, void *, void *, void *, int asked, int *count, Found *found) {                        \
        *count = 3;                                                                                                    \
        if (asked < 3) abort();                                                                                        \
        found[0] = {0, 0, 1, 0, 0, 0, {0, 0, 0}};                                                                      \
        found[1] = {1, 0, 2, WORKSPACE, 1, 0, {0, 0, 0}};                                                              \
        found[2] = {5, 0, 3, WORKSPACE, 1, 0, {0, 0, 0}};                                                              \
        return 0;                                                                                                      \
    }                                                                                                                  \
    API int workspace(void *, void *, void *, void *, void *, int algorithm, size_t *bytes) {                          \
        if (algorithm == 1 && refused & 4) return 3000;                                                                \
        *bytes = algorithm ? WORKSPACE : 0;                                                                            \
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
    return of.type == 9 ? maps::load((const maps::Bf16 *)from, (int)where) : ((const float *)from)[where];
}
static void set(const Descriptor &of, void *to, size_t where, float value, float beta) {
    if (beta != 0) value += beta * get(of, to, where);
    if (of.type == 9)
        maps::store((maps::Bf16 *)to, (int)where, value);
    else
        ((float *)to)[where] = value;
}

// Ten bits of an operand are left of 23, the others cut off: what a tensor core reads of a word.
static void cut(const Descriptor &of, const Descriptor &by, std::vector<float> &lines) {
    if (of.type != 0 || by.math == 3) return;
    for (float &value : lines) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits &= 0xffffe000u;
        memcpy(&value, &bits, sizeof bits);
    }
}

// Values and sums of a map or of weights with channels last, each pixel's channels in a line of `width`.
typedef std::vector<float> Lines;
static Lines lines_of(const Descriptor &of, const void *from, int width) {
    const int *d = of.dims;
    Lines lines((size_t)d[0] * d[2] * d[3] * width);
    float *to = lines.data();
    for (int a = 0; a < d[0]; a++)
        for (int y = 0; y < d[2]; y++)
            for (int x = 0; x < d[3]; x++, to += width)
                for (int b = 0; b < d[1]; b++) to[b] = get(of, from, at(of, a, b, y, x));
    return lines;
}
static void put_lines(const Descriptor &of, void *to, const Lines &lines, int width, float scale, float keep) {
    const int *d = of.dims;
    const float *from = lines.data();
    for (int a = 0; a < d[0]; a++)
        for (int y = 0; y < d[2]; y++)
            for (int x = 0; x < d[3]; x++, from += width)
                for (int b = 0; b < d[1]; b++) set(of, to, at(of, a, b, y, x), scale * from[b], keep);
}

// For every pixel of y from `first` on and each place of the window, the line of x that the window covers there, if it
// lies inside of x.
template <typename Each>
static void windows(const Descriptor &x, const Descriptor &w, const Descriptor &c, const Descriptor &y, size_t first,
                    size_t pixels, const Each &each) {
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        int ox = (first + pixel) % y.dims[3], oy = (first + pixel) / y.dims[3] % y.dims[2];
        size_t image = (first + pixel) / y.dims[3] / y.dims[2];
        for (int r = 0; r < w.dims[2]; r++)
            for (int s = 0; s < w.dims[3]; s++) {
                int row = oy * c.stride + r - c.padding, column = ox * c.stride + s - c.padding;
                bool inside = row >= 0 && column >= 0 && row < x.dims[2] && column < x.dims[3];
                if (inside) each(pixel, r * w.dims[3] + s, (image * x.dims[2] + row) * x.dims[3] + column);
            }
    }
}

// One of the three products, with a line of what the window covers for each pixel of y: some pixels at a time.
enum Product { FORWARD, DATA, FILTER };
static void convolve_now(Product product, const Descriptor &x, void *px, const Descriptor &w, void *pw,
                         const Descriptor &c, const Descriptor &y, void *py, void *to, float scale, float keep) {
    const size_t SOME = 256, all = (size_t)y.dims[0] * y.dims[2] * y.dims[3];
    int channels = x.dims[1], outputs = y.dims[1], wide = padded<float>(outputs);
    int places = w.dims[2] * w.dims[3], covered = places * channels, line = padded<float>(covered);
    size_t inputs = (size_t)x.dims[0] * x.dims[2] * x.dims[3];
    Lines vx = product == DATA ? Lines(inputs * channels) : lines_of(x, px, channels);
    Lines vy = product == FORWARD ? Lines(all * wide) : lines_of(y, py, wide);
    // Weights as a line for each place and channel of the window, or as one for each output.
    Lines vw(product == FORWARD ? (size_t)covered * wide : (size_t)outputs * line);
    Lines flat = product == FILTER ? Lines() : lines_of(w, pw, channels);
    if (product != DATA) cut(x, c, vx);
    if (product != FORWARD) cut(y, c, vy);
    if (product != FILTER) cut(w, c, flat);
    for (int k = 0; product != FILTER && k < outputs; k++)
        for (int at = 0; at < covered; at++)
            vw[product == FORWARD ? (size_t)at * wide + k : (size_t)k * line + at] = flat[(size_t)k * covered + at];
    Lines under(SOME * line);
    for (size_t first = 0; first < all; first += SOME) {
        size_t pixels = std::min(SOME, all - first);
        float *out = vy.data() + first * wide;
        std::fill(under.begin(), under.end(), 0.0f);
        if (product == DATA) {
            multiply<float>({out, wide, 1}, vw.data(), under.data(), pixels, line, outputs);
            windows(x, w, c, y, first, pixels, [&](size_t pixel, int place, size_t where) {
                const float *from = under.data() + pixel * line + place * channels;
                for (int ch = 0; ch < channels; ch++) vx[where * channels + ch] += from[ch];
            });
            continue;
        }
        windows(x, w, c, y, first, pixels, [&](size_t pixel, int place, size_t where) {
            const float *from = vx.data() + where * channels;
            std::copy(from, from + channels, under.data() + pixel * line + place * channels);
        });
        if (product == FORWARD)
            multiply<float>({under.data(), line, 1}, vw.data(), out, pixels, wide, covered);
        else
            multiply<float>({out, 1, wide}, under.data(), vw.data(), outputs, line, pixels);
    }
    if (product == FORWARD) put_lines(y, to, vy, wide, scale, keep);
    if (product == DATA) put_lines(x, to, vx, channels, scale, keep);
    if (product != FILTER) return;
    flat.resize((size_t)outputs * covered);
    for (size_t k = 0; k < (size_t)outputs; k++) std::copy_n(&vw[k * line], covered, &flat[k * covered]);
    put_lines(w, to, flat, channels, scale, keep);
}

static int convolve(void *handle, Product product, const Descriptor &x, void *px, const Descriptor &w, void *pw, const Descriptor &c,
                    const Descriptor &y, void *py, void *to, const float *alpha, const float *beta, int algorithm,
                    void *work, size_t bytes) {
    int side = (x.dims[2] + 2 * c.padding - w.dims[2]) / c.stride + 1;
    int wide = (x.dims[3] + 2 * c.padding - w.dims[3]) / c.stride + 1;
    bool fits = x.dims[0] == y.dims[0] && x.dims[1] == w.dims[1] && y.dims[1] == w.dims[0] && y.dims[2] == side &&
                y.dims[3] == wide && x.type == y.type && x.type == w.type && x.format == w.format &&
                x.format == y.format && algorithm && bytes >= WORKSPACE;
    if (!fits) give_up("the descriptors of a convolution do not fit");
    TURN;
    if ((*beta != 0 && refused & 1) || (algorithm == 1 && refused & 2)) return 3000;
    library_calls++;
    float scale = *alpha, keep = *beta;
    submit_on(streams[handle], [=] {
        memset(work, 0xff, WORKSPACE);
        convolve_now(product, x, px, w, pw, c, y, py, to, scale, keep);
    });
    return 0;
}

typedef const Descriptor *D;
// An activation: stride 0 is none, 1 ReLU; padding: whether NaNs are to be kept.
CREATE(cudnnCreateActivationDescriptor)
DESTROY(cudnnDestroyActivationDescriptor)
API int cudnnSetActivationDescriptor(Descriptor *it, int mode, int nan, double) {
    if (mode != 1 && mode != 5) return 3000;
    it->stride = mode == 1;
    it->padding = nan;
    return 0;
}
// From now on cuDNN has no call that joins a convolution with what follows it.
static bool no_joined;
API void emulator_join(int joins) { no_joined = !joins; }
API int cudnnConvolutionBiasActivationForward(void *handle, const float *alpha, D x, void *px, D w, void *pw, D c,
                                              int algorithm, void *work, size_t bytes, const float *beta, D z, void *pz,
                                              D b, void *pb, D activation, D y, void *py) {
    // NVIDIA's reference: only where NaNs need not be kept.
    if (no_joined || activation->padding) return 3000;
    const float nothing = 0;
    Descriptor bias = *b, result = *y, added = *z;
    bool fits = bias.dims[0] == 1 && bias.dims[1] == y->dims[1] && bias.dims[2] == 1 && bias.dims[3] == 1 &&
                bias.type == y->type && !memcmp(added.dims, y->dims, sizeof added.dims) && (algorithm == 1) &&
                (pz != py || *beta == 0);
    if (!fits) give_up("the descriptors of a joined convolution do not fit");
    float keep = *beta;
    bool relu = activation->stride;
    int answer = convolve(handle, FORWARD, *x, px, *w, pw, *c, *y, py, py, alpha, &nothing, algorithm, work, bytes);
    if (answer) return answer;
    TURN;
    submit_on(streams[handle], [=] {
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
API int cudnnConvolutionForward(void *handle, const float *alpha, D x, void *px, D w, void *pw, D c, int algorithm,
                                void *work, size_t bytes, const float *beta, D y, void *py) {
    return convolve(handle, FORWARD, *x, px, *w, pw, *c, *y, py, py, alpha, beta, algorithm, work, bytes);
}
API int cudnnConvolutionBackwardData(void *handle, const float *alpha, D w, void *pw, D y, void *py, D c, int algorithm,
                                     void *work, size_t bytes, const float *beta, D x, void *px) {
    return convolve(handle, DATA, *x, px, *w, pw, *c, *y, py, px, alpha, beta, algorithm, work, bytes);
}
API int cudnnConvolutionBackwardFilter(void *handle, const float *alpha, D x, void *px, D y, void *py, D c, int algorithm,
                                       void *work, size_t bytes, const float *beta, D w, void *pw) {
    return convolve(handle, FILTER, *x, px, *w, pw, *c, *y, py, pw, alpha, beta, algorithm, work, bytes);
}
