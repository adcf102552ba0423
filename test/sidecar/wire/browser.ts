// A headless Chromium over its DevTools protocol, as much as the dashboard's test needs.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { cleanUp } from "./support.ts";

export function findChromium(): string | null {
  const names = [process.env["CHROMIUM"], "chromium", "chromium-browser", "google-chrome"].filter((name) => name !== undefined);
  return names.find((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0) ?? null;
}

export interface Page {
  readonly open: (url: string) => Promise<void>;
  /** Value of an expression, or of the promise that it gives. */
  readonly evaluate: (expression: string) => Promise<unknown>;
  /** Waits until the expression is truthy. */
  readonly until: (expression: string) => Promise<void>;
  readonly screenshot: (file: string) => Promise<void>;
  readonly problems: readonly string[];
}

interface Told {
  readonly id?: number;
  readonly method?: string;
  readonly result?: {
    readonly data?: string;
    readonly result?: { readonly value?: unknown };
    readonly exceptionDetails?: { readonly text: string; readonly exception?: { readonly description?: string } };
  };
  readonly params?: {
    readonly exceptionDetails?: { readonly exception?: { readonly description?: string } };
    readonly entry?: { readonly level: string; readonly text: string };
  };
}

export async function openBrowser(chromium: string): Promise<Page> {
  const profile = mkdtempSync(join(tmpdir(), "refit-chromium-"));
  const browser = spawn(
    chromium,
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      "--window-size=1200,1000",
      "about:blank",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const ended = new Promise((resolve) => browser.once("close", resolve));
  cleanUp(async () => {
    browser.kill();
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  const port = await new Promise<string>((resolve, reject) => {
    let text = "";
    browser.stderr.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /ws:\/\/127\.0\.0\.1:(\d+)\//.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    browser.once("close", () => reject(new Error(`Chromium ended: ${text}`)));
  });
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as { type: string; webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(targets.find(({ type }) => type === "page")!.webSocketDebuggerUrl);
  cleanUp(() => socket.terminate());
  await new Promise((resolve) => socket.once("open", resolve));
  const waiting = new Map<number, (told: Told) => void>();
  const problems: string[] = [];
  let lastId = 0;
  socket.on("message", (data: Buffer) => {
    const told = JSON.parse(data.toString()) as Told;
    if (told.id !== undefined) waiting.get(told.id)?.(told);
    if (told.method === "Runtime.exceptionThrown") problems.push(told.params?.exceptionDetails?.exception?.description ?? "an exception");
    if (told.method === "Log.entryAdded" && told.params?.entry?.level === "error") problems.push(told.params.entry.text);
  });
  const send = (method: string, params: object = {}): Promise<Told> =>
    new Promise((resolve) => {
      lastId += 1;
      waiting.set(lastId, resolve);
      socket.send(JSON.stringify({ id: lastId, method, params }));
    });
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  const evaluate = async (expression: string): Promise<unknown> => {
    const { result } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (result?.exceptionDetails) throw new Error(result.exceptionDetails.exception?.description ?? result.exceptionDetails.text);
    return result?.result?.value;
  };
  return {
    problems,
    evaluate,
    open: async (url) => void (await send("Page.navigate", { url })),
    async until(expression) {
      // The page's own clock decides how often it is looked at; a navigation in between only costs another look.
      while (
        (await evaluate(`new Promise((resolve) => setTimeout(() => resolve(Boolean(${expression})), 50))`).catch(() => false)) !== true
      );
    },
    async screenshot(file) {
      writeFileSync(file, Buffer.from((await send("Page.captureScreenshot")).result?.data ?? "", "base64"));
    },
  };
}
