"""Model classes from `diffusers`, built without weights. In: canonical shapes (a checkpoint's header). Out: a module and where
each of its parameters comes from. Never: the network, weight values.
"""
