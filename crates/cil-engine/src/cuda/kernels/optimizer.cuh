// The optimiser's rules, and that of running statistics.

// What a step moves: up to 32 tensors a launch. Addresses of value, gradient, first and second moment (0: none yet), and
// of where the new value and moments go. `pace`: which of the step's paces is a tensor's.
struct Moves {
    unsigned long long value[32], gradient[32], first[32], second[32], new_value[32], new_first[32], new_second[32];
    int count[32];
    float decay[32];
    int pace[32];
};

// How fast a tensor moves. These lie in memory and are no argument, so that a captured step can be replayed at another
// rate. rate and root hold Adam's bias corrections of a tensor's count of steps.
struct Pace {
    float rate, root;
};

// Grid (blocks, tensors). The operations of optim/fused.rs in their order, none contracted to a multiply-add.
KERNEL(sgd)(Moves all, const Pace *paces, float momentum, int nesterov) {
    int tensor = blockIdx.y;
    const float *value = (const float *)all.value[tensor], *gradient = (const float *)all.gradient[tensor];
    const float *before = (const float *)all.first[tensor];
    float *moved = (float *)all.new_value[tensor], *first = (float *)all.new_first[tensor];
    float rate = paces[all.pace[tensor]].rate;
    EACH(at, all.count[tensor]) {
        float slope = gradient[at];
        if (all.decay[tensor] != 0) slope = __fadd_rn(slope, __fmul_rn(value[at], all.decay[tensor]));
        float velocity = before ? __fadd_rn(__fmul_rn(before[at], momentum), slope) : slope;
        float direction = nesterov ? __fadd_rn(slope, __fmul_rn(velocity, momentum)) : velocity;
        first[at] = velocity;
        moved[at] = __fadd_rn(value[at], -__fmul_rn(direction, rate));
    }
}

KERNEL(adam)(Moves all, const Pace *paces, float keep_first, float take_first, float keep_second, float take_second,
                            float epsilon) {
    int tensor = blockIdx.y;
    const float *value = (const float *)all.value[tensor], *gradient = (const float *)all.gradient[tensor];
    const float *old_first = (const float *)all.first[tensor], *old_second = (const float *)all.second[tensor];
    float *moved = (float *)all.new_value[tensor];
    float *first = (float *)all.new_first[tensor], *second = (float *)all.new_second[tensor];
    Pace pace = paces[all.pace[tensor]];
    EACH(at, all.count[tensor]) {
        float slope = gradient[at];
        if (all.decay[tensor] != 0) slope = __fadd_rn(slope, __fmul_rn(value[at], all.decay[tensor]));
        float mean = __fmul_rn(slope, take_first), square = __fmul_rn(__fmul_rn(slope, slope), take_second);
        if (old_first) mean = __fadd_rn(__fmul_rn(old_first[at], keep_first), mean);
        if (old_second) square = __fadd_rn(__fmul_rn(old_second[at], keep_second), square);
        first[at] = mean;
        second[at] = square;
        float root = __fadd_rn(__fmul_rn(sqrtf(square), pace.root), epsilon);
        moved[at] = __fadd_rn(value[at], -__fmul_rn(mean / root, pace.rate));
    }
}

// Running statistics: value * (1 - rate) + gradient * rate, what is called a gradient being the batch's statistic.
KERNEL(blend)(Moves all, float keep, float take) {
    int tensor = blockIdx.y;
    const float *value = (const float *)all.value[tensor], *batch = (const float *)all.gradient[tensor];
    float *moved = (float *)all.new_value[tensor];
    EACH(at, all.count[tensor]) moved[at] = __fadd_rn(__fmul_rn(value[at], keep), __fmul_rn(batch[at], take));
}
