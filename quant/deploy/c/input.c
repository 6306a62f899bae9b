/* Maps each pixel through the table of its channel: 256 values, which have the mean and the deviation in them. */
struct input {
    const uint8_t *table;
    uint8_t channels;
    uint32_t pixels;
};

static void input(const struct input *p, const uint8_t *image, uint8_t *y)
{
    for (size_t i = 0; i < p->pixels; ++i)
        for (size_t c = 0; c < p->channels; ++c)
            y[i * p->channels + c] = p->table[c * 256 + image[i * p->channels + c]];
}
