/* Puts an image of `channels` channels into one of `out_channels`, from channel `first` on. */
static void concat(const uint8_t *x, size_t pixels, size_t channels, size_t first, size_t out_channels, uint8_t *y)
{
    for (size_t i = 0; i < pixels; ++i)
        for (size_t c = 0; c < channels; ++c)
            y[i * out_channels + first + c] = x[i * channels + c];
}
