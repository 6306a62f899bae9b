/* The classifier. What it makes are the only numbers that are not integers. `filter` has place for one. */
struct linear {
    struct weights weights;
    const float *bias;
    float scale;
    uint8_t is_signed;
};

static void linear(const struct linear *p, const uint8_t *x, int8_t *filter, float *logits)
{
    for (size_t f = 0; f < p->weights.filters; ++f) {
        unpack_filter(&p->weights, f, filter);
        const int32_t sum = dot(x, p->is_signed, filter, (size_t)p->weights.channels * p->weights.taps);
        /* Rounded here, whatever the compiler would like to join. */
        volatile double product = (double)sum * (double)p->scale;
        logits[f] = (float)(product + (double)p->bias[f]);
    }
}
