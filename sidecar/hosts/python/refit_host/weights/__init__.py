"""Engine weights: one arena, a pristine base, and refits between them.

In: shapes, checkpoint values, delta images. Out: live weights that equal the desired state, bit for bit from base each time.
Never: a model class, a step, or the wire.
"""
