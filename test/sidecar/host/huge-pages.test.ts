import { expect, it } from "vitest";
import { hostEnvironment, hugePages } from "../../../sidecar/src/host/index.ts";

it("a host that computes in main memory is given huge pages on Linux, next to what the caller had set", () => {
  expect(hugePages("linux", "")).toEqual({ GLIBC_TUNABLES: "glibc.malloc.hugetlb=1" });
  expect(hugePages("linux", "glibc.malloc.arena_max=1")).toEqual({ GLIBC_TUNABLES: "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1" });
});

it("whoever has set that tunable keeps it, and other systems have no such thing", () => {
  const given = { GLIBC_TUNABLES: "glibc.malloc.hugetlb=0" };
  expect(hostEnvironment(hugePages("linux", given.GLIBC_TUNABLES), { given })).toMatchObject(given);
  expect(hugePages("win32", "")).toEqual({});
  expect(hugePages("darwin", "")).toEqual({});
});
