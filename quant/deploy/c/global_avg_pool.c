/* The sum of each channel over all pixels: a mean whose division is left to whoever reads it. */
static void global_avg_pool(const uint8_t *x, int is_signed, size_t pixels, size_t channels, int32_t *y)
{
    for (size_t c = 0; c < channels; ++c) {
        int32_t sum = 0;
        for (size_t i = 0; i < pixels; ++i)
            sum += value(x + i * channels + c, is_signed);
        y[c] = sum;
    }
}
