// The corpus of malformed input that every reader in every language is run against (test/python/corpus has the Python ones). Here: it is the corpus that the
// builders make, and the TypeScript readers answer as it says. The C++ and TypeScript header readers are run against the builders' whole list in test/hostile.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { decodeFrame, FrameReader } from "../../protocol/src/index.ts";
import { hostileFiles, legalOddities } from "../hostile/corpus.ts";
import { frameCases } from "./frames.ts";

const folder = fileURLToPath(new URL("./", import.meta.url));
/** Larger files are made by code in test/hostile; a file in the repository for each would serve nobody. */
const keptBytes = 16_384;
const rowOf = ({ name, bytes, code }: { readonly name: string; readonly bytes: Uint8Array; readonly code: string | null }) => ({
  name,
  code,
  base64: Buffer.from(bytes).toString("base64"),
});

const corpora = {
  "frames.json": frameCases().map(rowOf),
  "headers.json": [...hostileFiles(), ...legalOddities().map((odd) => ({ ...odd, code: null }))]
    .filter(({ bytes }) => bytes.byteLength <= keptBytes)
    .map(rowOf),
};

describe("the corpus", () => {
  it.each(Object.entries(corpora))("%s is what its builder makes (REFIT_RECORD=1 writes it)", (file, rows) => {
    const text = `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]\n`;
    if (process.env["REFIT_RECORD"] === "1") writeFileSync(folder + file, text);
    expect(readFileSync(folder + file, "utf8").replaceAll("\r\n", "\n") === text, `${file} is stale`).toBe(true);
  });

  it.each(frameCases())("frame: $name", ({ bytes, code }) => {
    const decoded = () => decodeFrame(bytes);
    if (code === null) expect(decoded).not.toThrow();
    else expect(decoded).toThrow(expect.objectContaining({ code }) as Error);
    const read = () => [...new FrameReader().push(bytes)];
    // On a stream a frame that is cut short is not over yet, and what follows one is the next.
    if (code === null) expect(read()).toHaveLength(1);
    else if (code !== "FRAME_TRUNCATED") expect(read).toThrow(expect.objectContaining({ code }) as Error);
  });
});
