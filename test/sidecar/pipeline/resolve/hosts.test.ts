import { expect, it } from "vitest";
import { hostCommand, keepsSpareHost } from "../../../../sidecar/src/pipeline/resolve/hosts.ts";

it("the embedded host gets huge pages, unless the operator has set that tunable of glibc", () => {
  const tunables = (set?: string) => hostCommand("onnxruntime", () => null, undefined, [], set).env?.["GLIBC_TUNABLES"];
  const own = "glibc.malloc.hugetlb=0";
  if (process.platform === "linux") expect(tunables("")).toBe("glibc.malloc.hugetlb=1");
  expect(tunables(own)).toBe(process.platform === "linux" ? own : undefined);
});

it("a spare host waits where nobody misses its memory: one of PyTorch on a large card alone", () => {
  const gib = 1024 ** 3;
  const card = (gibibytes: number) => ({ type: "cuda", totalBytes: gibibytes * gib });
  const keeps = (kind: string, freeGib: number, device: { type: string; totalBytes: number } | null, option: "on" | "off" = "on") =>
    keepsSpareHost({ kind, option, freeBytes: freeGib * gib, device });
  expect(keeps("onnxruntime", 3, null)).toBe(true);
  expect(keeps("onnxruntime", 1, null)).toBe(false);
  expect(keeps("torch", 64, card(80))).toBe(true);
  for (const [free, device] of [
    [64, card(16)],
    [8, card(80)],
    [64, { type: "cpu", totalBytes: 64 * gib }],
    [64, null],
  ] as const)
    expect(keeps("torch", free, device)).toBe(false);
  expect(keeps("tensorrt", 64, card(80))).toBe(false);
  expect(keeps("torch", 64, card(80), "off")).toBe(false);
});
