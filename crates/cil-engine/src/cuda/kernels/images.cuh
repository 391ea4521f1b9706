// Stored bytes to a network's input.

// What becomes of one stored image: where a crop of its own size begins below and right of the padded image's corner,
// whether it is mirrored, and what brightness is multiplied by.
struct Picked {
    int image, top, left, mirrored;
    float brightness;
};

struct Colours {
    float mean[3], deviation[3];
};

// `stored[image][3][height][width]` to `[picked][3][height][width]`; what is outside of an image is black. Brightness
// cuts off the fraction, and no operation is contracted: the bits are the processor's.
KERNEL(pick)(const unsigned char *stored, const Picked *all, float *out, int height, int width, int padding,
             Colours by, int count) {
    EACH(at, count) {
        int x = at % width, y = at / width % height, channel = at / (width * height) % 3;
        Picked it = all[at / (3 * width * height)];
        int from_y = y + it.top - padding, from_x = (it.mirrored ? width - 1 - x : x) + it.left - padding;
        float value = 0;
        if (from_y >= 0 && from_x >= 0 && from_y < height && from_x < width) {
            long long plane = ((long long)it.image * 3 + channel) * height;
            value = truncf(fminf(__fmul_rn((float)stored[(plane + from_y) * width + from_x], it.brightness), 255.0f));
        }
        out[at] = __fadd_rn(value / 255.0f, -by.mean[channel]) / by.deviation[channel];
    }
}
