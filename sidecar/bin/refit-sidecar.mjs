#!/usr/bin/env node
import { run } from "../dist/src/main.js";

// Workers and sockets that a failed command left behind must not keep the terminal waiting.
process.exit(await run(process.argv.slice(2)));
