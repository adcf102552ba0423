#!/usr/bin/env node
// Writes every generated file from the protocol's zod schemas, the option table, the table of hardware and the version number (needs the build). `--check` writes nothing and fails when one on disk differs.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as protocol from "../protocol/dist/index.js";
import { optionTable } from "../sidecar/dist/src/options/index.js";
import { asyncapi } from "./generate/asyncapi.mjs";
import { configurationPage } from "./generate/configuration.mjs";
import { familyPage, hostTable, pluginTable, readFamilies, readOtherModels, typescriptTable } from "./generate/families.mjs";
import { hardwarePage } from "./generate/hardware.mjs";
import { protocolPage } from "./generate/page.mjs";
import { pythonMessages } from "./generate/python.mjs";
import { reliabilityPage } from "./generate/reliability.mjs";
import { collectSchemas, schemaFile } from "./generate/schemas.mjs";
import { versionFiles } from "./generate/version.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const schemas = collectSchemas(protocol);
const page = "docs/protocol.md";
const families = readFamilies(join(root, "protocol/families"), protocol.familyDescription);
const hardware = JSON.parse(readFileSync(join(root, "sidecar/hardware.json"), "utf8"));
const withHardware = (file) => hardwarePage(hardware, readFileSync(join(root, file), "utf8"), file);
const files = {
  "protocol/src/families/table.ts": typescriptTable(families, readOtherModels(join(root, "protocol/other-models.json"), protocol.otherModels)),
  "sidecar/hosts/python/refit_graphs/families.json": hostTable(families),
  "plugin/refit_sidecar_plugin/families.py": pluginTable(families),
  "protocol/generated/schema.json": schemaFile(protocol, schemas),
  "protocol/generated/asyncapi.yaml": asyncapi(protocol, schemas),
  "plugin/refit_sidecar_plugin/messages.py": pythonMessages(protocol, schemas),
  "docs/adapters.md": familyPage(families, readFileSync(join(root, "docs/adapters.md"), "utf8")),
  "docs/reliability.md": reliabilityPage(join(root, "test/faults/results")),
  "docs/configuration.md": configurationPage(optionTable),
  "README.md": withHardware("README.md"),
  "docs/gpu.md": withHardware("docs/gpu.md"),
  ...versionFiles(root),
  [page]: protocolPage(protocol, readFileSync(join(root, page), "utf8")),
};

const check = process.argv.includes("--check");
const stale = [];
for (const [path, content] of Object.entries(files)) {
  const file = join(root, path);
  // Git may have checked the file out with other line ends.
  if (existsSync(file) && readFileSync(file, "utf8").replaceAll("\r\n", "\n") === content) continue;
  stale.push(path);
  if (check) continue;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}
if (check && stale.length > 0) {
  console.error(`generated files are stale: ${stale.join(", ")}\nrun: npm run generate`);
  process.exitCode = 1;
} else {
  console.log(stale.length === 0 ? "generated files are fresh" : `wrote ${stale.join(", ")}`);
}
