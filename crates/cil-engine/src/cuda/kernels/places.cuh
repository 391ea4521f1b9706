// Kernels that move values from place to place, and pooling.

// ---- from place to place --------------------------------------------------------------------------------------------

// Channels `start ..` of `from` to channels `begin ..` of `to`, `length` of them; `count` = rows * length * positions.
KERNEL(copy_channels)(const Value *from, Map source, int start, Value *to, Map target, int begin, int length, int count,
                              int add) {
    Map part = {length, target.height, target.width, target.last};
    EACH(at, count) {
        Place it = place(part, at);
        float value = load(from, offset(source, it.row, start + it.channel, it.y, it.x));
        put(to, offset(target, it.row, begin + it.channel, it.y, it.x), value, add);
    }
}

// The same values in row-major order, read as another shape.
KERNEL(reshape)(const Value *from, Map source, Value *to, Map target, int count, int add) {
    Map plain_target = {target.channels, target.height, target.width, 0};
    Map plain_source = {source.channels, source.height, source.width, 0};
    EACH(at, count) {
        Place it = place(target, at);
        Place there = place(plain_source, offset(plain_target, it.row, it.channel, it.y, it.x));
        put(to, at, load(from, offset(source, there.row, there.channel, there.y, there.x)), add);
    }
}

KERNEL(upsample)(const Value *x, Map from, Value *y, Map to, int factor, int count) {
    if (in_fours(to)) {
        EACH(four, count / 4) {
            Place it = place(to, 4 * four);
            ((Four *)y)[four] = *(const Four *)(x + offset(from, it.row, it.channel, it.y / factor, it.x / factor));
        }
        return;
    }
    EACH(at, count) {
        Place it = place(to, at);
        store(y, at, load(x, offset(from, it.row, it.channel, it.y / factor, it.x / factor)));
    }
}

KERNEL(upsample_backward)(const Value *gradient, Map to, Value *of_x, Map from, int factor, int count, int add) {
    if (in_fours(from)) {
        EACH(four, count / 4) {
            Place it = place(from, 4 * four);
            Floats value = {};
            for (int y = it.y * factor; y < (it.y + 1) * factor; y++)
                for (int x = it.x * factor; x < (it.x + 1) * factor; x++) {
                    Four part = *(const Four *)(gradient + offset(to, it.row, it.channel, y, x));
                    for (int k = 0; k < 4; k++) value.of[k] += load(part.of, k);
                }
            Four result = add ? ((const Four *)of_x)[four] : Four();
            for (int k = 0; k < 4; k++) put(result.of, k, value.of[k], add);
            ((Four *)of_x)[four] = result;
        }
        return;
    }
    EACH(at, count) {
        Place it = place(from, at);
        float value = 0;
        for (int y = it.y * factor; y < (it.y + 1) * factor; y++)
            for (int x = it.x * factor; x < (it.x + 1) * factor; x++)
                value += load(gradient, offset(to, it.row, it.channel, y, x));
        put(of_x, at, value, add);
    }
}

KERNEL(subsample)(const Value *x, Map from, Value *y, Map to, int stride, int count) {
    EACH(at, count) {
        Place it = place(to, at);
        bool there = it.channel < from.channels;
        store(y, at, there ? load(x, offset(from, it.row, it.channel, it.y * stride, it.x * stride)) : 0.0f);
    }
}

KERNEL(subsample_backward)(const Value *gradient, Map to, Value *of_x, Map from, int stride, int count, int add) {
    EACH(at, count) {
        Place it = place(from, at);
        bool taken = it.y % stride == 0 && it.x % stride == 0;
        float value = taken ? load(gradient, offset(to, it.row, it.channel, it.y / stride, it.x / stride)) : 0.0f;
        put(of_x, at, value, add);
    }
}

// ---- pooling --------------------------------------------------------------------------------------------------------

struct Window {
    int height, width, stride, padding;
};

// Windows `first ..= last` of `windows` along one axis hold position `at`.
__device__ inline int first_window(int at, int side, Window by) {
    int from = at + by.padding - side + 1;
    return from > 0 ? (from + by.stride - 1) / by.stride : 0;
}

__device__ inline int last_window(int at, int windows, Window by) {
    return min(windows - 1, (at + by.padding) / by.stride);
}

KERNEL(average_pool)(const Value *x, Map from, Value *y, Map to, Window by, int count) {
    EACH(at, count) {
        Place it = place(to, at);
        float value = 0;
        for (int dy = 0; dy < by.height; dy++)
            for (int dx = 0; dx < by.width; dx++)
                value += load(x, offset(from, it.row, it.channel, it.y * by.stride + dy, it.x * by.stride + dx));
        store(y, at, value / (by.height * by.width));
    }
}

KERNEL(average_pool_backward)(const Value *gradient, Map to, Value *of_x, Map from, Window by, int count, int add) {
    EACH(at, count) {
        Place it = place(from, at);
        float value = 0;
        for (int y = first_window(it.y, by.height, by); y <= last_window(it.y, to.height, by); y++)
            for (int x = first_window(it.x, by.width, by); x <= last_window(it.x, to.width, by); x++)
                value += load(gradient, offset(to, it.row, it.channel, y, x));
        put(of_x, at, value / (by.height * by.width), add);
    }
}

// `winners`: the pixel of the first maximum.
KERNEL(max_pool)(const Value *x, Map from, Value *y, int *winners, Map to, Window by, int count) {
    EACH(at, count) {
        Place it = place(to, at);
        int winner = -1;
        float best = 0;
        for (int dy = 0; dy < by.height; dy++)
            for (int dx = 0; dx < by.width; dx++) {
                int row = it.y * by.stride + dy - by.padding, column = it.x * by.stride + dx - by.padding;
                if (row < 0 || column < 0 || row >= from.height || column >= from.width) continue;
                float value = load(x, offset(from, it.row, it.channel, row, column));
                if (winner < 0 || !(best >= value)) {
                    best = value;
                    winner = row * from.width + column;
                }
            }
        store(y, at, best);
        winners[at] = winner;
    }
}

KERNEL(max_pool_backward)(const Value *gradient, const int *winners, Map to, Value *of_x, Map from, Window by,
                                  int count, int add) {
    EACH(at, count) {
        Place it = place(from, at);
        float value = 0;
        for (int y = first_window(it.y, by.height, by); y <= last_window(it.y, to.height, by); y++)
            for (int x = first_window(it.x, by.width, by); x <= last_window(it.x, to.width, by); x++) {
                int where = offset(to, it.row, it.channel, y, x);
                if (winners[where] == it.y * from.width + it.x) value += load(gradient, where);
            }
        put(of_x, at, value, add);
    }
}
