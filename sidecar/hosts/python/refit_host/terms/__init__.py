"""The term algebra in torch. In: terms and factors of delta files, pristine base values. Out: merged values in f32.

Formulas: docs/develop/adapters.md. Never: files, live weights, rounding to the engine's dtype (that happens once, at the write).
"""
