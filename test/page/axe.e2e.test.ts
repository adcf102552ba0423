// Every view of the dashboard under axe-core in Chromium, narrow and wide, light and dark, ComfyUI's sidebar tab, and the tab of A1111 and Forge. Nothing serious may be found.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findChromium, openBrowser } from "../../bench/page/browser.mjs";
import { startScene, warmScene } from "../../bench/page/scene.mjs";
import { serveSidebar } from "../../bench/page/sidebar.mjs";
import { serveTab } from "../../bench/page/tab.mjs";

const chromium = findChromium() as string | null;
if (chromium === null) console.log("skipped: axe needs Chromium (CHROMIUM, chromium, chromium-browser or google-chrome)");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Finding {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly string[];
}

/** What each view shows when it is whole. */
const views: readonly (readonly [view: string, whole: string])[] = [
  ["library", "document.querySelectorAll('.refit-adapter img').length >= 4"],
  ["engines", "!!document.querySelector('[data-figure=swap]')"],
  ["try", "document.querySelectorAll('.refit-pictures img').length === 2"],
  ["activity", "document.querySelectorAll('.refit-history li').length > 2"],
  ["system", "!!document.querySelector('.refit-log')"],
];

describe.skipIf(chromium === null)("axe on the dashboard", () => {
  let scene: Awaited<ReturnType<typeof startScene>>;
  let browser: Awaited<ReturnType<typeof openBrowser>>;
  beforeAll(async () => {
    scene = await startScene();
    await warmScene(scene);
    browser = await openBrowser(chromium as never);
  });
  afterAll(async () => {
    await browser.close();
    await scene.close();
  });

  async function findings(): Promise<Finding[]> {
    await browser.evaluate(axe);
    return (await browser.evaluate(
      "axe.run(document).then(({ violations }) => violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(({ html }) => html.slice(0, 200)) })))",
    )) as Finding[];
  }

  it("finds nothing serious on the log-in page", async () => {
    await browser.open(`${scene.url}/login`);
    await browser.until("!!document.querySelector('#token')");
    expect(await findings()).toEqual([]);
  });

  it.each(["light", "dark"])("finds nothing serious on the API's page, %s", async (theme) => {
    await browser.view({ width: 1440, height: 900, theme });
    await browser.open(await scene.link());
    await browser.until("document.querySelectorAll('.refit-adapter').length > 0");
    await browser.open(`${scene.url}/api`);
    await browser.until("document.querySelectorAll('article').length > 40");
    expect(await findings()).toEqual([]);
  });

  it("finds nothing serious in ComfyUI's tab, with a LoRA's detail", { timeout: 180_000 }, async () => {
    const sidebar = await serveSidebar(scene);
    try {
      await browser.view({ width: 1440, height: 900, theme: "dark" });
      await browser.open(sidebar.url);
      await browser.until("document.querySelectorAll('.refit-adapter').length > 0", 90_000);
      expect(await findings()).toEqual([]);
      await browser.evaluate("document.querySelector('.refit-adapter').click()");
      await browser.until("!!document.querySelector('.refit-heat')", 90_000);
      expect(await findings()).toEqual([]);
    } finally {
      await sidebar.close();
    }
  });

  describe("in the tab of A1111 and Forge", () => {
    let tab: Awaited<ReturnType<typeof serveTab>>;
    beforeAll(async () => {
      tab = await serveTab(scene);
    });
    afterAll(() => tab.close());
    const opened = async (theme: "light" | "dark", width = 1440) => {
      tab.tell();
      browser.problems.length = 0;
      await browser.view({ width, height: 900 });
      await browser.open(tab.url(theme));
      await browser.until("document.querySelectorAll('.refit-tab .refit-adapter img').length > 0", 90_000);
    };

    it.each([
      [390, "light"],
      [390, "dark"],
      [1440, "light"],
      [1440, "dark"],
    ] as const)(
      "finds nothing serious at %i px, %s, in the list, the menu and a LoRA's detail",
      { timeout: 180_000 },
      async (width, theme) => {
        await opened(theme, width);
        const found = { list: await findings() } as Record<string, Finding[]>;
        await browser.evaluate("document.querySelector('.refit-menu').open = true");
        found["menu"] = await findings();
        await browser.evaluate("document.querySelector('.refit-menu').open = false");
        await browser.evaluate("document.querySelector('.refit-adapter').click()");
        await browser.until("!!document.querySelector('.refit-heat')", 90_000);
        found["detail"] = await findings();
        expect(found).toEqual({ list: [], menu: [], detail: [] });
        expect(await browser.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
        expect(browser.problems).toEqual([]);
      },
    );

    it.each(["light", "dark"] as const)(
      "finds nothing serious in its messages, and where a run left the engine, %s",
      { timeout: 180_000 },
      async (theme) => {
        await opened(theme);
        const lastRun = {
          served_by: "local",
          checkpoint: "demo-digits.safetensors",
          reason: "the sidecar has no engine for it",
          at: Date.now(),
        };
        tab.tell({ lastRun, view: { state: "fallback", line: "This picture ran in the web UI itself.", last_refit_ms: null } });
        tab.happened({ type: "refit.failed", message: "The file is cut short.", code: "REFIT_REFUSED" });
        tab.happened({ type: "host.crashed", message: "The engine's process ended.", code: "HOST_CRASHED" });
        await browser.until(
          "document.querySelectorAll('.refit-toast').length === 3 && document.querySelector('.refit-line').dataset.state === 'fallback'",
        );
        expect(await findings()).toEqual([]);
      },
    );

    it.each(["light", "dark"] as const)(
      "finds nothing serious without a sidecar, and where the UI asks for a name, %s",
      { timeout: 180_000 },
      async (theme) => {
        await opened(theme);
        tab.tell({ connection: { state: "missing", text: "No sidecar runs here. Start it, or install it: pip install refit-sidecar." } });
        await browser.until("document.querySelector('.refit-line').dataset.state === 'missing'");
        expect(await findings()).toEqual([]);
        tab.tell({ signIn: true });
        await browser.until("!!document.querySelector('.refit-sign-in-link')");
        expect(await findings()).toEqual([]);
      },
    );
  });

  it.each([
    [390, "light"],
    [390, "dark"],
    [1440, "light"],
    [1440, "dark"],
  ])("finds nothing serious at %i px, %s", { timeout: 180_000 }, async (width, theme) => {
    await browser.view({ width, height: 900, theme });
    await browser.open(await scene.link());
    await browser.until("document.querySelectorAll('.refit-adapter').length > 0");
    const found: Record<string, Finding[]> = {};
    for (const [view, whole] of views) {
      await browser.evaluate(`location.hash = ${JSON.stringify(view)}`);
      await browser.until(`document.querySelector("[data-view=${view}]") && ${whole}`, 90_000);
      found[view] = await findings();
    }
    await browser.evaluate("location.hash = 'library'");
    await browser.until("document.querySelectorAll('.refit-adapter').length > 0");
    await browser.evaluate("document.querySelector('.refit-adapter').click()");
    await browser.until("!!document.querySelector('.refit-heat')");
    found["detail"] = await findings();
    expect(Object.fromEntries(Object.entries(found).filter(([, list]) => list.length > 0))).toEqual({});
  });
});
