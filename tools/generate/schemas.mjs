// JSON Schema (draft 2020-12) of every method, notification and named value, in one set of `$defs` that refer to each other.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const { z } = await import(pathToFileURL(createRequire(join(here, "../../protocol/package.json")).resolve("zod")).href);

/** "engine.prepare" → "EnginePrepare" */
export function typeName(method) {
  return method
    .split(".")
    .map((part) => part[0].toUpperCase() + part.slice(1))
    .join("");
}

const largest = Number.MAX_SAFE_INTEGER;

/** Leaves out what says nothing: ids of the parts, and the bounds of exactly representable integers. */
function tidy(value) {
  if (Array.isArray(value)) return value.map(tidy);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([key, item]) =>
          !(key === "$id" || key === "$schema" || (key === "maximum" && item === largest) || (key === "minimum" && item === -largest)),
      )
      .map(([key, item]) => [key, tidy(item)]),
  );
}

/** Of one schema, whole in itself. */
export const jsonSchemaOf = (schema) => tidy(z.toJSONSchema(schema, { io: "input" }));

/** The error object, as calls of the WebSocket and HTTP routes answer it. */
export const errorSchema = (errorTable) => ({
  type: "object",
  properties: {
    code: { type: "integer" },
    message: { type: "string" },
    data: {
      type: "object",
      properties: {
        code: { enum: Object.keys(errorTable) },
        reason: { type: "string" },
        fault: { enum: ["client", "sidecar", "host", "file"] },
        remedy: { type: "string" },
      },
      required: ["code", "fault", "remedy"],
    },
  },
  required: ["code", "message", "data"],
});

/** Name to schema, sorted by name. */
export function collectSchemas({ wireMethods, wireNotifications, wireValues }) {
  const registry = z.registry();
  for (const [name, schema] of Object.entries(wireValues)) registry.add(schema, { id: name });
  const once = new Map();
  const add = (name, schema) => {
    // One schema object used by two methods (an empty params object) must be two entries.
    const own = once.has(schema) || registry.has(schema) ? schema.clone() : schema;
    once.set(schema, name);
    registry.add(own, { id: name });
  };
  for (const [name, { params, result }] of Object.entries(wireMethods)) {
    add(`${typeName(name)}Params`, params);
    add(`${typeName(name)}Result`, result);
  }
  for (const [name, { params }] of Object.entries(wireNotifications)) add(`${typeName(name)}Notification`, params);
  const { schemas } = z.toJSONSchema(registry, { uri: (id) => `#/$defs/${id}`, io: "input" });
  return Object.fromEntries(
    Object.keys(schemas)
      .sort()
      .map((name) => [name, tidy(schemas[name])]),
  );
}

export function schemaFile({ protocolVersion, wireMethods, wireNotifications, errorTable }, schemas) {
  const methods = Object.fromEntries(
    Object.entries(wireMethods).map(([name, { summary, role, tensors }]) => [
      name,
      { summary, role, tensors, params: { $ref: `#/$defs/${typeName(name)}Params` }, result: { $ref: `#/$defs/${typeName(name)}Result` } },
    ]),
  );
  const notifications = Object.fromEntries(
    Object.entries(wireNotifications).map(([name, { summary }]) => [
      name,
      { summary, params: { $ref: `#/$defs/${typeName(name)}Notification` } },
    ]),
  );
  const file = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Refit Sidecar wire protocol",
    description:
      "Generated from protocol/src by `npm run generate`. JSON-RPC 2.0 over WebSocket; tensors in binary frames (docs/develop/internals.md).",
    protocolVersion,
    methods,
    notifications,
    errors: errorTable,
    $defs: schemas,
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}
