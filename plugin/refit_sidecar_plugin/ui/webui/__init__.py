"""A1111, Forge and reForge. In: their prompts' LoRAs, checkpoints and sampling calls. Out: the same pictures from an engine, or from the UI itself.

Everything enters through `scripts/refit_sidecar.py`; importing this package touches no network.
"""
