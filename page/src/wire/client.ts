// What every page asks of a sidecar, whichever way its calls go: through the UI's own server (relay.ts), or over a WebSocket of its own (socket.ts).

import type { WireMethod, WireParams, WireResult } from "@refit-sidecar/protocol";

export type CatalogEntry = WireResult<"catalog.get">["entry"];
export type Engine = WireResult<"engine.list">["engines"][number];
export type Folder = WireResult<"folders.list">["folders"][number];
export type Work = WireResult<"jobs.list">;
export type Stamped = WireResult<"events.history">["events"][number];
export type WireEvent = Stamped["event"];
export type Status = WireResult<"status">;

/** A run of a UI, as its plugin tells it. */
export type Run = { readonly checkpoint: string; readonly at?: number } & (
  | { readonly served_by: "local"; readonly reason: string; readonly report?: RunReport }
  | { readonly served_by: "engine"; readonly reason?: string; readonly report: RunReport }
);

interface RunReport {
  readonly steps: number;
  readonly step_ms: number;
  readonly refit_ms: number;
  readonly queue_ms: number;
  /** LoRAs that were made for another family, and their families. */
  readonly other_family?: readonly string[];
}

export interface Connection {
  /** starting, connected, lost, missing or sign-in. */
  readonly state: string;
  readonly text: string;
}

/** What the accordion's line of A1111 and Forge shows. */
export interface View {
  readonly state: string;
  readonly line: string;
  readonly last_refit_ms: number | null;
}

export interface Facts {
  readonly connection: Connection;
  readonly lastRun: Run | null;
  readonly events: readonly Stamped[];
  /** How many events there have been; a poll names it as `after` the next time. */
  readonly told?: number;
  readonly view?: View;
}

export interface Client {
  /** `after`: how many events are known already; a server that pushes its events needs none. */
  readonly facts: (after?: number) => Promise<Facts>;
  readonly read: <M extends WireMethod>(method: M, params?: WireParams<M>) => Promise<WireResult<M>>;
  /** Throws for a page that may only read. */
  readonly change: <M extends WireMethod>(method: M, params?: WireParams<M>) => Promise<WireResult<M>>;
  /** The page comes from the sidecar itself, which has pages beside it. */
  readonly ownServer: boolean;
  /** False where the page's token only reads: no button that changes something is drawn. */
  readonly mayChange: () => boolean;
}

/** Pages follow these: `refit.connection`, `refit.run`, `refit.event`, `reconnected`; ComfyUI's own api is one, and so are poll.ts and socket.ts. */
export interface Channel {
  readonly addEventListener: (name: string, listener: (event: CustomEvent) => void) => void;
}

/** A text as every message ends: with its code, by which the error reference has it (docs/operate/errors.md). */
export const coded = ({ message, code }: { readonly message: string; readonly code?: string | undefined }): string =>
  code === undefined || message.endsWith("]") ? message : `${message.trim()} [${code}]`;

/** A refusal with the sidecar's own code and text. */
export class RefitError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(coded({ message, code }));
    this.name = "RefitError";
    this.code = code;
  }
}
