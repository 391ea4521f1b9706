// Between candle's order (channels first, f32) and ours.

KERNEL(pack)(const float *plain, Value *to, Map map, int count, int add) {
    Map first = {map.channels, map.height, map.width, 0};
    EACH(at, count) {
        Place it = place(map, at);
        put(to, at, plain[offset(first, it.row, it.channel, it.y, it.x)], add);
    }
}

KERNEL(unpack)(const Value *from, float *plain, Map map, int count) {
    Map first = {map.channels, map.height, map.width, 0};
    EACH(at, count) {
        Place it = place(first, at);
        plain[at] = load(from, offset(map, it.row, it.channel, it.y, it.x));
    }
}

// Many convolutions' weights in one launch: addresses in candle's order (f32) and in ours, and what lies there.
#define MANY 48
struct Tensors {
    unsigned long long plain[MANY], packed[MANY];
    int channels[MANY], side[MANY], count[MANY];
    int last;
};

// Grid (blocks, tensors).
KERNEL(pack_many)(Tensors all) {
    int tensor = blockIdx.y;
    Map map = {all.channels[tensor], all.side[tensor], all.side[tensor], all.last};
    Map first = {map.channels, map.height, map.width, 0};
    EACH(at, all.count[tensor]) {
        Place it = place(map, at);
        float value = ((const float *)all.plain[tensor])[offset(first, it.row, it.channel, it.y, it.x)];
        store((Value *)all.packed[tensor], at, value);
    }
}

KERNEL(unpack_many)(Tensors all) {
    int tensor = blockIdx.y;
    Map map = {all.channels[tensor], all.side[tensor], all.side[tensor], all.last};
    Map first = {map.channels, map.height, map.width, 0};
    EACH(at, all.count[tensor]) {
        Place it = place(first, at);
        int where = offset(map, it.row, it.channel, it.y, it.x);
        ((float *)all.plain[tensor])[at] = load((const Value *)all.packed[tensor], where);
    }
}
