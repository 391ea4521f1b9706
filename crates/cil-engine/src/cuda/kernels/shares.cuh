// Batch norm of a batch whose rows several ranks share. Each kernel of norm.cuh that merges sums is two here: one for what
// this rank's rows give, and one for what all ranks give, which computes the same on all of them.

// Of this rank's rows: count, mean and squared distances from it, `own[3][channels]`, from the sums that `moments` left.
// A block a channel.
KERNEL(moments_of_share)(const Value *x, const float *partial, Map map, Sums sums, double *own) {
    int channels = map.channels, channel = blockIdx.x;
    double first = 0, second = 0, count = (double)sums.rows * map.height * map.width;
    merge(partial, sums.chunks, channels, channel, &first, &second);
    if (threadIdx.x > 0) return;
    double spread = second - first * first / count;
    own[channel] = count;
    own[channels + channel] = load(x, element(map, channel, 0)) + first / count;
    own[2 * channels + channel] = spread < 0 ? 0 : spread;
}

// `prepare` from what all ranks gave, `all[ranks][3][channels]`, merged in their order (Chan's rule).
KERNEL(prepare_of_shares)(const double *all, int ranks, Map map, float *seen, int batch, const float *running_mean,
                          const float *running_variance, const float *weight, const float *bias, float epsilon,
                          float *table) {
    int channels = map.channels;
    EACH(channel, channels) {
        double count = 0, mean = 0, spread = 0;
        for (int rank = 0; rank < ranks; rank++) {
            const double *of = all + 3 * rank * channels;
            double more = of[channel], distance = of[channels + channel] - mean, total = count + more;
            mean += distance * more / total;
            spread += of[2 * channels + channel] + distance * distance * count * more / total;
            count = total;
        }
        note(seen, channels, channel, mean, spread, count);
        float centre = batch ? seen[channel] : running_mean[channel];
        float variance = batch ? seen[channels + channel] : running_variance[channel];
        tabulate(table, channels, channel, centre, variance, weight, bias, epsilon);
    }
}

// Of this rank's rows: gradients of scale and shift, and the sums that `gradient_sums` left as `own[2][channels]`; without
// `partial` all are zero. A block a channel.
KERNEL(gradient_sums_of_share)(const float *partial, Map map, Sums sums, float *of_weight, float *of_bias, double *own) {
    int channels = map.channels, channel = blockIdx.x;
    double first = 0, second = 0;
    if (partial) merge(partial, sums.chunks, channels, channel, &first, &second);
    if (threadIdx.x > 0) return;
    if (of_weight) of_weight[channel] = (float)second;
    if (of_bias) of_bias[channel] = (float)first;
    if (!own) return;
    own[channel] = first;
    own[channels + channel] = second;
}

// The line of `line` from the sums of all ranks, `all[ranks][2][channels]`, added up in their order; `rows` are those of
// all ranks.
KERNEL(line_of_shares)(const double *all, int ranks, Map map, int rows, const float *table, const float *seen, int batch,
                       const float *of_mean, const float *of_variance, float *out) {
    int channels = map.channels;
    float count = (float)((double)rows * map.height * map.width);
    EACH(channel, channels) {
        double first = 0, second = 0;
        for (int rank = 0; rank < ranks; rank++) {
            first += all[2 * rank * channels + channel];
            second += all[(2 * rank + 1) * channels + channel];
        }
        draw(out, channels, channel, first, second, count, table, seen, batch, of_mean, of_variance);
    }
}
