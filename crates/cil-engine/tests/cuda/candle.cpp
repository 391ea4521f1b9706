// candle's own kernels, from the sources that cargo has fetched, as they stand; build.sh finds them. They are compiled as
// for a GPU so old that it has neither f16 nor bf16 nor fp8 (__CUDA_ARCH__ is 0): what is left is f32, f64 and whole
// numbers. Kernels of convolutions and of quantised models are left out.
//
// build.sh reads this file twice: once for the names of the kernels alone (KERNEL_HERE marks them), then to compile it.

#include "emulator.h"
#include <algorithm>
#include <cassert>
#include <limits>
#include <math.h>
#include <stdint.h>

#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#ifdef KERNEL_HERE
#define __global__ KERNEL_HERE
#else
#define __global__
#endif
#define __host__
#define __forceinline__ inline

// ---- what CUDA's headers declare --------------------------------------------------------------------------------------

struct __half {};
__half __hmax_nan(__half, __half);
__half __hmin_nan(__half, __half);
unsigned __half_as_ushort(__half);
__half __ushort_as_half(unsigned);
struct __nv_fp8_e4m3 {
    unsigned char __x;
    explicit __nv_fp8_e4m3(float);
};
enum { __NV_E4M3 };
__half __nv_cvt_fp8_to_halfraw(unsigned char, int);
float __half2float(__half);

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }

#define BOTH(type)                                                                                                     \
    static inline type min(type a, type b) { return a < b ? a : b; }                                                   \
    static inline type max(type a, type b) { return a < b ? b : a; }
BOTH(int)
BOTH(unsigned)
BOTH(long)
BOTH(unsigned long)
static inline float rsqrtf(float of) { return 1 / sqrtf(of); }
static inline float normcdff(float of) { return (float)(0.5 * erfc(-(double)of * M_SQRT1_2)); }
static inline double normcdf(double of) { return 0.5 * erfc(-of * M_SQRT1_2); }

// One thread at a time: nothing comes between. The order is that of the threads, where a GPU's is any.
template <typename T> static T atomicAdd(T *to, T value) {
    T before = *to;
    *to = before + value;
    return before;
}
template <typename T, typename V> static T atomicMin(T *to, V by) {
    T value = (T)by;
    T before = *to;
    if (value < before) *to = value;
    return before;
}
template <typename T, typename V> static T atomicMax(T *to, V by) {
    T value = (T)by;
    T before = *to;
    if (before < value) *to = value;
    return before;
}
template <typename T, typename V> static T atomicCAS(T *to, T expected, V value) {
    T before = *to;
    if (before == expected) *to = (T)value;
    return before;
}
template <typename To, typename From> static To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
static inline float __int_as_float(int bits) { return same_bits<float>(bits); }
static inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
static inline int __float_as_int(float value) { return same_bits<int>(value); }
static inline double __longlong_as_double(long long bits) { return same_bits<double>(bits); }
static inline long long __double_as_longlong(double value) { return same_bits<long long>(value); }

// The value that another thread of the warp brings to this call: all bring theirs, then all read, then all go on.
template <typename T> static T __shfl_xor_sync(unsigned mask, T value, int lanes, int = 32) {
    static T table[MOST_THREADS];
    int thread = running_thread(), other = thread ^ lanes;
    if (mask != 0xffffffffu || other >= (int)threads_of(blockDim)) give_up("a shuffle is among a part of a warp");
    table[thread] = value;
    wait_for_warp();
    T found = table[other];
    wait_for_warp();
    return found;
}

namespace cuda {
namespace std {
using ::std::numeric_limits;
}
} // namespace cuda

// ---- the kernels ------------------------------------------------------------------------------------------------------

namespace affine {
#include "affine.cu"
}
namespace binary {
#include "binary.cu"
}
namespace cast {
#include "cast.cu"
}
namespace fill {
#include "fill.cu"
}
namespace indexing {
#include "indexing.cu"
}
namespace reduce {
using ::atomicAdd; // beside its own for f64
#include "reduce.cu"
}
namespace ternary {
#include "ternary.cu"
}
namespace unary {
#include "unary.cu"
}
// Its shared memory is as large as the launch says: no array of the kernel's own.
#undef __shared__
#define __shared__
namespace sort {
int dst_row[MOST_SHARED / sizeof(int)];
#include "sort.cu"
} // namespace sort

#ifndef KERNEL_HERE
const Kernels &candle_kernels() {
    using namespace affine;
    using namespace binary;
    using namespace cast;
    using namespace fill;
    using namespace indexing;
    using namespace reduce;
    using namespace ternary;
    using namespace unary;
    using namespace sort;
    static const Kernels all = {
#define ENTRY(name) {#name, Bound<name>::make},
#include "candle.inc"
    };
    return all;
}

bool candle_synchronises(const std::string &name) {
    if (name.rfind("fast_sum_small_", 0) == 0) return false;
    for (const char *one : {"fast_", "softmax_", "rmsnorm_", "layernorm_", "asort_"})
        if (name.rfind(one, 0) == 0) return true;
    return false;
}
#endif
