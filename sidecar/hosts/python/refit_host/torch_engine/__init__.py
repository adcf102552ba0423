"""The torch engine: a module bound to an arena, and faster and faster ways to call it.

In: weights (refit elsewhere), input tensors. Out: one denoiser output. Never: values of weights, files of the user.
"""
