// ComfyUI's sidebar tab without ComfyUI: a page that hands the plugin's script the few objects that it takes from the frontend, and a server that relays its calls as the plugin does.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "plugin/web");
const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html" };

const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>sidebar</title>
<style>body { margin: 0; background: #202020; color: #ddd; font: 14px system-ui; } #side { width: 400px; height: 100vh; overflow: auto; }</style>
<div id="side"></div><script type="module" src="/extensions/refit-sidecar/refit.js"></script>`;

const scripts = {
  "/scripts/app.js": `
    const tabs = [];
    export const app = {
      graph: { nodes: [], links: new Map() },
      registerExtension: (extension) => void Promise.resolve().then(() => extension.setup()),
      extensionManager: {
        registerSidebarTab: (tab) => { tabs.push(tab); tab.render(document.getElementById("side")); },
        getSidebarTabs: () => tabs,
        setting: { get: () => true },
        toast: { add: () => undefined },
      },
    };`,
  "/scripts/api.js": `
    const target = new EventTarget();
    const told = new EventSource("/told");
    told.onmessage = ({ data }) => target.dispatchEvent(new CustomEvent("refit.event", { detail: JSON.parse(data) }));
    export const api = {
      fetchApi: (path, options) => fetch("/api" + path, options),
      addEventListener: (name, listener) => target.addEventListener(name, listener),
    };`,
};

/** @param {{open: () => Promise<object>}} scene of scene.mjs */
export async function serveSidebar({ open }) {
  const client = await open();
  const listening = new Set();
  client.onEvent((stamped) => {
    const text = `data: ${JSON.stringify(stamped)}\n\n`;
    for (const response of listening) response.write(text);
  });
  await client.call("events.subscribe", { topics: ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"] });

  async function answer(path, query) {
    if (path === "/api/refit/facts") return { connection: { state: "connected", text: "Connected." }, lastRun: null, events: [], told: 0 };
    const method = path.split("/").at(-1);
    return (await client.call(method, JSON.parse(query.get("params") ?? "{}"))).result;
  }

  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
    const send = (type, body) => response.setHeader("content-type", type).end(body);
    try {
      if (pathname === "/") return send("text/html", page);
      if (pathname in scripts) return send("text/javascript", scripts[pathname]);
      if (pathname === "/told") {
        response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
        listening.add(response);
        return request.once("close", () => listening.delete(response));
      }
      if (pathname.startsWith("/api/")) return send("application/json", JSON.stringify(await answer(pathname, searchParams)));
      const file = normalize(pathname.replace("/extensions/refit-sidecar/", "/"));
      return send(types[extname(file)] ?? "text/plain", readFileSync(join(web, file)));
    } catch (error) {
      return response.writeHead(500).end(JSON.stringify({ code: error.code ?? "", message: error.message }));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await client.close();
    },
  };
}
