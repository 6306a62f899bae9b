/* Sums of products. Values are unsigned, or signed in the same 8 bits. */
static int32_t dot(const uint8_t *x, int is_signed, const int8_t *w, size_t n)
{
    int32_t sum = 0;
    if (is_signed) {
        const int8_t *s = (const int8_t *)x;
        for (size_t i = 0; i < n; ++i)
            sum += (int32_t)s[i] * w[i];
    } else {
        for (size_t i = 0; i < n; ++i)
            sum += (int32_t)x[i] * w[i];
    }
    return sum;
}
