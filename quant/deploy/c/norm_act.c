/* requantize of each value: a normalisation in front of a convolution. */
struct norm_act {
    struct requantize requantize;
    uint32_t pixels;
    uint16_t channels;
    uint8_t is_signed;
};

static void norm_act(const struct norm_act *p, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < p->pixels; ++i)
        for (size_t c = 0; c < p->channels; ++c) {
            const size_t at = i * p->channels + c;
            y[at] = requantize(&p->requantize, c, value(x + at, p->is_signed), 0);
        }
}
