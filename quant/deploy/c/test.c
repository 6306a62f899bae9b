int main(void)
{
    const int images_of_test = (int)(sizeof(images) / sizeof(images[0]));
    int same = 0;
    const clock_t start = clock();
    for (int i = 0; i < images_of_test; ++i) {
        float logits[@NAME@_CLASSES];
        @name@_run(images[i], logits);
        same += memcmp(logits, expected[i], sizeof(logits)) == 0;
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("%d of %d images have the logits of faq, bit for bit; %.3f ms each\n", same, images_of_test,
           1000 * seconds / images_of_test);
    return same == images_of_test ? 0 : 1;
}
