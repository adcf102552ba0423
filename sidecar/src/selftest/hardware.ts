import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { familyTable, type FamilyDescription } from "@refit-sidecar/protocol";
import { packageRoot } from "../package-root.ts";

/** A line of `hardware.json`: what has run on which hardware. docs/operate/gpu.md, doctor and self-tests show the same table. */
export interface HardwareRow {
  readonly host: string;
  /** all: the host process as users run it. parts: its parts one by one. */
  readonly part: "all" | "parts";
  readonly what: string;
  readonly hardware: string;
  readonly software: string;
  /** Compute capability, for NVIDIA cards. */
  readonly capability: string | null;
  readonly ran: boolean;
  /** By which descriptions of families (`ran`) say what of theirs has run there. */
  readonly name?: string;
}

type Ran = Pick<FamilyDescription, "title" | "ran">;

/** The rows with what the families' descriptions add to them. */
export const hardwareRows = (rows: readonly HardwareRow[], families: readonly Ran[]): readonly HardwareRow[] =>
  rows.map(({ name, ...row }) => {
    const added =
      name === undefined ? [] : families.flatMap(({ title, ran }) => (ran?.[name] === undefined ? [] : [`${title}: ${ran[name]}`]));
    return { ...row, what: [row.what, ...added].join("; ") };
  });

export const readHardware = async (): Promise<readonly HardwareRow[]> =>
  hardwareRows(JSON.parse(await readFile(join(packageRoot, "hardware.json"), "utf8")) as readonly HardwareRow[], familyTable);

/** Whether the whole host has run on a device of that kind before, by the shipped table. */
export async function hasRun(host: string, device: { readonly type: string; readonly capability?: string | undefined }): Promise<boolean> {
  return (await readHardware()).some(
    (row) =>
      row.host === host &&
      row.ran &&
      row.part === "all" &&
      (device.type === "cpu" ? row.capability === null : row.capability !== null && row.capability === device.capability),
  );
}
