// Log lines: one line per fact, level first, on stderr, so that stdout stays for results.

export type LogLevel = "error" | "warn" | "info" | "debug";

const order: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

/** A line as pages and support bundles show it. */
export interface LogLine {
  readonly at: string;
  readonly level: LogLevel;
  readonly text: string;
}

export interface Log {
  readonly error: (text: string) => void;
  readonly warn: (text: string) => void;
  readonly info: (text: string) => void;
  readonly debug: (text: string) => void;
  /** Takes effect for the next line; used when the configuration is reloaded. */
  readonly setLevel: (level: LogLevel) => void;
  /** The last lines that were written, oldest first. */
  readonly recent: () => readonly LogLine[];
}

/** About 100 KB. */
const keptLines = 500;

/** `write` receives whole lines. Control characters are escaped: file names are data and must not forge lines. */
export function createLog(level: LogLevel, write: (line: string) => void, now: () => Date = () => new Date()): Log {
  let current = level;
  const kept: LogLine[] = [];
  const at = (lineLevel: LogLevel) => (text: string) => {
    if (order[lineLevel] > order[current]) return;
    const safe = text.replace(/[\u0000-\u001f\u007f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
    const line = { at: now().toISOString(), level: lineLevel, text: safe.slice(0, 2000) };
    kept.push(line);
    if (kept.length > keptLines) kept.shift();
    write(`${line.at} ${lineLevel.padEnd(5)} ${safe}\n`);
  };
  return {
    error: at("error"),
    warn: at("warn"),
    info: at("info"),
    debug: at("debug"),
    setLevel: (next) => {
      current = next;
    },
    recent: () => kept.slice(),
  };
}
