/* The weights of a layer as the file has them: codes of few bits, several to a byte, the first in the lowest bits. */
struct weights {
    const uint8_t *bytes;
    const uint8_t *scales; /* of groups of `group` channels: value = scale * code; NULL: there are none */
    uint16_t filters, channels, taps; /* a filter has `taps` values (its kernel) for each of its channels */
    uint16_t group;
    uint8_t packing; /* 2^packing codes share a byte */
    uint8_t bits; /* odd weights: value = 2 * code - (2^bits - 1); 0: codes are signed numbers */
};

static int code_at(const struct weights *w, size_t index)
{
    const unsigned width = 8U >> w->packing;
    const unsigned in_byte = (unsigned)index & ((1U << w->packing) - 1);
    const int code = (w->bytes[index >> w->packing] >> (in_byte * width)) & ((1 << width) - 1);
    const int half = 1 << (width - 1);
    return w->bits > 0 ? 2 * code - ((1 << w->bits) - 1) : (code ^ half) - half;
}

/* Writes the values of one filter with the channels of a tap side by side, as an image has those of a pixel. */
static void unpack_filter(const struct weights *w, size_t filter, int8_t *to)
{
    const size_t channels = w->channels, taps = w->taps;
    const uint8_t *scales = w->scales == NULL ? NULL : w->scales + filter * ((channels + w->group - 1) / w->group);
    size_t index = filter * channels * taps;
    for (size_t c = 0; c < channels; ++c) {
        const int scale = scales == NULL ? 1 : scales[c / w->group];
        for (size_t t = 0; t < taps; ++t)
            to[t * channels + c] = (int8_t)(scale * code_at(w, index++));
    }
}
