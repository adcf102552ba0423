// `refit-sidecar error CODE`: the error reference where no page is at hand.
import { errorTable, failureTables, hostErrors } from "@refit-sidecar/protocol";
import { afterEach, describe, expect, it, vi } from "vitest";
import { main } from "../../../sidecar/src/main.ts";

afterEach(() => void vi.restoreAllMocks());

async function said(...args: readonly string[]): Promise<{ readonly status: number; readonly text: string }> {
  const lines: string[] = [];
  for (const stream of ["log", "error"] as const) vi.spyOn(console, stream).mockImplementation((line: string) => void lines.push(line));
  const status = await main(["error", ...args]);
  return { status, text: lines.join("\n") };
}

describe("error", () => {
  it("tells what every code means and what to do", async () => {
    for (const code of [errorTable, hostErrors, ...Object.values(failureTables)].flatMap((table) => Object.keys(table)))
      expect((await said(code)).text.split("\n"), code).toHaveLength(3);
    expect((await said("[catalog_truncated]", "--json")).text).toContain('"code":"CATALOG_TRUNCATED"');
    expect((await said("SYSTEM_ENOSPC")).text).toContain("disk is full");
  });

  it("refuses what is no code", async () => {
    expect(await said("NOBODY_KNOWS")).toEqual({ status: 2, text: expect.stringContaining("[CLI_ARGUMENTS]") as string });
  });
});
