"""What a user of ComfyUI waits for: its own path, TorchCompileModel and the engine, in one server run. `python -m bench.ui`."""
