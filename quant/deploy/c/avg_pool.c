/* The mean of each window, rounded half to even. Zeros around the image count. With `output` > 0, output * output windows
 * cover the image instead. */
struct avg_pool {
    uint16_t height, width, channels, out_height, out_width, kernel, stride, padding, output;
    uint8_t is_signed;
};

static int32_t divided_half_to_even(int32_t sum, int32_t count)
{
    int32_t quotient = sum / count, rest = sum % count;
    if (rest < 0) {
        rest += count;
        --quotient;
    }
    if (rest * 2 > count || (rest * 2 == count && quotient % 2 != 0))
        ++quotient;
    return quotient;
}

static void avg_pool(const struct avg_pool *p, const uint8_t *x, uint8_t *y)
{
    for (long row = 0; row < p->out_height; ++row)
        for (long column = 0; column < p->out_width; ++column) {
            long top = row * p->stride - p->padding, left = column * p->stride - p->padding;
            long bottom = top + p->kernel, right = left + p->kernel;
            if (p->output > 0) {
                top = row * p->height / p->output;
                left = column * p->width / p->output;
                bottom = ((row + 1) * p->height + p->output - 1) / p->output;
                right = ((column + 1) * p->width + p->output - 1) / p->output;
            }
            const int32_t count = (int32_t)((bottom - top) * (right - left));
            for (size_t c = 0; c < p->channels; ++c) {
                int32_t sum = 0;
                for (long iy = top < 0 ? 0 : top; iy < bottom && iy < p->height; ++iy)
                    for (long ix = left < 0 ? 0 : left; ix < right && ix < p->width; ++ix)
                        sum += value(x + ((size_t)iy * p->width + (size_t)ix) * p->channels + c, p->is_signed);
                y[((size_t)row * p->out_width + (size_t)column) * p->channels + c] =
                    (uint8_t)divided_half_to_even(sum, count);
            }
        }
}
