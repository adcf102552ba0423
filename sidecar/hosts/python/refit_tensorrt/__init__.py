"""The tensorrt engine: stripped, refittable engines of `tensorrt_rtx` or `tensorrt` >= 10 behind the host of `refit_host`.

In: a weightless graph, pristine values, refits. Out: one denoiser output. Never: arithmetic on weights (`refit_host.weights` does
that), a partial refit, an engine whose output was not compared with PyTorch.
"""
