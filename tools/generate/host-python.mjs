// The host protocol for the Python hosts, and the gateway's for the Ray gateway: TypedDicts of every call and answer, a check for the params of each method. Standard library only.
import { pythonClasses } from "./python.mjs";
import { collectSchemas, typeName } from "./schemas.mjs";

const quote = (text) => JSON.stringify(text);

/** "RefitPlan" → "_refit_plan" */
const checkName = (name) => `_${name.replace(/[A-Z]/g, (letter, at) => `${at > 0 ? "_" : ""}${letter.toLowerCase()}`)}`;

class Checks {
  patterns = [];

  /** `named`: schemas that have a check of their own, by name; the others are checked where they stand. */
  constructor(schemas, named) {
    this.schemas = schemas;
    this.named = new Set(named);
  }

  /** Lines that raise unless the Python expression `value` fits. `where` is what stands inside an f-string. */
  lines(schema, value, where, depth = 0) {
    const raise = (expected) => `    raise wrong(f"${where}", ${quote(expected)}, ${value})`;
    if (schema.$ref) {
      const name = schema.$ref.slice("#/$defs/".length);
      return this.named.has(name) ? [`${checkName(name)}(${value}, f"${where}")`] : this.lines(this.schemas[name], value, where, depth);
    }
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) {
      const [one, none] = [choices.find((each) => each.type !== "null"), choices.find((each) => each.type === "null")];
      if (choices.length !== 2 || none === undefined) throw new Error(`${where}: expected a value or null`);
      return [`if ${value} is not None:`, ...this.lines(one, value, where, depth).map((line) => `    ${line}`)];
    }
    if (schema.enum)
      return [
        `if type(${value}) is not str or ${value} not in (${schema.enum.map(quote).join(", ")}):`,
        raise(`one of ${schema.enum.join(", ")}`),
      ];
    if (schema.type === "string") return this.text(schema, value, raise);
    if (schema.type === "integer") {
      const [low, high] = [schema.exclusiveMinimum === undefined ? schema.minimum : schema.exclusiveMinimum + 1, schema.maximum];
      const least = low === undefined || low === -Number.MAX_SAFE_INTEGER ? -Number.MAX_SAFE_INTEGER : low;
      return [
        `if type(${value}) is not int or not ${least} <= ${value} <= ${high ?? Number.MAX_SAFE_INTEGER}:`,
        raise(least > 0 ? "a positive whole number" : "a whole number"),
      ];
    }
    if (schema.type === "number") {
      const { minimum, maximum } = schema;
      const bounds = [minimum === undefined ? "" : ` from ${minimum}`, maximum === undefined ? "" : ` to ${maximum}`].join("");
      return [
        `if not isinstance(${value}, (int, float)) or isinstance(${value}, bool) or not ${minimum ?? "-LARGEST"} <= ${value} <= ${maximum ?? "LARGEST"}:`,
        raise(bounds === "" ? "a finite number" : `a number${bounds}`),
      ];
    }
    if (schema.type === "boolean") return [`if type(${value}) is not bool:`, raise("true or false")];
    if (schema.type === "array") {
      const item = `item${depth}`;
      const limits = [
        schema.minItems && `len(${value}) < ${schema.minItems}`,
        schema.maxItems && `len(${value}) > ${schema.maxItems}`,
      ].filter(Boolean);
      const size = schema.maxItems ? ` of at most ${schema.maxItems}` : schema.minItems ? ` of at least ${schema.minItems}` : "";
      return [
        `if ${[`type(${value}) is not list`, ...limits].join(" or ")}:`,
        raise(`a list${size}`),
        `for ${item} in ${value}:`,
        ...this.lines(schema.items, item, where, depth + 1).map((line) => `    ${line}`),
      ];
    }
    if (schema.type === "object") return this.object(schema, value, where, depth, raise);
    throw new Error(`${where}: no check for ${JSON.stringify(schema)}`);
  }

  text({ minLength, maxLength, pattern }, value, raise) {
    const tests = [`type(${value}) is not str`];
    if (minLength !== undefined) tests.push(`len(${value}) < ${minLength}`);
    if (maxLength !== undefined) tests.push(`len(${value}) > ${maxLength}`);
    if (pattern !== undefined) {
      if (!this.patterns.includes(pattern)) this.patterns.push(pattern);
      tests.push(`PATTERN_${this.patterns.indexOf(pattern)}(${value}) is None`);
    }
    const said = pattern
      ? `text of the form ${pattern}`
      : maxLength
        ? `text of ${minLength ?? 0} to ${maxLength} characters`
        : minLength
          ? "text that is not empty"
          : "text";
    return [`if ${tests.join(" or ")}:`, raise(said)];
  }

  object(schema, value, where, depth, raise) {
    const out = [`if type(${value}) is not dict:`, raise("an object")];
    if (schema.additionalProperties && typeof schema.additionalProperties === "object" && !schema.properties) {
      const [name, item] = [`name${depth}`, `item${depth}`];
      const inner = this.lines(schema.additionalProperties, item, `${where}.{${name}}`, depth + 1);
      return [...out, `for ${name}, ${item} in ${value}.items():`, ...inner.map((line) => `    ${line}`)];
    }
    const required = new Set(schema.required ?? []);
    for (const [key, property] of Object.entries(schema.properties ?? {})) {
      const local = `value${depth}`;
      out.push(`${local} = ${value}.get(${quote(key)})`);
      // None stands for null, and for what is missing.
      if (required.has(key) && (property.anyOf ?? property.oneOf)?.some(({ type }) => type === "null"))
        out.push(
          `if ${local} is None and ${quote(key)} not in ${value}:`,
          `    raise wrong(f"${where}.${key}", "a value or null", ${local})`,
        );
      const inner = this.lines(property, local, `${where}.${key}`, depth + 1);
      if (required.has(key)) out.push(...inner);
      else out.push(`if ${local} is not None:`, ...inner.map((line) => `    ${line}`));
    }
    return out;
  }
}

/** A type for every schema and a check for each of `checked`, by name, with what comes between them. */
function typesAndChecks(schemas, checked, between) {
  const checks = new Checks(schemas, checked);
  const functions = checked.map(
    (name) =>
      `def ${checkName(name)}(value: Any, where: str) -> None:\n${checks
        .lines(schemas[name], "value", "{where}")
        .map((line) => `    ${line}`)
        .join("\n")}`,
  );
  const patterns = checks.patterns.map(
    (pattern, at) => `PATTERN_${at} = re.compile(r${quote(pattern).replaceAll("\\\\", "\\")}, re.ASCII).fullmatch`,
  );
  return [...pythonClasses(schemas), ...between, ...(patterns.length > 0 ? [patterns.join("\n")] : []), ...functions].join("\n\n\n");
}

const paramsOf = (methods) => Object.keys(methods).map((name) => `${typeName(name)}Params`);

const tableOfChecks = (methods) => `#: Method -> the check of its params, which are an object.
CHECKS: Mapping[str, Callable[[Any, str], None]] = {
${Object.keys(methods)
  .map((name) => `    ${quote(name)}: ${checkName(`${typeName(name)}Params`)},`)
  .join("\n")}
}
`;

const schemasOf = (methods, notifications, values) =>
  collectSchemas({
    wireMethods: methods,
    wireNotifications: Object.fromEntries(Object.entries(notifications).map(([name, params]) => [name, { params }])),
    wireValues: values,
  });

export function hostMessages({ hostMethods, hostNotifications, hostErrors, hostProtocolVersion, ...protocol }) {
  const { checkpointSource, stackFile, desiredState, refitPlan, weightDtype } = protocol;
  const schemas = schemasOf(hostMethods, hostNotifications, {
    CheckpointSource: checkpointSource,
    StackFile: stackFile,
    DesiredState: desiredState,
    RefitPlan: refitPlan,
    WeightDtype: weightDtype,
  });
  const checked = ["StackFile", "DesiredState", "RefitPlan", "CheckpointSource", "WeightDtype", ...paramsOf(hostMethods)];
  return `# Generated from protocol/src/host by \`npm run generate\`; do not edit.
# ruff: noqa: E501
"""The host protocol's calls and answers, checks of params, and error numbers. A check raises HOST_INVALID_PARAMS that names the field."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from ..failure import HostFailure

PROTOCOL_VERSION = ${hostProtocolVersion}

WEIGHT_DTYPES = (${weightDtype.options.map(quote).join(", ")})

#: No JSON number beyond it is finite.
LARGEST = sys.float_info.max

#: JSON-RPC numbers of the errors.
ERRORS: Mapping[str, int] = {
${Object.entries(hostErrors)
  .map(([code, { number }]) => `    ${quote(code)}: ${number},`)
  .join("\n")}
}


${typesAndChecks(schemas, checked, [
  `def wrong(where: str, expected: str, value: object) -> HostFailure:
    return HostFailure("HOST_INVALID_PARAMS", f"{where}: expected {expected}, received {type(value).__name__}", {"field": where})`,
])}


${tableOfChecks(hostMethods)}`;
}

export function gatewayMessages({ gatewayMethods, gatewayNotifications, gatewayPlace, gatewayProtocolVersion }) {
  const schemas = schemasOf(gatewayMethods, gatewayNotifications, { Place: gatewayPlace });
  return `# Generated from protocol/src/host/gateway.ts by \`npm run generate\`; do not edit.
# ruff: noqa: E501
"""The gateway's calls, answers and notifications, and checks of params. A check raises HOST_INVALID_PARAMS that names the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from refit_host.wire.protocol import LARGEST, wrong

PROTOCOL_VERSION = ${gatewayProtocolVersion}


${typesAndChecks(schemas, paramsOf(gatewayMethods), [])}


${tableOfChecks(gatewayMethods)}`;
}
