import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { hostEnvironment } from "../../host/index.ts";
import { packageRoot } from "../../package-root.ts";

const scripts = join(packageRoot, "hosts", "python", "refit_install");
/** A pip that fails explains itself in a few lines; a resolver's conflict takes a few dozen. */
const keptLines = 60;
const maxLineLength = 2000;
const guardMs = 2_000;

export interface PythonEnd {
  readonly code: number | null;
  readonly stdout: string;
  /** Last lines of both streams, in the order in which they came. */
  readonly tail: readonly string[];
}

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly onLine?: (line: string) => void;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a script of hosts/python/refit_install, or a module under its guard. Rejects only when the interpreter cannot be started or `signal` ends it. */
export function runScript(
  python: string,
  script: "facts" | "repair" | "guarded",
  args: readonly string[] = [],
  { signal, onLine, env }: RunOptions = {},
): Promise<PythonEnd> {
  return new Promise((resolve, reject) => {
    // Its standard input stays open as long as we live: the guard ends it when we do not.
    const child = spawn(python, [join(scripts, `${script}.py`), ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      windowsHide: true,
      env: hostEnvironment({ PYTHONDONTWRITEBYTECODE: "1", PYTHONNOUSERSITE: "1", ...env }, { fetches: true }),
    });
    const tail: string[] = [];
    const stdout: string[] = [];
    const take = (line: string): void => {
      const kept = line.slice(0, maxLineLength);
      tail.push(kept);
      if (tail.length > keptLines) tail.shift();
      onLine?.(kept);
    };
    child.stdin.on("error", () => undefined);
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (stdout.length < 1000) stdout.push(line);
      take(line);
    });
    createInterface({ input: child.stderr }).on("line", take);
    // The guard ends itself and what it started; a Python that does not even do that is ended from here.
    const stop = (): void => {
      child.stdin.destroy();
      setTimeout(() => void child.kill("SIGKILL"), guardMs).unref();
    };
    if (signal?.aborted === true) stop();
    signal?.addEventListener("abort", stop, { once: true });
    child.once("error", reject);
    child.once("close", (code) => {
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted === true) reject(signal.reason as Error);
      else resolve({ code, stdout: stdout.join("\n"), tail });
    });
  });
}
