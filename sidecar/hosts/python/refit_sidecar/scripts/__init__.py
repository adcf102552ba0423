"""Scripts to copy from: `python -m refit_sidecar.scripts.sdxl_two_loras MODEL A.safetensors B.safetensors`. With `--tiny` each runs on small random models, without any file."""
