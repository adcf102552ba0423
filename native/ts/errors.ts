import type { SafetensorsErrorCode } from "./api.ts";

/** A tensor file that breaks a rule, moved while it was read, or is something else. Names the file by its last path part only, so it can be shown on the wire. */
export class SafetensorsError extends Error {
  readonly code: SafetensorsErrorCode;
  /** Last part of the path; never the folder. */
  readonly file: string;
  /** The tensor at fault, when one is. */
  readonly tensor: string | null;
  override readonly name = "SafetensorsError";
  constructor(code: SafetensorsErrorCode, file: string, problem: string, options: { tensor?: string; cause?: unknown } = {}) {
    const place = options.tensor === undefined ? file : `${file}: tensor ${JSON.stringify(shorten(options.tensor))}`;
    super(`${place}: ${problem}`, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.file = file;
    this.tensor = options.tensor ?? null;
  }
}

/** A hostile header can hold a name of 100 MB; a message must stay readable. */
function shorten(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 117)}...`;
}
