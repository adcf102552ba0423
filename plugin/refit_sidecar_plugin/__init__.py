"""Refit Sidecar's plugin. Code for every UI lives here; what belongs to one UI lives in its folder under `ui`."""

__version__ = "0.1.0"
