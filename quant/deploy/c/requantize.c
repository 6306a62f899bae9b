/* Turns the sums of a channel into the next integers: multiplies, adds, rounds half to even and clips. The real numbers
 * multiplier / 2^shift, bias / 2^shift and residual / 2^residual_shift are the network's own, so nothing is lost before
 * the one rounding, and nothing leaves 64 bits. */
struct requantize {
    const int32_t *multiplier; /* one for each channel, as bias and shift */
    const int64_t *bias;
    const uint8_t *shift;
    int32_t residual; /* multiplies what a second input adds; 0: there is none */
    uint8_t residual_shift;
    int16_t low, high; /* what comes out lies between them */
};

static uint8_t requantize(const struct requantize *p, size_t channel, int32_t sum, int32_t residual)
{
    const unsigned shift = p->shift[channel];
    const int64_t one = (int64_t)1 << shift;
    int64_t z = (int64_t)sum * p->multiplier[channel] + p->bias[channel];
    if (p->residual != 0)
        z += (int64_t)residual * p->residual * ((int64_t)1 << (shift - p->residual_shift));
    if (z < p->low * one)
        z = p->low * one;
    if (z > p->high * one)
        z = p->high * one;
    /* Not below zero, so that a shift divides; 256 is even, so that it changes no tie. */
    const uint64_t positive = (uint64_t)(z + 256 * one);
    const uint64_t half = (uint64_t)1 << (shift - 1);
    const uint64_t rounded = (positive + half - 1 + ((positive >> shift) & 1)) >> shift;
    return (uint8_t)rounded; /* without the 256; of a signed value its 8 bits */
}
