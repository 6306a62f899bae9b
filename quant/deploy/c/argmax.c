int @name@_argmax(const float *logits)
{
    int largest = 0;
    for (int i = 1; i < @NAME@_CLASSES; ++i)
        if (logits[i] > logits[largest])
            largest = i;
    return largest;
}
