/* A convolution of an image (height, width, channels), and then requantize. The filters of a group see its channels only. Zeros lie around the image. `residual`, an
 * image as large as the result, is added before the rounding; NULL: there is none. `filter` has place for one. */
struct conv {
    struct weights weights;
    struct requantize requantize;
    uint16_t height, width;         /* of the image */
    uint16_t out_height, out_width; /* of the result, which has as many channels as there are filters */
    uint16_t kernel_height, kernel_width, stride, top, left, groups;
    uint8_t is_signed, residual_is_signed;
};

static void conv(const struct conv *p, const uint8_t *x, const uint8_t *residual, int8_t *filter, uint8_t *y)
{
    const size_t channels = p->weights.channels, filters = p->weights.filters; /* channels of a group */
    const size_t pixel_size = channels * p->groups;
    for (size_t f = 0; f < filters; ++f) {
        const uint8_t *const seen = x + f / (filters / p->groups) * channels;
        unpack_filter(&p->weights, f, filter);
        for (long row = 0; row < p->out_height; ++row) {
            for (long column = 0; column < p->out_width; ++column) {
                /* The part of the window that lies in the image. */
                const long y0 = row * p->stride - p->top, x0 = column * p->stride - p->left;
                const long first = x0 < 0 ? -x0 : 0;
                const long last = x0 + p->kernel_width > p->width ? p->width - x0 : p->kernel_width;
                const size_t run = last > first ? (size_t)(last - first) : 0;
                int32_t sum = 0;
                for (long k = 0; k < p->kernel_height; ++k) {
                    if (y0 + k < 0 || y0 + k >= p->height || run == 0)
                        continue;
                    const size_t pixel = (size_t)(y0 + k) * p->width + (size_t)(x0 + first);
                    const size_t tap = (size_t)k * p->kernel_width + (size_t)first;
                    if (p->groups == 1)
                        sum += dot(x + pixel * channels, p->is_signed, filter + tap * channels, run * channels);
                    else
                        for (size_t i = 0; i < run; ++i)
                            sum += dot(seen + (pixel + i) * pixel_size, p->is_signed, filter + (tap + i) * channels, channels);
                }
                const size_t at = ((size_t)row * p->out_width + (size_t)column) * filters + f;
                y[at] = requantize(&p->requantize, f, sum,
                                   residual == NULL ? 0 : value(residual + at, p->residual_is_signed));
            }
        }
    }
}
