"""Forge and its forks: an engine behind the UNet's function wrapper."""
