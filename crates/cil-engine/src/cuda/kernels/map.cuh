// How maps lie in memory, and how their values are read and written.

#define THREADS 256
#ifndef KERNEL
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS) NAMED(name)
#endif

struct Map {
    int channels, height, width, last;
};

struct Bf16 {
    unsigned short bits;
};

typedef VALUE Value;

__device__ inline float load(const float *from, int at) { return from[at]; }

__device__ inline float load(const Bf16 *from, int at) {
    union {
        unsigned bits;
        float value;
    } word;
    word.bits = (unsigned)from[at].bits << 16;
    return word.value;
}

__device__ inline void store(float *to, int at, float value) { to[at] = value; }

// Round to nearest, ties to even; a NaN stays one.
__device__ inline void store(Bf16 *to, int at, float value) {
    union {
        float value;
        unsigned bits;
    } word;
    word.value = value;
    unsigned rounded = word.bits + 0x7fffu + ((word.bits >> 16) & 1u);
    bool nan = (word.bits & 0x7fffffffu) > 0x7f800000u;
    to[at].bits = (unsigned short)(nan ? (word.bits >> 16) | 0x40u : rounded >> 16);
}

__device__ inline void put(Value *to, int at, float value, int add) {
    store(to, at, add ? load(to, at) + value : value);
}

// Four neighbours in memory, read and written at once; what they are read from begins at a multiple of them.
struct alignas(4 * sizeof(Value)) Four {
    Value of[4];
};
struct alignas(16) Floats {
    float of[4];
};

// Whether four neighbours are always channels of one pixel.
__device__ inline bool in_fours(Map map) { return map.last && map.channels % 4 == 0; }

struct Place {
    int row, channel, y, x;
};

__device__ inline Place place(Map map, int at) {
    Place it;
    if (map.last) {
        it.channel = at % map.channels;
        at /= map.channels;
        it.x = at % map.width;
        at /= map.width;
        it.y = at % map.height;
        it.row = at / map.height;
    } else {
        it.x = at % map.width;
        at /= map.width;
        it.y = at % map.height;
        at /= map.height;
        it.channel = at % map.channels;
        it.row = at / map.channels;
    }
    return it;
}

__device__ inline int offset(Map map, int row, int channel, int y, int x) {
    if (map.last) return ((row * map.height + y) * map.width + x) * map.channels + channel;
    return ((row * map.channels + channel) * map.height + y) * map.width + x;
}

__device__ inline int channel_of(Map map, int at) {
    return map.last ? at % map.channels : at / (map.height * map.width) % map.channels;
}

#define EACH(at, count) \
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < (count); at += gridDim.x * blockDim.x)
