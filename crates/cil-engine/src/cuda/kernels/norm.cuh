// Batch norm with the addition and activation behind it, forward and backward.

// One block sums a chunk of the rows and pixels of `lanes` channels (a power of two): neighbours in memory are read by
// neighbouring threads in both orders. What the chunks give is added in their order, so a sum is the same every time.
struct Sums {
    int rows, chunks, span, lanes;
};

__device__ inline int element(Map map, int channel, int at) {
    int positions = map.height * map.width;
    if (map.last) return at * map.channels + channel;
    return (at / positions * map.channels + channel) * positions + at % positions;
}

// Adds over the threads of one channel and leaves the sums of each in `partial[chunk][2][channels]`.
__device__ inline void reduce(Map map, Sums sums, float first, float second, float *partial) {
    __shared__ float a[THREADS];
    __shared__ float b[THREADS];
    int thread = threadIdx.x;
    a[thread] = first;
    b[thread] = second;
    __syncthreads();
    for (int width = THREADS / 2; width >= sums.lanes; width /= 2) {
        if (thread < width) {
            a[thread] += a[thread + width];
            b[thread] += b[thread + width];
        }
        __syncthreads();
    }
    int channel = blockIdx.x * sums.lanes + thread;
    if (thread < sums.lanes && channel < map.channels) {
        partial[(2 * blockIdx.y + 0) * map.channels + channel] = a[thread];
        partial[(2 * blockIdx.y + 1) * map.channels + channel] = b[thread];
    }
}

// Sums of x - k and its square, k the channel's first value: what is squared is then of the size of the spread.
KERNEL(moments)(const Value *x, float *partial, Map map, Sums sums) {
    int channel = blockIdx.x * sums.lanes + threadIdx.x % sums.lanes;
    int count = sums.rows * map.height * map.width;
    int end = min(count, (int)(blockIdx.y + 1) * sums.span);
    float first = 0, second = 0;
    if (channel < map.channels) {
        float shift = load(x, element(map, channel, 0));
        int step = THREADS / sums.lanes;
        for (int at = blockIdx.y * sums.span + threadIdx.x / sums.lanes; at < end; at += step) {
            float value = load(x, element(map, channel, at)) - shift;
            first += value;
            second += value * value;
        }
    }
    reduce(map, sums, first, second, partial);
}

// Adds what the chunks gave for one channel, the block's, in a fixed order; every thread of it gets the sums.
__device__ inline void merge(const float *partial, int chunks, int channels, int channel, double *first,
                             double *second) {
    __shared__ double a[THREADS];
    __shared__ double b[THREADS];
    int thread = threadIdx.x;
    double mine = 0, other = 0;
    for (int chunk = thread; chunk < chunks; chunk += THREADS) {
        mine += partial[(2 * chunk + 0) * channels + channel];
        other += partial[(2 * chunk + 1) * channels + channel];
    }
    a[thread] = mine;
    b[thread] = other;
    __syncthreads();
    for (int width = THREADS / 2; width > 0; width /= 2) {
        if (thread < width) {
            a[thread] += a[thread + width];
            b[thread] += b[thread + width];
        }
        __syncthreads();
    }
    *first = a[0];
    *second = b[0];
}

// Mean, biased and unbiased variance of a channel's `count` values, `seen[3][channels]`, whose squared distances from
// their mean add up to `spread`.
__device__ inline void note(float *seen, int channels, int channel, double mean, double spread, double count) {
    seen[channel] = (float)mean;
    seen[channels + channel] = (float)(spread / count);
    seen[2 * channels + channel] = (float)(spread / (count > 1 ? count - 1 : 1));
}

// What a batch norm does with a channel, `table[4][channels]`.
__device__ inline void tabulate(float *table, int channels, int channel, float centre, float variance, const float *weight,
                                const float *bias, float epsilon) {
    float inverse = 1.0f / sqrtf(variance + epsilon);
    table[channel] = centre;
    table[channels + channel] = inverse;
    table[2 * channels + channel] = weight ? weight[channel] * inverse : inverse;
    table[3 * channels + channel] = bias ? bias[channel] : 0.0f;
}

// By channel: what the batch norm does, `table[4][channels]` = centre, 1 / deviation, factor, shift. With `partial` also
// mean, biased and unbiased variance of the batch, `seen[3][channels]`: what it normalises with if `batch` is set.
// A block a channel.
KERNEL(prepare)(const Value *x, const float *partial, Map map, Sums sums, float *seen, int batch,
                        const float *running_mean, const float *running_variance, const float *weight,
                        const float *bias, float epsilon, float *table) {
    int channels = map.channels, channel = blockIdx.x;
    float centre = 0, variance = 0;
    double first = 0, second = 0, count = (double)sums.rows * map.height * map.width;
    if (partial) merge(partial, sums.chunks, channels, channel, &first, &second);
    if (threadIdx.x > 0) return;
    if (partial) {
        double spread = second - first * first / count;
        if (spread < 0) spread = 0;
        note(seen, channels, channel, load(x, element(map, channel, 0)) + first / count, spread, count);
        centre = seen[channel];
        variance = seen[channels + channel];
    }
    if (!batch) {
        centre = running_mean[channel];
        variance = running_variance[channel];
    }
    tabulate(table, channels, channel, centre, variance, weight, bias, epsilon);
}

// slope: 1 for no activation, 0 for ReLU.
KERNEL(normalise)(const Value *x, const float *table, const Value *residual, Value *y, Map map, int count, float slope) {
    int channels = map.channels;
    if (in_fours(map)) {
        EACH(four, count / 4) {
            int channel = 4 * four % channels;
            Four from = ((const Four *)x)[four], to, more = from;
            if (residual) more = ((const Four *)residual)[four];
            Floats centre = *(const Floats *)(table + channel);
            Floats factor = *(const Floats *)(table + 2 * channels + channel);
            Floats shift = *(const Floats *)(table + 3 * channels + channel);
            for (int k = 0; k < 4; k++) {
                float value = (load(from.of, k) - centre.of[k]) * factor.of[k] + shift.of[k];
                if (residual) value += load(more.of, k);
                store(to.of, k, value > 0 ? value : slope * value);
            }
            ((Four *)y)[four] = to;
        }
        return;
    }
    EACH(at, count) {
        int channel = channel_of(map, at);
        float centred = load(x, at) - table[channel];
        float value = centred * table[2 * channels + channel] + table[3 * channels + channel];
        if (residual) value += load(residual, at);
        store(y, at, value > 0 ? value : slope * value);
    }
}

// Sums of the gradient behind the activation, and of its product with the normalised value; `y` is what the activation
// gave, `table` may be absent (then the second sum is 0: a convolution's bias needs the first alone).
KERNEL(gradient_sums)(const Value *gradient, const Value *y, const Value *x, const float *table, float *partial, Map map,
                              Sums sums, float slope) {
    int channel = blockIdx.x * sums.lanes + threadIdx.x % sums.lanes;
    int count = sums.rows * map.height * map.width;
    int end = min(count, (int)(blockIdx.y + 1) * sums.span);
    float first = 0, second = 0;
    if (channel < map.channels) {
        float centre = table ? table[channel] : 0, inverse = table ? table[map.channels + channel] : 0;
        int step = THREADS / sums.lanes;
        for (int at = blockIdx.y * sums.span + threadIdx.x / sums.lanes; at < end; at += step) {
            int where = element(map, channel, at);
            float value = load(gradient, where);
            if (slope != 1.0f && !(load(y, where) > 0)) value *= slope;
            first += value;
            if (table) second += value * (load(x, where) - centre) * inverse;
        }
    }
    reduce(map, sums, first, second, partial);
}

// `line[4][channels]` = a, b, c, centre, by which the gradient of a channel's input is a * gradient + b * (x - centre) + c.
// With batch statistics that is scale / deviation * (gradient - mean(gradient) - normalised * mean(gradient *
// normalised)), with `first` and `second` the sums over the batch; the gradient of the mean adds 1 / count of it to each
// value, that of the variance 2 (x - mean) / count.
__device__ inline void draw(float *line, int channels, int channel, double first, double second, float count,
                            const float *table, const float *seen, int batch, const float *of_mean,
                            const float *of_variance) {
    float factor = table[2 * channels + channel], b = 0, c = 0;
    if (batch) {
        b = -factor * table[channels + channel] * (float)second / count;
        c = -factor * (float)first / count;
    }
    if (of_mean) {
        b += 2 * of_variance[channel] / count;
        c += of_mean[channel] / count;
    }
    line[channel] = factor;
    line[channels + channel] = b;
    line[2 * channels + channel] = c;
    line[3 * channels + channel] = seen ? seen[channel] : table[channel];
}

// By channel: gradients of scale and shift, and the line of the input's gradient. A block a channel.
KERNEL(line)(const float *partial, Map map, Sums sums, const float *table, const float *seen, int batch,
                            const float *of_mean, const float *of_variance, float *of_weight, float *of_bias,
                            float *out) {
    int channels = map.channels, channel = blockIdx.x;
    float count = (float)((double)sums.rows * map.height * map.width);
    double first = 0, second = 0;
    if (partial) merge(partial, sums.chunks, channels, channel, &first, &second);
    if (threadIdx.x > 0) return;
    if (of_weight) of_weight[channel] = (float)second;
    if (of_bias) of_bias[channel] = (float)first;
    if (out) draw(out, channels, channel, first, second, count, table, seen, batch, of_mean, of_variance);
}

KERNEL(normalise_backward)(const Value *gradient, const Value *y, const Value *x, const float *line, Value *of_x, int add_x,
                                   Value *of_residual, int add_residual, Map map, int count, float slope) {
    int channels = map.channels;
    if (in_fours(map)) {
        EACH(four, count / 4) {
            int channel = 4 * four % channels;
            Four from = gradient ? ((const Four *)gradient)[four] : Four();
            float value[4];
            for (int k = 0; k < 4; k++) value[k] = load(from.of, k);
            if (slope != 1.0f) {
                Four output = ((const Four *)y)[four];
                for (int k = 0; k < 4; k++)
                    if (!(load(output.of, k) > 0)) value[k] *= slope;
            }
            if (of_residual) {
                Four to = from;
                if (add_residual) to = ((const Four *)of_residual)[four];
                for (int k = 0; k < 4; k++) put(to.of, k, value[k], add_residual);
                ((Four *)of_residual)[four] = to;
            }
            if (of_x) {
                Four input = ((const Four *)x)[four], to = input;
                if (add_x) to = ((const Four *)of_x)[four];
                Floats a = *(const Floats *)(line + channel), b = *(const Floats *)(line + channels + channel);
                Floats c = *(const Floats *)(line + 2 * channels + channel);
                Floats centre = *(const Floats *)(line + 3 * channels + channel);
                for (int k = 0; k < 4; k++) {
                    float centred = load(input.of, k) - centre.of[k];
                    put(to.of, k, a.of[k] * value[k] + b.of[k] * centred + c.of[k], add_x);
                }
                ((Four *)of_x)[four] = to;
            }
        }
        return;
    }
    EACH(at, count) {
        int channel = channel_of(map, at);
        // A map without a gradient gets that of its moments alone.
        float value = gradient ? load(gradient, at) : 0;
        if (slope != 1.0f && !(load(y, at) > 0)) value *= slope;
        if (of_residual) put(of_residual, at, value, add_residual);
        if (of_x) {
            float centred = load(x, at) - line[3 * channels + channel];
            put(of_x, at, line[channel] * value + line[channels + channel] * centred + line[2 * channels + channel],
                add_x);
        }
    }
}
