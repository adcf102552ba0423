"""Makes the plugin's inner package importable the way A1111 and Forge see it: by its own unique name."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE.parents[2] / "plugin", HERE / "ui" / "comfyui", HERE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
