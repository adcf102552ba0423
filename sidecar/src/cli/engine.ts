import { generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { Failure } from "../failure/index.ts";
import { exportBundle, importBundle, readKey } from "../store/index.ts";
import type { Manifest } from "../store/index.ts";
import { entryBy, ownStore } from "./cache.ts";
import { dataDirOf } from "./data-dir.ts";
import type { StoreFlags } from "./cache.ts";
import { aboutPython } from "./about.ts";
import type { About, EnginePlatform } from "./about.ts";
import { hostPythons } from "../pipeline/index.ts";
import { exitCode } from "./exit.ts";
import { checkOutput, folderInputs } from "./outputs.ts";

interface EngineFlags extends StoreFlags {
  readonly json?: boolean;
  readonly out?: string;
  readonly signKey?: string;
  readonly trust?: readonly string[];
  readonly python?: string;
}

async function keygen(name: string): Promise<Record<string, unknown>> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  await writeFile(`${name}.key.pem`, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  await writeFile(`${name}.pub.pem`, publicKey.export({ type: "spki", format: "pem" }), { flag: "wx" });
  return { private_key: `${name}.key.pem`, public_key: `${name}.pub.pem` };
}

async function exportOne(entry: string, flags: EngineFlags): Promise<Record<string, unknown>> {
  if (flags.out === undefined || flags.signKey === undefined)
    throw new Failure("CLI_ARGUMENTS", "engine export expects --out FILE and --sign-key FILE", {});
  const store = await ownStore(flags, false);
  const info = await entryBy(store, entry);
  const found = info.manifest === null ? null : await store.find(info.manifest.key, info.manifest.finger);
  if (found?.found !== "hit")
    throw new Failure("STORE_DAMAGED", "the engine's files are damaged; it is not exported", { entry: info.entry });
  const inputs = [{ what: "the private key", path: flags.signKey }, ...(await folderInputs("a file of the engine", found.folder))];
  await checkOutput({
    out: flags.out,
    option: "--out",
    code: "CLI_ARGUMENTS",
    inputs,
    replaces: { what: "engine bundle", begins: "RFTENG01" },
  });
  const { sizeBytes, signer } = await exportBundle(
    found.folder,
    found.manifest,
    readKey(await readFile(flags.signKey, "utf8"), "private"),
    flags.out,
  );
  return { entry: info.entry, out: flags.out, size_bytes: sizeBytes, signer };
}

const words = ({ host, library, capability, driverBranch }: EnginePlatform): string =>
  `host ${host}, ${library}, ${capability}${driverBranch === "" ? "" : `, driver ${driverBranch}`}`;

/** Why this computer cannot use the engine, null when it can. A graph fits every computer; a compiled engine the host, library, capability and driver branch that it was made with. */
export async function unfit({ key }: Manifest, ask: () => Promise<About | string>): Promise<string | null> {
  if (key.host === "graph") return null;
  const about = await ask();
  if (typeof about === "string" || about.problem !== undefined)
    return `this engine needs ${words(key)}; what this computer has could not be found out: ${typeof about === "string" ? about : (about.problem ?? "")}`;
  const here = (about.engines ?? []).filter(({ host }) => host === key.host);
  if (here.some((platform) => words(platform) === words(key))) return null;
  return `expected an engine for ${here.length === 0 ? `hosts that compile on this computer (${(about.engines ?? []).map(words).join("; ") || "none"})` : here.map(words).join("; ")}, this one needs ${words(key)}; build it here`;
}

/** The Python of that host as `serve` would find it. */
async function askHost(kind: string, flags: EngineFlags): Promise<About | string> {
  const python =
    kind === "torch" || kind === "tensorrt"
      ? hostPythons(dataDirOf(flags), () => flags.python ?? process.env["REFIT_PYTHON"] ?? null)(kind)
      : null;
  return python === null
    ? `the ${kind} host is not installed; run "refit-sidecar host install ${kind}" or pass --python`
    : aboutPython(python);
}

async function importOne(file: string, flags: EngineFlags): Promise<Record<string, unknown>> {
  const trusted = await Promise.all((flags.trust ?? []).map(async (path) => readKey(await readFile(path, "utf8"), "public")));
  const { entry, manifest } = await importBundle(await ownStore(flags), file, trusted, (manifest) =>
    unfit(manifest, () => askHost(manifest.key.host, flags)),
  );
  return { entry, host: manifest.key.host, structure: manifest.key.structure };
}

export function addEngine(program: Command, done: (code: number) => void): void {
  const engine = program.command("engine").description("move weightless engines between computers, signed");
  const finish = async (flags: EngineFlags, work: Promise<Record<string, unknown>>) => {
    const result = await work;
    console.log(
      flags.json === true
        ? JSON.stringify({ ok: true, ...result })
        : Object.entries(result)
            .map(([name, value]) => `${name}: ${String(value)}`)
            .join("\n"),
    );
    done(exitCode.ok);
  };
  const sub = (words: string, description: string) =>
    engine.command(words).description(description).option("--json", "print one JSON object");
  const stored = (words: string, description: string) =>
    sub(words, description)
      .option("--data-dir <dir>", "data folder of the sidecar")
      .option("--engine-store <dir>", "the store's own folder");
  sub("keygen <name>", "make an Ed25519 key pair for signing bundles").action((name: string, flags: EngineFlags) =>
    finish(flags, keygen(join(name))),
  );
  stored("export <entry>", "write an engine of the store as a signed bundle")
    .option("--out <file>", "bundle to write")
    .option("--sign-key <file>", "private key (PEM)")
    .action((entry: string, flags: EngineFlags) => finish(flags, exportOne(entry, flags)));
  stored("import <file>", "take a bundle into the store; refused unless a trusted key signed it")
    .option(
      "--trust <file>",
      "public key (PEM) of a maker you trust; repeatable",
      (value: string, list: string[]) => [...list, value],
      [] as string[],
    )
    .option("--python <file>", "Python of the engine's host (default: the installed one)")
    .action((file: string, flags: EngineFlags) => finish(flags, importOne(file, flags)));
}
