#!/usr/bin/env node
// `update` replaces this package, and Windows deletes no library that a program has loaded: it does without the addon.
if (process.argv[2] === "update" && process.platform === "win32") process.env.REFIT_NATIVE ??= "off";
const { run } = await import("../dist/src/main.js");

// Workers and sockets that a failed command left behind must not keep the terminal waiting.
process.exit(await run(process.argv.slice(2)));
