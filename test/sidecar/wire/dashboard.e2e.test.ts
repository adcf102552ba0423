// The dashboard in a real browser: log-in, live data, buttons; and what a foreign page in the same browser can do (nothing).
import { createServer } from "node:http";
import { describe, expect, it } from "vitest";
import { findChromium, openBrowser, type Page } from "./browser.ts";
import { cleanUp, connect, startFake, wanted } from "./support.ts";

const chromium = findChromium();
if (chromium === null)
  console.log("skipped: the dashboard's browser test needs Chromium (CHROMIUM, chromium, chromium-browser or google-chrome)");
const text = (selector: string): string => `(document.querySelector(${JSON.stringify(selector)})?.innerText ?? "")`;

/** Opens a view by its address, and waits until it says something. */
async function view(page: Page, id: string, says: string): Promise<void> {
  await page.evaluate(`location.hash = ${JSON.stringify(id)}`);
  await page.until(`document.querySelector("[data-view=${id}]")?.innerText.includes(${JSON.stringify(says)})`);
}

describe.skipIf(chromium === null)("the dashboard in a browser", () => {
  it("opens with a ticket, shows what happens, and its buttons work", async () => {
    const running = await startFake();
    const client = await connect(running);
    await client.call("engine.prepare", wanted);
    const page = await openBrowser(chromium!);
    await page.open(`${running.server.url}/?ticket=${running.server.createTicket("control")}`);
    await page.until(`${text(".refit-adapters")}.includes("ink é.safetensors")`);
    expect(await page.evaluate("location.href")).toBe(`${running.server.url}/`);
    await view(page, "engines", "LIVE");
    expect(await page.evaluate(text("#connection"))).toBe("connected");
    running.backend.emit({
      type: "refit.committed",
      engine: "e-c1",
      ms: 21.4,
      writes: 160,
      bytes: 1,
      stack: [{ id: "a1", strength: 0.8 }],
    });
    await view(page, "activity", "styles/ink é.safetensors × 0.8");
    running.backend.emit({ type: "live.deleted", id: "a2", message: "<img src=x onerror=alert(1)>" });
    await page.until(`${text("#history")}.includes("<img src=x")`);
    expect(await page.evaluate("document.querySelectorAll('img').length")).toBe(0);
    await view(page, "engines", "Pause watching");
    await page.evaluate(`document.querySelector('[data-command="Refit.PauseWatching"]').click()`);
    await view(page, "system", "paused");
    await view(page, "library", "ink");
    await page.evaluate(
      `{ const field = document.querySelector(".refit-filter"); field.value = "sevens"; field.dispatchEvent(new Event("input")); }`,
    );
    await page.until(`!${text(".refit-adapters")}.includes("ink") && ${text(".refit-adapters")}.includes("sevens")`);
    if (process.env["REFIT_SCREENSHOT"]) await page.screenshot(process.env["REFIT_SCREENSHOT"]);
    // The first request of "/" is refused on purpose: that is how the log-in page is shown.
    expect(page.problems.filter((problem) => !problem.includes("401"))).toEqual([]);
  });

  it("logs in with a pasted token, stays logged in over a reload, and shows no buttons to a reader", async () => {
    const running = await startFake();
    const page = await openBrowser(chromium!);
    await page.open(`${running.server.url}/`);
    await page.until(`document.querySelector("#token")`);
    await page.evaluate(`document.querySelector("#token").value = "wrong"; document.querySelector("#form").requestSubmit()`);
    await page.until(`${text("#message")}.includes("token is missing or wrong")`);
    await page.evaluate(
      `document.querySelector("#token").value = ${JSON.stringify(running.discovery.read_token)}; document.querySelector("#form").requestSubmit()`,
    );
    await page.until(`${text("#connection")}.includes("read only")`);
    await page.open(`${running.server.url}/`);
    await page.until(`${text("#connection")}.includes("read only")`);
    await view(page, "engines", "No engine is loaded");
    expect(await page.evaluate(`document.querySelectorAll("[data-command]").length`)).toBe(0);
    expect(await page.evaluate("document.cookie")).toBe("");
  });

  it("shows the log-in page again after a log-out", async () => {
    const running = await startFake();
    const page = await openBrowser(chromium!);
    await page.open(`${running.server.url}/?ticket=${running.server.createTicket("read")}`);
    await page.until(`${text("#connection")}.includes("read only")`);
    await page.evaluate(
      "fetch('/logout', { method: 'POST', headers: { 'content-type': 'application/json', 'x-refit-proof': localStorage.getItem('refit-proof') }, body: '{}' })",
    );
    await page.open(`${running.server.url}/`);
    await page.until(`document.querySelector("#token")`);
  });

  it("leaves nothing to a page of another origin in the same browser", async () => {
    const running = await startFake();
    const evil = createServer((_request, response) => response.setHeader("content-type", "text/html").end("<p>evil</p>")).listen(
      0,
      "127.0.0.1",
    );
    cleanUp(() => void evil.close());
    await new Promise((resolve) => evil.once("listening", resolve));
    const address = evil.address();
    const page = await openBrowser(chromium!);
    await page.open(`${running.server.url}/?ticket=${running.server.createTicket("control")}`);
    await page.until(`${text("#connection")} === "connected"`);
    const before = running.server.clients();
    await page.open(`http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/`);
    await page.until(`document.body?.innerText.includes("evil")`);
    const tried = await page.evaluate(`(async () => {
      const target = ${JSON.stringify(running.server.url)};
      const socket = (protocols) => new Promise((resolve) => {
        const opened = new WebSocket(target.replace("http", "ws") + "/ws", protocols);
        opened.onopen = () => resolve("open");
        opened.onerror = () => resolve("refused");
      });
      const read = (path, options) => fetch(target + path, { credentials: "include", ...options }).then((reply) => reply.text(), () => "refused");
      const form = document.createElement("form");
      form.method = "post";
      form.action = target + "/ticket";
      form.target = "hidden";
      const frame = document.createElement("iframe");
      frame.name = "hidden";
      document.body.append(frame, form);
      form.submit();
      return [
        await socket(), await socket(["refit.v1"]), await read("/status"), await read("/"), await read("/ticket", { method: "POST", body: "{}", headers: { "content-type": "text/plain" } }),
        await read("/ticket", { method: "POST", body: "{}", headers: { "content-type": "application/json" } }), localStorage.getItem("refit-proof"),
      ];
    })()`);
    expect(tried).toEqual(["refused", "refused", "refused", "refused", "refused", "refused", null]);
    expect(running.backend.seen["prepare"]).toEqual([]);
    expect(running.server.clients()).toBeLessThanOrEqual(before);
  });
});
