"""Data sets: readers, the embedded renderer, splits, the sampler and the input pipeline."""
