// Measures of one map against another, with their gradients: f32 maps in candle's order, sums in f64.

// Both sums over the threads of a block; every thread gets them.
__device__ inline void total(double *first, double *second) {
    __shared__ double a[THREADS];
    __shared__ double b[THREADS];
    int thread = threadIdx.x;
    a[thread] = *first;
    b[thread] = *second;
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
    __syncthreads();
}

// A channel's variance: softplus(raw) + floor.
__device__ inline double spread(float raw, double floor) {
    double value = raw;
    return fmax(value, 0.0) + log1p(exp(-fabs(value))) + floor;
}

// `grad` = scale / variance * (mean - target), and sums of squared differences over chunks.
KERNEL(gaussian)(const float *mean, const float *target, const float *raw, float *grad, float *partial, Map map, Sums sums,
                 double scale, double floor) {
    int channel = blockIdx.x, count = sums.rows * map.height * map.width;
    int end = min(count, (int)(blockIdx.y + 1) * sums.span);
    float factor = (float)(scale / spread(raw[channel], floor)), squares = 0;
    for (int at = blockIdx.y * sums.span + threadIdx.x; at < end; at += THREADS) {
        int where = element(map, channel, at);
        float difference = mean[where] - target[where];
        grad[where] = difference * factor;
        squares += difference * difference;
    }
    reduce(map, sums, squares, 0, partial);
}

// The mean of (square / variance + ln variance) / 2 over all values, and `weight` times its gradient to each channel's raw
// variance. One block.
KERNEL(gaussian_end)(const float *partial, const float *raw, Map map, Sums sums, double weight, double floor,
                     float *of_raw, float *loss) {
    int channels = map.channels;
    double share = 1.0 / channels, elements = (double)sums.rows * map.height * map.width * channels;
    double sum = 0, nothing = 0;
    for (int channel = threadIdx.x; channel < channels; channel += THREADS) {
        double squares = 0;
        for (int chunk = 0; chunk < sums.chunks; chunk++) squares += partial[2 * chunk * channels + channel];
        double variance = spread(raw[channel], floor), fit = squares / elements;
        sum += 0.5 * (fit / variance + share * log(variance));
        double grad = 1.0 / (1.0 + exp(-(double)raw[channel]));
        of_raw[channel] = (float)(weight * 0.5 * grad * (share - fit / variance) / variance);
    }
    total(&sum, &nothing);
    if (threadIdx.x == 0) *loss = (float)sum;
}

// A sum of squares of a map of `channels` x `height` x `width`: entry `at` of those over the width, then those over the
// height.
__device__ inline double squares_of(const float *map, int channels, int height, int width, int at) {
    int rows = channels * height, begin, step = 1, count = width;
    if (at < rows) {
        begin = at * width;
    } else {
        at -= rows;
        begin = at / width * height * width + at % width;
        step = width;
        count = height;
    }
    double sum = 0;
    for (int number = 0; number < count; number++) {
        double value = map[begin + number * step];
        sum += value * value;
    }
    return sum;
}

// The distance of two maps' profiles of length 1, and `scale` times its gradient to the first. A block a sample; `work`:
// two profiles a sample. Below `shortest` a profile is not brought to length 1.
KERNEL(profiles)(const float *maps, const float *targets, float *grads, double *work, double *distances, int channels,
                 int height, int width, double scale, double shortest) {
    int size = channels * height * width, entries = channels * (height + width);
    const float *map = maps + (long long)blockIdx.x * size, *target = targets + (long long)blockIdx.x * size;
    float *grad = grads + (long long)blockIdx.x * size;
    double *own = work + (long long)blockIdx.x * 2 * entries, *other = own + entries;
    double length = 0, other_length = 0;
    for (int at = threadIdx.x; at < entries; at += THREADS) {
        own[at] = squares_of(map, channels, height, width, at);
        other[at] = squares_of(target, channels, height, width, at);
        length += own[at] * own[at];
        other_length += other[at] * other[at];
    }
    total(&length, &other_length);
    length = sqrt(length);
    double by = fmax(length, shortest), other_by = fmax(sqrt(other_length), shortest), distance = 0, along = 0;
    for (int at = threadIdx.x; at < entries; at += THREADS) {
        own[at] /= by;
        other[at] = own[at] - other[at] / other_by;
        distance += other[at] * other[at];
        along += own[at] * other[at];
    }
    total(&distance, &along);
    distance = sqrt(distance);
    if (threadIdx.x == 0) distances[blockIdx.x] = distance;
    // Through the length too, unless that is at its floor. Twice, for the square.
    if (!(length > shortest)) along = 0;
    double factor = distance > 0 ? 2.0 * scale / (distance * by) : 0.0;
    for (int at = threadIdx.x; at < entries; at += THREADS)
        other[at] = (float)(factor * (other[at] - along * own[at]));
    __syncthreads();
    for (int at = threadIdx.x; at < size; at += THREADS) {
        int line = at / width;
        float of_row = (float)other[line], of_column = (float)other[channels * height + line / height * width + at % width];
        grad[at] = map[at] * (of_row + of_column);
    }
}

// The mean of what samples gave. One block.
KERNEL(profiles_end)(const double *distances, int rows, float *loss) {
    double sum = 0, nothing = 0;
    for (int at = threadIdx.x; at < rows; at += THREADS) sum += distances[at];
    total(&sum, &nothing);
    if (threadIdx.x == 0) *loss = (float)(sum / rows);
}
