// The Python client's words: TypedDicts for every message, and the method and error tables. Standard library only, Python 3.10 and newer.

const quote = (text) => JSON.stringify(text);
const scalars = { string: "str", integer: "int", number: "float", boolean: "bool", null: "None" };

function capital(name) {
  return name[0].toUpperCase() + name.slice(1).replace(/[^A-Za-z0-9](.)/g, (_, letter) => letter.toUpperCase());
}

/** `isAlias`: the whole schema is one name of its own, so that its choices need others. A Python type expression for a schema; object schemas become classes, added to `classes` before the class that uses them. */
function typeOf(schema, name, classes, isAlias = false) {
  if (schema.$ref) return schema.$ref.slice("#/$defs/".length);
  if ("const" in schema) return `Literal[${quote(schema.const)}]`;
  if (schema.enum) return `Literal[${schema.enum.map(quote).join(", ")}]`;
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    const several = isAlias || choices.filter((one) => one.type === "object").length > 1;
    return unionOf([
      ...new Set(choices.map((choice, index) => typeOf(choice, several ? `${name}${variantName(choice, index)}` : name, classes))),
    ]);
  }
  if (Array.isArray(schema.type)) return unionOf(schema.type.map((one) => scalars[one]));
  if (schema.type === "array") return `list[${typeOf(schema.items, name.endsWith("s") ? name.slice(0, -1) : `${name}Item`, classes)}]`;
  if (schema.type === "object") {
    if (schema.additionalProperties && typeof schema.additionalProperties === "object" && !schema.properties)
      return `dict[str, ${typeOf(schema.additionalProperties, `${name}Value`, classes)}]`;
    defineClass(schema, name, classes);
    return name;
  }
  return scalars[schema.type] ?? "object";
}

function variantName(choice, index) {
  const type = choice.properties?.type?.const;
  return type ? capital(type) : `Choice${index + 1}`;
}

function unionOf(types) {
  return [...types.filter((type) => type !== "None"), ...types.filter((type) => type === "None")].join(" | ");
}

/** TypedDict has no optional keys before Python 3.11: the required ones go into a base class. */
function defineClass(schema, name, classes) {
  if (classes.has(name)) throw new Error(`two Python classes would be called ${name}`);
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([key, value]) => ({
    line: `    ${key}: ${typeOf(value, `${name}${capital(key)}`, classes)}`,
    required: required.has(key),
  }));
  const must = fields.filter((field) => field.required).map((field) => field.line);
  const may = fields.filter((field) => !field.required).map((field) => field.line);
  const body = (lines) => (lines.length > 0 ? lines.join("\n") : "    pass");
  // A field with the name of a Python keyword fits no class body.
  if (fields.some(({ line }) => /^ +(from|class|import|global|in|is) *:/.test(line))) {
    if (may.length > 0) throw new Error(`${name}: optional fields beside a Python keyword`);
    const entries = fields.map(({ line }) => line.replace(/^ +(\w+): (.*)$/, (_, key, type) => `        ${quote(key)}: ${type},`));
    classes.set(name, `${name} = TypedDict(\n    ${quote(name)},\n    {\n${entries.join("\n")}\n    },\n)`);
    return;
  }
  if (may.length === 0) classes.set(name, `class ${name}(TypedDict):\n${body(must)}`);
  else if (must.length === 0) classes.set(name, `class ${name}(TypedDict, total=False):\n${body(may)}`);
  else classes.set(name, `class _${name}(TypedDict):\n${body(must)}\n\n\nclass ${name}(_${name}, total=False):\n${body(may)}`);
}

/** Referenced names first. */
function ordered(schemas) {
  const done = new Set();
  const order = [];
  const visit = (name) => {
    if (done.has(name)) return;
    done.add(name);
    for (const [, target] of JSON.stringify(schemas[name]).matchAll(/"#\/\$defs\/([A-Za-z]+)"/g)) visit(target);
    order.push(name);
  };
  Object.keys(schemas).forEach(visit);
  return order;
}

/** A TypedDict or an alias for each schema, those that others use first. */
export function pythonClasses(schemas) {
  const classes = new Map();
  for (const name of ordered(schemas)) {
    const type = typeOf(schemas[name], name, classes, true);
    if (type !== name)
      classes.set(name, type.length < 120 ? `${name} = ${type}` : `${name} = (\n    ${type.replaceAll(" | ", "\n    | ")}\n)`);
  }
  return [...classes.values()];
}

export function pythonMessages({ protocolVersion, wireMethods, wireNotifications, errorTable, failureTables }, schemas) {
  const methods = Object.entries(wireMethods).map(
    ([name, { role, tensors }]) => `    ${quote(name)}: Method(${quote(role)}, ${quote(tensors)}),`,
  );
  const errors = Object.entries(errorTable).map(
    ([code, { rpc, fault, summary, remedy }]) =>
      `    ${quote(code)}: ErrorEntry(\n        ${rpc},\n        ${quote(fault)},\n        ${quote(summary)},\n        ${quote(remedy)},\n    ),`,
  );
  const own = Object.entries(failureTables.clientFailures).map(
    ([code, { summary, remedy }]) => `    ${quote(code)}: OwnError(\n        ${quote(summary)},\n        ${quote(remedy)},\n    ),`,
  );
  return `"""The wire's messages, methods and errors. Generated from protocol/src by \`npm run generate\`; do not edit."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

PROTOCOL_VERSION = ${protocolVersion}


${pythonClasses(schemas).join("\n\n\n")}


class Method(NamedTuple):
    #: "read" or "control": the token it needs.
    role: str
    #: "none", "in", "out" or "both": which way tensors travel.
    tensors: str


METHODS: dict[str, Method] = {
${methods.join("\n")}
}

NOTIFICATIONS = (${Object.keys(wireNotifications).map(quote).join(", ")})


class ErrorEntry(NamedTuple):
    rpc: int
    #: "client", "sidecar", "host" or "file": who can act.
    fault: str
    summary: str
    remedy: str


ERRORS: dict[str, ErrorEntry] = {
${errors.join("\n")}
}


class OwnError(NamedTuple):
    summary: str
    remedy: str


#: Codes that arise on the client's side of the wire.
CLIENT_ERRORS: dict[str, OwnError] = {
${own.join("\n")}
}
`;
}
