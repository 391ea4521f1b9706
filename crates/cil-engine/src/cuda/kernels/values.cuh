// Kernels that take values by themselves: four neighbours at once, and those that are left; their maps begin at a multiple of
// four.

// kind 0: slope * x where not positive (ReLU, leaky ReLU); kind 1: tanh.
__device__ inline float activated(float value, int kind, float slope) {
    return kind == 1 ? tanhf(value) : value > 0 ? value : slope * value;
}

KERNEL(activate)(const Value *x, Value *y, int kind, float slope, int count) {
    EACH(four, count / 4) {
        Four it = ((const Four *)x)[four];
        for (int k = 0; k < 4; k++) store(it.of, k, activated(load(it.of, k), kind, slope));
        ((Four *)y)[four] = it;
    }
    EACH(rest, count % 4) {
        int at = count / 4 * 4 + rest;
        store(y, at, activated(load(x, at), kind, slope));
    }
}

// The gradient before an activation; `seen` is what tanh gave, or what another was given.
__device__ inline float passed(float gradient, float seen, int kind, float slope) {
    if (kind == 1) return gradient * (1 - seen * seen);
    return seen > 0 ? gradient : gradient * slope;
}

KERNEL(activate_backward)(const Value *gradient, const Value *x, const Value *y, Value *of_x, int kind, float slope, int count,
                                  int add) {
    const Value *seen = kind == 1 ? y : x;
    EACH(four, count / 4) {
        Four from = ((const Four *)gradient)[four], by = ((const Four *)seen)[four];
        Four to = add ? ((const Four *)of_x)[four] : from;
        for (int k = 0; k < 4; k++)
            put(to.of, k, passed(load(from.of, k), load(by.of, k), kind, slope), add);
        ((Four *)of_x)[four] = to;
    }
    EACH(rest, count % 4) {
        int at = count / 4 * 4 + rest;
        put(of_x, at, passed(load(gradient, at), load(seen, at), kind, slope), add);
    }
}

KERNEL(sum)(const Value *a, const Value *b, Value *y, int count) {
    EACH(four, count / 4) {
        Four it = ((const Four *)a)[four], other = ((const Four *)b)[four];
        for (int k = 0; k < 4; k++) store(it.of, k, load(it.of, k) + load(other.of, k));
        ((Four *)y)[four] = it;
    }
    EACH(rest, count % 4) {
        int at = count / 4 * 4 + rest;
        store(y, at, load(a, at) + load(b, at));
    }
}

KERNEL(accumulate)(const Value *from, Value *to, int count, int add) {
    EACH(at, count) put(to, at, load(from, at), add);
}

KERNEL(add_bias)(Value *y, const float *bias, Map map, int count) {
    EACH(at, count) store(y, at, load(y, at) + bias[channel_of(map, at)]);
}
