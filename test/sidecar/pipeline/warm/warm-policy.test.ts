import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { warmPolicy } from "../../../../sidecar/src/pipeline/warm/warm-policy.ts";

type Given = Parameters<typeof warmPolicy>[0];
const policy = (changes: Partial<Given> = {}) =>
  warmPolicy({ warm: "on", "warm-stacks": 2, "warm-folder": [], "quiet-hours": null, ...changes });
const at = (hours: number, minutes: number) => new Date(2026, 10, 23, hours, minutes);
const file = (...parts: string[]) => resolve("/models", ...parts);

describe("warmPolicy", () => {
  it("prepares everything at once by default, and the last two stacks", () => {
    expect(policy().ruleFor(file("a.safetensors"))).toBe("now");
    expect(policy().stacks).toBe(2);
    expect(policy().isQuiet(at(3, 0))).toBe(false);
  });

  it("goes by the longest folder that holds the file, not by a longer name", () => {
    const { ruleFor } = policy({
      "warm-folder": [`${file("loras")}=idle`, `${file("loras", "old=2024")}=off`, `${file("loras", "old=2024", "kept")}=now`],
    });
    expect(ruleFor(file("loras", "a.safetensors"))).toBe("idle");
    expect(ruleFor(file("loras", "old=2024", "a.safetensors"))).toBe("off");
    expect(ruleFor(file("loras", "old=2024", "kept", "a.safetensors"))).toBe("now");
    expect(ruleFor(file("loras-of-mine", "a.safetensors"))).toBe("now");
  });

  it("off prepares nothing, whatever the rules say", () => {
    const off = policy({ warm: "off", "warm-folder": [`${file("loras")}=now`] });
    expect(off.ruleFor(file("loras", "a.safetensors"))).toBe("off");
    expect(off.stacks).toBe(0);
  });

  it.each([
    ["22:00-07:30", at(23, 59), true],
    ["22:00-07:30", at(7, 29), true],
    ["22:00-07:30", at(7, 30), false],
    ["22:00-07:30", at(12, 0), false],
    ["09:00-12:00, 14:00-18:00", at(13, 0), false],
    ["09:00-12:00, 14:00-18:00", at(14, 0), true],
    ["0:00-0:01", at(0, 0), true],
  ])("quiet hours %s at %s: %s", (hours, now, quiet) => expect(policy({ "quiet-hours": hours }).isQuiet(now)).toBe(quiet));

  it.each([
    ["quiet-hours", "22-7"],
    ["quiet-hours", "25:00-07:00"],
    ["quiet-hours", "08:00-08:00"],
    ["quiet-hours", "08:60-09:00"],
    ["warm-folder", ["/a"]],
    ["warm-folder", ["/a=later"]],
    ["warm-folder", ["=now"]],
  ] as const)("%s = %j is refused with what it expects", (name, value) =>
    expect(() => policy({ [name]: value })).toThrow(
      expect.objectContaining({ code: "OPTIONS_INVALID", message: expect.stringContaining(`--${name} expects`) as string }) as Error,
    ),
  );
});
