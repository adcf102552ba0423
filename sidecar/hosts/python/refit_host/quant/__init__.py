"""Engines with quantised matrices: fp8 and NVFP4. Base and adapters stay high precision; every refit merges in f32 and quantises once,
with scales computed anew.

In: merged f32 values. Out: codes and scales that a step multiplies with. Never: a merge of its own, a model class.
"""
