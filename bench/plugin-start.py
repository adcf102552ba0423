"""The import half of bench/plugin-start.mjs: ComfyUI's own modules first, then the plugin on a clock."""

import asyncio
import importlib.util
import os
import sys
import time

plugin, base = sys.argv[1:3]
# ComfyUI's top-level packages must win over whatever lies beside this file.
sys.path[0] = os.getcwd()
sys.argv = ["main.py", "--cpu", "--base-directory", base]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import server  # noqa: E402
import utils.install_util  # noqa: E402, F401  (the package, before comfy's module of the same name)

server.PromptServer(asyncio.new_event_loop())
import nodes  # noqa: E402, F401

spec = importlib.util.spec_from_file_location(
    "refit_plugin_start", os.path.join(plugin, "__init__.py"), submodule_search_locations=[plugin]
)
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
started = time.perf_counter()
spec.loader.exec_module(module)
took = (time.perf_counter() - started) * 1000
if len(module.NODE_CLASS_MAPPINGS) == 0:
    raise SystemExit("the plugin did not see that it is inside ComfyUI")
print(round(took, 1), flush=True)
os._exit(0)
