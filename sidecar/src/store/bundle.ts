// One file that carries a weightless engine to another computer: header, files, Ed25519 signature. Layout:
//   "RFTENG01" | u32 LE header bytes | header JSON { manifest, signer } | 64-byte signature over everything before it | files, back to back, in manifest order
// The header holds every file's SHA-256, so the signature covers the files through it.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { parseManifest } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";
import type { Store } from "./store.ts";

const magic = Buffer.from("RFTENG01");
const signatureBytes = 64;
const maxHeaderBytes = 8 * 1024 * 1024;
const chunkBytes = 4 * 1024 * 1024;

/** Fingerprint of a public key: SHA-256 of its DER form, lower-case hex. */
export function keyFingerprint(publicKey: KeyObject): string {
  return createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
}

/** Reads an Ed25519 key from PEM. Throws Failure BUNDLE_KEY for anything else. */
export function readKey(pem: string, kind: "private" | "public"): KeyObject {
  try {
    const key = kind === "private" ? createPrivateKey(pem) : createPublicKey(pem);
    if (key.asymmetricKeyType === "ed25519") return key;
  } catch {
    // Falls through: not a key at all is the same mistake as a key of another kind.
  }
  throw new Failure("BUNDLE_KEY", `expected an Ed25519 ${kind} key in PEM; make one with "refit-sidecar engine keygen"`, {});
}

/** Writes `entry` of the store as a signed bundle, through a temp file beside `path`. */
export async function exportBundle(
  folder: string,
  manifest: Manifest,
  privateKey: KeyObject,
  path: string,
): Promise<{ readonly sizeBytes: number; readonly signer: string }> {
  const signer = keyFingerprint(createPublicKey(privateKey));
  const header = Buffer.from(JSON.stringify({ manifest, signer }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.byteLength);
  const signed = Buffer.concat([magic, length, header]);
  let sizeBytes = 0;
  await replaceFile(
    path,
    async (out) => {
      const write = async (bytes: Buffer) => {
        await out.writeFile(bytes);
        sizeBytes += bytes.byteLength;
      };
      await write(signed);
      await write(sign(null, signed, privateKey));
      for (const file of manifest.files) {
        for await (const chunk of createReadStream(join(folder, file.name), { highWaterMark: chunkBytes })) await write(chunk as Buffer);
      }
    },
    { mode: 0o600 },
  );
  return { sizeBytes, signer };
}

async function exactly(handle: FileHandle, length: number, position: number, what: string): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0)
      throw new Failure("BUNDLE_DAMAGED", `the bundle ends inside ${what}: expected ${length} bytes, got ${done}; copy it again`, {});
    done += bytesRead;
  }
  return buffer;
}

interface OpenBundle {
  readonly manifest: Manifest;
  readonly signer: string;
  readonly dataOffset: number;
}

/** Checks magic, header and signature before a single file is written. Throws BUNDLE_DAMAGED, BUNDLE_UNTRUSTED. */
async function readBundle(handle: FileHandle, trusted: readonly KeyObject[]): Promise<OpenBundle> {
  const start = await exactly(handle, magic.byteLength + 4, 0, "its first bytes");
  if (!start.subarray(0, magic.byteLength).equals(magic))
    throw new Failure("BUNDLE_DAMAGED", 'this file is not an engine bundle; expected one made by "refit-sidecar engine export"', {});
  const headerBytes = start.readUInt32LE(magic.byteLength);
  if (headerBytes > maxHeaderBytes)
    throw new Failure("BUNDLE_DAMAGED", `the bundle's header claims ${headerBytes} bytes; at most ${maxHeaderBytes} are possible`, {});
  const header = await exactly(handle, headerBytes, start.byteLength, "its header");
  const signature = await exactly(handle, signatureBytes, start.byteLength + headerBytes, "its signature");
  const signed = Buffer.concat([start, header]);
  const signerKey = trusted.find((key) => verify(null, signed, key, signature));
  if (!signerKey) {
    throw new Failure(
      "BUNDLE_UNTRUSTED",
      "no trusted key signed this bundle, and an engine file can run code: pass --trust with the maker's public key if you know the maker, otherwise build the engine here",
      {},
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(header.toString("utf8"));
  } catch {
    throw new Failure("BUNDLE_DAMAGED", "the bundle's header is not JSON", {});
  }
  const manifest = typeof value === "object" && value !== null && "manifest" in value ? parseManifest(value.manifest) : null;
  if (!manifest)
    throw new Failure(
      "BUNDLE_VERSION",
      "the bundle's manifest is not of this version; expected one made by the same major version of refit-sidecar",
      {},
    );
  return { manifest, signer: keyFingerprint(signerKey), dataOffset: start.byteLength + headerBytes + signatureBytes };
}

/**
 * Takes a bundle into the store. `accepts` says why this computer cannot use the engine (capability, library), or null.
 * Throws BUNDLE_UNTRUSTED, BUNDLE_DAMAGED, BUNDLE_VERSION or BUNDLE_UNFIT; the store is untouched then.
 */
export async function importBundle(
  store: Store,
  path: string,
  trusted: readonly KeyObject[],
  accepts: (manifest: Manifest) => string | null | Promise<string | null>,
): Promise<{ readonly entry: string; readonly manifest: Manifest }> {
  const handle = await open(path, "r");
  try {
    const { manifest, signer, dataOffset } = await readBundle(handle, trusted);
    const unfit = await accepts(manifest);
    if (unfit !== null) throw new Failure("BUNDLE_UNFIT", unfit, {});
    const staging = await store.stage();
    try {
      let position = dataOffset;
      for (const file of manifest.files) {
        const hash = createHash("sha256");
        const out = await open(join(staging.folder, file.name), "wx", 0o600);
        try {
          for (let done = 0; done < file.sizeBytes;) {
            const chunk = await exactly(handle, Math.min(chunkBytes, file.sizeBytes - done), position, file.name);
            hash.update(chunk);
            await out.writeFile(chunk);
            done += chunk.byteLength;
            position += chunk.byteLength;
          }
        } finally {
          await out.close();
        }
        if (hash.digest("hex") !== file.sha256)
          throw new Failure("BUNDLE_DAMAGED", `the checksum of ${file.name} is wrong; copy the bundle again`, {});
      }
      const { entry } = await staging.publish(manifest.key, manifest.finger, signer);
      return { entry, manifest };
    } catch (error) {
      await staging.discard();
      throw error;
    }
  } finally {
    await handle.close();
  }
}
