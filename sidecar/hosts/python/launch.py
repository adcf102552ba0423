"""`python launch.py MODULE ARGUMENTS…`: runs a module of this folder, with the folders of REFIT_PYTHON_PATH in front of the interpreter's own.

A plain script, because an embedded Python (the one in ComfyUI's portable download) ignores PYTHONPATH and `-m` finds nothing there.
"""

import os
import runpy
import sys
from pathlib import Path

extra = [folder for folder in os.environ.get("REFIT_PYTHON_PATH", "").split(os.pathsep) if folder]
here = str(Path(__file__).resolve().parent)
sys.path[:] = [here, *extra, *(folder for folder in sys.path if folder not in (here, *extra))]
if len(sys.argv) < 2:
    sys.exit("expected the name of a module")
module = sys.argv[1]
sys.argv = [module, *sys.argv[2:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
