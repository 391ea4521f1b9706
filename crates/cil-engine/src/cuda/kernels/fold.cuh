// Inference: a batch norm with running statistics is a factor and a shift by channel, and so a part of the convolution
// before it.

// Convolutions and the batch norms behind them: addresses of weights in candle's order and of what is by channel (0: a
// bias, scale or shift that is not there), where both go, and what lies there.
#define FOLDS 32
struct Folds {
    unsigned long long weight[FOLDS], bias[FOLDS], scale[FOLDS], shift[FOLDS], mean[FOLDS], variance[FOLDS];
    unsigned long long to_weight[FOLDS], to_bias[FOLDS];
    int channels[FOLDS], side[FOLDS], count[FOLDS];
    float epsilon[FOLDS];
    int last;
};

// Grid (blocks, convolutions).
KERNEL(fold)(Folds all) {
    int tensor = blockIdx.y;
    const float *bias = (const float *)all.bias[tensor], *scale = (const float *)all.scale[tensor];
    const float *shift = (const float *)all.shift[tensor], *mean = (const float *)all.mean[tensor];
    const float *variance = (const float *)all.variance[tensor];
    Map map = {all.channels[tensor], all.side[tensor], all.side[tensor], all.last};
    Map first = {map.channels, map.height, map.width, 0};
    int size = map.channels * map.height * map.width;
    EACH(at, all.count[tensor]) {
        int channel = at / size;
        float factor = (scale ? scale[channel] : 1.0f) / sqrtf(variance[channel] + all.epsilon[tensor]);
        Place it = place(map, at);
        float value = ((const float *)all.weight[tensor])[offset(first, it.row, it.channel, it.y, it.x)];
        store((Value *)all.to_weight[tensor], at, value * factor);
        if (at % size) continue;
        float centred = (bias ? bias[channel] : 0.0f) - mean[channel];
        store((Value *)all.to_bias[tensor], channel, centred * factor + (shift ? shift[channel] : 0.0f));
    }
}

// What follows such a convolution. slope: 1 for no activation, 0 for ReLU.
KERNEL(finish)(Value *y, const Value *bias, const Value *residual, Map map, int count, float slope) {
    if (in_fours(map)) {
        EACH(four, count / 4) {
            Four it = ((const Four *)y)[four], shift = *(const Four *)(bias + 4 * four % map.channels), more = it;
            if (residual) more = ((const Four *)residual)[four];
            for (int k = 0; k < 4; k++) {
                float value = load(it.of, k) + load(shift.of, k);
                if (residual) value += load(more.of, k);
                store(it.of, k, value > 0 ? value : slope * value);
            }
            ((Four *)y)[four] = it;
        }
        return;
    }
    EACH(at, count) {
        float value = load(y, at) + load(bias, channel_of(map, at));
        if (residual) value += load(residual, at);
        store(y, at, value > 0 ? value : slope * value);
    }
}
