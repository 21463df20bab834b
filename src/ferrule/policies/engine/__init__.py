"""The local engine: continuous batching over a paged cache, compiled kernels, and whole batches as a fall-back."""
