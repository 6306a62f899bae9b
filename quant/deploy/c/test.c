#ifdef @NAME@_PROFILE
/* Of each kind of op the time of all its calls. */
static struct {
    const char *op;
    clock_t time;
} profile[16];
static clock_t op_began;

void @name@_op_done(const char *op)
{
    const clock_t now = clock();
    int i = 0;
    while (profile[i].op != NULL && strcmp(profile[i].op, op) != 0)
        ++i;
    profile[i].op = op;
    profile[i].time += now - op_began;
    op_began = now;
}
#endif

int main(void)
{
    const int images_of_test = (int)(sizeof(images) / sizeof(images[0]));
    int same = 0;
    clock_t time = 0;
    for (int i = 0; i < images_of_test; ++i) {
        float logits[@NAME@_CLASSES];
        const clock_t start = clock();
#ifdef @NAME@_PROFILE
        op_began = start;
#endif
        @name@_run(images[i], logits);
        time += clock() - start;
        same += memcmp(logits, expected[i], sizeof(logits)) == 0 && @name@_argmax(logits) == @name@_argmax(expected[i]);
    }
    const double milliseconds = 1000.0 / CLOCKS_PER_SEC / images_of_test;
    printf("%d of %d images have the logits of faq, bit for bit; %.3f ms each\n", same, images_of_test,
           (double)time * milliseconds);
#ifdef @NAME@_PROFILE
    for (int i = 0; profile[i].op != NULL; ++i)
        printf("%-16s %10.3f ms\n", profile[i].op, (double)profile[i].time * milliseconds);
#endif
    return same == images_of_test ? 0 : 1;
}
