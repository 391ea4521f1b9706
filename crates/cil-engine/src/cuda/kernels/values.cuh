// Kernels that take one value at a time.

// kind 0: slope * x where not positive (ReLU, leaky ReLU); kind 1: tanh.
KERNEL(activate)(const Value *x, Value *y, int kind, float slope, int count) {
    EACH(at, count) {
        float value = load(x, at);
        store(y, at, kind == 1 ? tanhf(value) : value > 0 ? value : slope * value);
    }
}

KERNEL(activate_backward)(const Value *gradient, const Value *x, const Value *y, Value *of_x, int kind, float slope, int count,
                                  int add) {
    EACH(at, count) {
        float value = load(gradient, at);
        if (kind == 1) {
            float output = load(y, at);
            value *= 1 - output * output;
        } else if (!(load(x, at) > 0)) {
            value *= slope;
        }
        put(of_x, at, value, add);
    }
}

KERNEL(sum)(const Value *a, const Value *b, Value *y, int count) {
    EACH(at, count) store(y, at, load(a, at) + load(b, at));
}

KERNEL(accumulate)(const Value *from, Value *to, int count, int add) {
    EACH(at, count) put(to, at, load(from, at), add);
}

KERNEL(add_bias)(Value *y, const float *bias, Map map, int count) {
    EACH(at, count) store(y, at, load(y, at) + bias[channel_of(map, at)]);
}
