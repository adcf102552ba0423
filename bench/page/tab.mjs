// The tab of A1111 and Forge without the web UI: a page that mounts it as Gradio does, and a server with the plugin's routes, which it relays to a sidecar.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const plugin = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "plugin");
const types = { ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html" };

/** What the plugin's style takes from Gradio's default theme, and what Gradio does to everything inside an HTML block. */
const themes = {
  light:
    "--body-text-color: #1f2937; --background-fill-primary: #ffffff; --background-fill-secondary: #f9fafb; --border-color-primary: #e5e7eb;",
  dark: "--body-text-color: #f3f4f6; --background-fill-primary: #0b0f19; --background-fill-secondary: #111827; --border-color-primary: #374151;",
};
const page = (
  theme,
) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>small web UI</title><link rel="icon" href="data:,"><style>
  body { ${themes[theme]} margin: 0; padding: 16px; background: var(--background-fill-primary); color: var(--body-text-color); font: 16px system-ui; }
  .prose :is(h1, h2, h3, p, ul, dl) { margin: 1em 0; } .prose button { border: none; background: none; }
</style><script>globalThis.gradioApp = () => document;</script><script type="module" src="file=extensions/refit-sidecar/javascript/refit-sidecar.mjs"></script></head>
<body class="${theme === "dark" ? "dark" : ""}"><gradio-app><main class="gradio-container"><h1>Small web UI</h1>
<div id="refit_txt2img"><span>Refit Sidecar <span class="refit-brief"></span></span><div class="prose"><div class="refit-line" role="status" data-state="idle">No picture was made yet.</div></div></div>
<div id="tab_refit_sidecar" role="tabpanel" aria-label="Refit"><div id="refit_sidecar_panel" class="prose"><div class="refit-webui refit-tab"><p class="refit-empty">The page is starting.</p></div></div></div>
</main></gradio-app><link rel="stylesheet" property="stylesheet" href="file=extensions/refit-sidecar/style.css"></body></html>`;

/** @param {{open: () => Promise<object>}} scene of scene.mjs */
export async function serveTab({ open }) {
  const client = await open();
  /** What the plugin tells besides the sidecar's answers; `signIn`: it asks for a name first. */
  const plain = {
    connection: { state: "connected", text: "Connected to the sidecar." },
    view: { state: "serving", line: "On an engine.", last_refit_ms: 45 },
    lastRun: null,
    signIn: false,
  };
  let told = { ...plain };
  const events = [];
  const happened = (event) => events.push({ at: new Date().toISOString(), atMs: Date.now(), event });
  client.onEvent(({ event }) => happened(event));
  await client.call("events.subscribe", { topics: ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"] });

  function facts(query) {
    const { signIn, ...shown } = told;
    if (signIn) throw Object.assign(new Error("This UI asks for a name and a password."), { status: 401, code: "PAGE_SIGN_IN" });
    return { ...shown, events: events.slice(Number(query.get("after"))), told: events.length };
  }

  async function bodyOf(request) {
    let text = "";
    for await (const chunk of request) text += chunk;
    return JSON.parse(text);
  }

  async function answer(path, query, request) {
    if (path === "facts") return facts(query);
    const params = request.method === "POST" ? await bodyOf(request) : JSON.parse(query.get("params") ?? "{}");
    return (await client.call(path.split("/").at(-1), params)).result;
  }

  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
    const send = (type, body) => response.setHeader("content-type", type).end(body);
    const file = (path) => send(types[extname(path)] ?? "text/plain", readFileSync(join(plugin, normalize(`/${path}`))));
    try {
      if (pathname === "/") return send("text/html", page(searchParams.get("__theme") === "dark" ? "dark" : "light"));
      if (pathname.startsWith("/file=extensions/refit-sidecar/")) return file(pathname.slice("/file=extensions/refit-sidecar/".length));
      if (pathname.startsWith("/refit-sidecar/web/")) return file(pathname.slice("/refit-sidecar/".length));
      if (!pathname.startsWith("/refit-sidecar/")) return response.writeHead(404).end();
      return send("application/json", JSON.stringify(await answer(pathname.slice("/refit-sidecar/".length), searchParams, request)));
    } catch (error) {
      return response.writeHead(error.status ?? 500).end(JSON.stringify({ code: error.code ?? "", message: error.message }));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    /** @param {"light" | "dark"} theme as the UI is told by its address */
    url: (theme = "light") => `http://127.0.0.1:${server.address().port}/${theme === "dark" ? "?__theme=dark" : ""}`,
    happened,
    /** Changes of what the plugin tells, beside what it tells at its start. */
    tell: (changes = {}) => void (told = { ...plain, ...changes }),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await client.close();
    },
  };
}
