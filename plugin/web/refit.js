// Refit Sidecar in ComfyUI's page: the one file that ComfyUI loads by itself. Everything else is built into refit/ by `npm run build` (page/ of the repository).

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { start } from "./refit/comfyui.mjs";

start(app, api, new URL(".", import.meta.url));
