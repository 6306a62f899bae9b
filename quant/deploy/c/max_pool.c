/* The largest value of each window; windows are cut off at the border of the image. */
struct max_pool {
    uint16_t height, width, channels, out_height, out_width, kernel, stride, padding;
    uint8_t is_signed;
};

static void max_pool(const struct max_pool *p, const uint8_t *x, uint8_t *y)
{
    for (long row = 0; row < p->out_height; ++row)
        for (long column = 0; column < p->out_width; ++column)
            for (size_t c = 0; c < p->channels; ++c) {
                const uint8_t *largest = NULL;
                for (long ky = 0; ky < p->kernel; ++ky)
                    for (long kx = 0; kx < p->kernel; ++kx) {
                        const long iy = row * p->stride - p->padding + ky, ix = column * p->stride - p->padding + kx;
                        if (iy < 0 || iy >= p->height || ix < 0 || ix >= p->width)
                            continue;
                        const uint8_t *here = x + ((size_t)iy * p->width + (size_t)ix) * p->channels + c;
                        if (largest == NULL || value(here, p->is_signed) > value(largest, p->is_signed))
                            largest = here;
                    }
                y[((size_t)row * p->out_width + (size_t)column) * p->channels + c] = *largest;
            }
}
