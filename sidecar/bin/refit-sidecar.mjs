#!/usr/bin/env node
import { main } from "../dist/src/main.js";

// Workers and sockets that a failed command left behind must not keep the terminal waiting.
process.exit(await main(process.argv.slice(2)));
