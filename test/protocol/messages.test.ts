import { readFileSync } from "node:fs";
import { describe, expect, expectTypeOf, it } from "vitest";
import { parse } from "yaml";
import {
  isWireMethod,
  wireMethods,
  wireNotifications,
  type WireMethod,
  type WireParams,
  type WireResult,
} from "../../protocol/src/index.ts";

interface GoldenCase {
  readonly case: string;
  readonly method?: WireMethod;
  readonly notification?: keyof typeof wireNotifications;
  readonly part: "params" | "result";
  readonly valid: boolean;
  readonly value: unknown;
}
const golden = JSON.parse(readFileSync(new URL("./golden/messages.json", import.meta.url), "utf8")) as GoldenCase[];
const generated = (name: string): string => readFileSync(new URL(`../../protocol/generated/${name}`, import.meta.url), "utf8");

describe("wireMethods", () => {
  it.each(golden)("agrees with the golden message: $case", ({ method, notification, part, valid, value }) => {
    const schema = method ? wireMethods[method][part] : wireNotifications[notification!].params;
    expect(schema.safeParse(value).success).toBe(valid);
  });

  it("ties a method's name to its params and result", () => {
    expectTypeOf<WireParams<"cancel">>().toEqualTypeOf<{ request: string | number }>();
    expectTypeOf<WireResult<"jobs.cancel">>().toEqualTypeOf<{ readonly cancelled: boolean }>();
  });

  it("lets a read token change nothing: whoever may read may not prepare, push, add or free", () => {
    const readable = Object.entries(wireMethods).flatMap(([name, { role }]) => (role === "read" ? [name] : []));
    expect(readable).toEqual([
      "hello",
      "cancel",
      "ping",
      "segments.confirm",
      "catalog.list",
      "catalog.get",
      "catalog.notes",
      "catalog.preview",
      "adapter.layers",
      "adapter.find",
      "folders.list",
      "engine.history",
      "engine.list",
      "jobs.list",
      "events.subscribe",
      "events.history",
      "status",
      "telemetry.figures",
      "telemetry.log",
      "settings.list",
      "cache.list",
    ]);
  });

  it("knows its own names only", () => {
    expect(isWireMethod("status")).toBe(true);
    expect(isWireMethod("toString")).toBe(false);
    expect(isWireMethod("__proto__")).toBe(false);
  });
});

describe("generated files", () => {
  const references = (value: unknown): string[] =>
    typeof value !== "object" || value === null
      ? []
      : Object.entries(value).flatMap(([key, item]) => (key === "$ref" ? [String(item)] : references(item)));
  const resolves = (document: unknown, pointer: string): boolean => {
    let at = document;
    for (const part of pointer.slice(2).split("/")) at = (at as Record<string, unknown> | undefined)?.[part];
    return at !== undefined;
  };

  it.each([
    ["schema.json", (text: string): unknown => JSON.parse(text)],
    ["asyncapi.yaml", (text: string): unknown => parse(text)],
  ] as const)("%s refers only to what it holds and covers every method", (name, read) => {
    const document: unknown = read(generated(name));
    const all = references(document);
    expect(all.length).toBeGreaterThan(50);
    expect(all.filter((pointer) => !resolves(document, pointer))).toEqual([]);
    for (const method of Object.keys(wireMethods)) expect(generated(name)).toContain(method);
  });
});
