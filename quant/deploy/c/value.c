static int32_t value(const uint8_t *x, int is_signed)
{
    return is_signed ? (int32_t)*(const int8_t *)x : (int32_t)*x;
}
