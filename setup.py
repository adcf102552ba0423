"""The version stands in package.json alone; what else pip needs stands in pyproject.toml."""

import json
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
HOSTS = ["refit_sidecar", "refit_host", "refit_graphs", "refit_tensorrt"]

setup(
    version=json.loads((ROOT / "package.json").read_text())["version"],
    packages=[
        # Data alone: the families' descriptions, where the hosts look for them outside of a checkout.
        "refit_graphs.described",
        *find_packages(str(ROOT / "sidecar/hosts/python"), include=[name for each in HOSTS for name in (each, f"{each}.*")]),
        # Its client is the way to a running sidecar; a UI's part is imported by that UI only.
        *find_packages(
            str(ROOT / "plugin"), include=["refit_sidecar_plugin", "refit_sidecar_plugin.client*", "refit_sidecar_plugin.checked*"]
        ),
    ],
)
