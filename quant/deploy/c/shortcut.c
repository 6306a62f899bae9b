/* Every `stride`-th pixel, with channels of zeros added on both sides. */
struct shortcut {
    uint16_t width, channels;
    uint16_t out_height, out_width, out_channels, stride, before; /* `before`: the channels of zeros that come first */
};

static void shortcut(const struct shortcut *p, const uint8_t *x, uint8_t *y)
{
    for (size_t row = 0; row < p->out_height; ++row)
        for (size_t column = 0; column < p->out_width; ++column) {
            const uint8_t *pixel = x + (row * p->stride * p->width + column * p->stride) * p->channels;
            uint8_t *to = y + (row * p->out_width + column) * p->out_channels;
            for (size_t c = 0; c < p->out_channels; ++c)
                to[c] = c >= p->before && c < (size_t)p->before + p->channels ? pixel[c - p->before] : 0;
        }
}
