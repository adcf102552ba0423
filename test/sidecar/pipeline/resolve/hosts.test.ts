import { expect, it } from "vitest";
import { hostCommand } from "../../../../sidecar/src/pipeline/resolve/hosts.ts";

it("the embedded host gets huge pages, unless the operator has set that tunable of glibc", () => {
  const tunables = (set?: string) => hostCommand("onnxruntime", () => null, undefined, [], set).env?.["GLIBC_TUNABLES"];
  const own = "glibc.malloc.hugetlb=0";
  if (process.platform === "linux") expect(tunables("")).toBe("glibc.malloc.hugetlb=1");
  expect(tunables(own)).toBe(process.platform === "linux" ? own : undefined);
});
