// What `--devices` means: which devices there are, and how a host is told to run on one of them.

import { availableParallelism } from "node:os";
import { Failure } from "../../failure/index.ts";
import { findGpus } from "../../install/host/index.ts";
import type { DeviceName } from "../../refit/index.ts";

export interface Devices {
  /** Where hosts of a kind run; `[null]`: there is one, and the host finds it. */
  readonly of: (kind: string) => readonly DeviceName[];
  /** What a host is started with to run there. */
  readonly start: (device: DeviceName) => { readonly flags: readonly string[]; readonly env: Readonly<Record<string, string>> };
}

export interface DeviceSight {
  /** The option. */
  readonly text: string;
  /** Option `host-env`. */
  readonly environment: readonly string[];
  /** Whether there may be a card at all: the driver is asked only then. */
  readonly card: boolean;
  readonly countCards?: () => Promise<number>;
  readonly cores?: number;
}

const card = /^(\d{1,2}|(GPU|MIG)-[0-9A-Za-z-]{4,80})$/;
const processor = /^cpu:\d{1,2}$/;
const visible = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] as const;
const alone: readonly DeviceName[] = [null];

/** Throws OPTIONS_INVALID. */
export async function findDevices({ text, environment, card: mayHaveCard, countCards, cores }: DeviceSight): Promise<Devices> {
  const named = text === "auto" ? await cardsThere(environment, mayHaveCard, countCards) : parseDevices(text, environment);
  const onProcessor = named.some((name) => name !== null && processor.test(name));
  const threads = String(Math.max(1, Math.floor((cores ?? availableParallelism()) / named.length)));
  const setsThreads = environment.some((item) => item.split("=", 1)[0] === "OMP_NUM_THREADS");
  return {
    of: (kind) => (serves(kind, onProcessor) ? named : alone),
    start: (device) => {
      if (device === null) return { flags: [], env: {} };
      if (processor.test(device)) return { flags: ["--device", "cpu"], env: setsThreads ? {} : { OMP_NUM_THREADS: threads } };
      // The process sees that card alone, in the order of nvidia-smi: nothing in it has to name a card again.
      return { flags: ["--device", "cuda"], env: { CUDA_DEVICE_ORDER: "PCI_BUS_ID", CUDA_VISIBLE_DEVICES: device } };
    },
  };
}

/** The embedded host knows no cards, TensorRT no processor. */
const serves = (kind: string, onProcessor: boolean): boolean => kind === "torch" || (kind === "onnxruntime") === onProcessor;

/** Every card that the driver shows, or that `host-env` lets hosts see; one alone needs no name. */
async function cardsThere(
  environment: readonly string[],
  mayHaveCard: boolean,
  countCards: () => Promise<number> = async () => (await findGpus()).length,
): Promise<readonly DeviceName[]> {
  const given = visibleIn(environment);
  const cards =
    given === null
      ? Array.from({ length: mayHaveCard ? await countCards() : 0 }, (_, index) => String(index))
      : given.split(",").map((name) => name.trim());
  return cards.length > 1 && cards.every((name) => card.test(name)) ? cards : alone;
}

function visibleIn(environment: readonly string[]): string | null {
  for (const item of environment) {
    const [name = "", ...rest] = item.split("=");
    if (visible.some((known) => known === name)) return rest.length > 0 ? rest.join("=") : (process.env[name] ?? null);
  }
  return null;
}

function parseDevices(text: string, environment: readonly string[]): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  const invalid = (why: string): Failure =>
    new Failure(
      "OPTIONS_INVALID",
      `--devices expects auto, or cards as nvidia-smi numbers them (0,1), or cpu:0,cpu:1 for several hosts on the processor; ${why}`,
      { option: "devices" },
    );
  for (const name of names) if (!card.test(name) && !processor.test(name)) throw invalid(`got ${JSON.stringify(name.slice(0, 100))}`);
  if (new Set(names).size < names.length) throw invalid("a device is named twice");
  if (new Set(names.map((name) => processor.test(name))).size > 1) throw invalid("cards and processor do not mix");
  if (visibleIn(environment) !== null && card.test(names[0] ?? ""))
    throw invalid(`host-env sets ${visible.join(" or ")} too; name the cards in one place`);
  return names;
}
