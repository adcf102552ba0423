// A headless Chromium over its DevTools protocol, for the page's bench and its pictures. Node's own modules and `ws` alone.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

export function findChromium() {
  const names = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean);
  return names.find((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0) ?? null;
}

const flags = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--hide-scrollbars",
  "--remote-debugging-port=0",
];

/** @returns {Promise<{send: Function, evaluate: Function, until: Function, open: Function, view: Function, screenshot: Function, tasks: Function, problems: string[], close: Function}>} */
export async function openBrowser(chromium = findChromium()) {
  if (chromium === null) throw new Error("expected Chromium (CHROMIUM, chromium, chromium-browser or google-chrome); found none");
  const profile = mkdtempSync(join(tmpdir(), "refit-chromium-"));
  const child = spawn(chromium, [...flags, `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  const port = await new Promise((resolve, reject) => {
    let text = "";
    child.stderr.on("data", (chunk) => {
      text += chunk;
      const found = /ws:\/\/127\.0\.0\.1:(\d+)\//.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once("close", () => reject(new Error(`Chromium ended: ${text}`)));
  });
  const targets = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
  const socket = new WebSocket(targets.find(({ type }) => type === "page").webSocketDebuggerUrl, { maxPayload: 256 * 2 ** 20 });
  await new Promise((resolve) => socket.once("open", resolve));
  const waiting = new Map();
  const problems = [];
  const traced = [];
  let traceEnded = () => undefined;
  let lastId = 0;
  socket.on("message", (data) => {
    const told = JSON.parse(data.toString());
    if (told.id !== undefined) waiting.get(told.id)?.(told);
    if (told.method === "Tracing.dataCollected") traced.push(...told.params.value);
    if (told.method === "Tracing.tracingComplete") traceEnded();
    if (told.method === "Runtime.exceptionThrown") problems.push(told.params.exceptionDetails?.exception?.description ?? "an exception");
    if (told.method === "Log.entryAdded" && told.params.entry.level === "error") problems.push(told.params.entry.text);
  });
  const send = (method, params = {}) =>
    new Promise((resolve, reject) => {
      lastId += 1;
      waiting.set(lastId, (told) => (told.error ? reject(new Error(`${method}: ${told.error.message}`)) : resolve(told.result)));
      socket.send(JSON.stringify({ id: lastId, method, params }));
    });
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  async function evaluate(expression) {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }
  return {
    send,
    evaluate,
    problems,
    open: (url) => send("Page.navigate", { url }),
    /** Waits until the expression is truthy; gives its value. */
    async until(expression, timeoutMs = 30_000) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const value = await evaluate(`new Promise((resolve) => setTimeout(() => resolve(${expression}), 50))`).catch(() => false);
        if (value) return value;
        if (Date.now() > deadline) {
          const text = await evaluate("document.body?.innerText.slice(0, 2000)").catch(() => "");
          throw new Error(`waited in vain for ${expression}\n${problems.join("\n")}\n${text}`);
        }
      }
    },
    /** Size of the window and the theme that the system would ask for. */
    async view({ width, height, theme = "light", mobile = false }) {
      await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
      await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: theme }] });
    },
    async screenshot(file, options = {}) {
      const { data } = await send("Page.captureScreenshot", options);
      writeFileSync(file, Buffer.from(data, "base64"));
    },
    /** The longest tasks of the page's main thread while `work` goes on, in milliseconds: by the clock, and of the processor alone (another program's turn is no part of it). */
    async tasks(work) {
      traced.length = 0;
      await send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "__metadata"] } });
      const result = await work();
      const whole = new Promise((resolve) => (traceEnded = resolve));
      await send("Tracing.end");
      await whole;
      const main = new Set(
        traced.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`),
      );
      const tasks = traced.filter(
        ({ ph, dur, name, pid, tid }) => ph === "X" && dur > 0 && name.endsWith("RunTask") && main.has(`${pid} ${tid}`),
      );
      const longest = (key) => Math.round(Math.max(0, ...tasks.map((task) => task[key] ?? 0)) / 100) / 10;
      const long = (key) => tasks.filter((task) => (task[key] ?? 0) > 50_000).length;
      return {
        result,
        count: tasks.length,
        longestMs: longest("dur"),
        longestProcessorMs: longest("tdur"),
        over50Ms: long("dur"),
        over50ProcessorMs: long("tdur"),
      };
    },
    async close() {
      socket.terminate();
      child.kill();
      await ended;
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
