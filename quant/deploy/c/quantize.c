/* Turns sums into the integers of a classifier's input: `low`, and one more for each threshold that a sum reaches. */
struct quantize {
    const int32_t *thresholds;
    uint16_t levels; /* so many thresholds */
    int16_t low;
};

static void quantize(const struct quantize *p, const int32_t *x, size_t n, uint8_t *y)
{
    for (size_t i = 0; i < n; ++i) {
        size_t below = 0, above = p->levels;
        while (below < above) {
            const size_t middle = (below + above) / 2;
            if (x[i] >= p->thresholds[middle])
                below = middle + 1;
            else
                above = middle;
        }
        y[i] = (uint8_t)(p->low + (int)below); /* of a signed value its 8 bits */
    }
}
