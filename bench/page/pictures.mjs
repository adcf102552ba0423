#!/usr/bin/env node
// Pictures of the dashboard for the documentation: every view at 390 and 1440 px, light and dark, as WebP. Usage: node bench/page/pictures.mjs [FOLDER]
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openBrowser } from "./browser.mjs";
import { startScene, warmScene } from "./scene.mjs";

const folder = process.argv[2] ?? "docs/use/images";
mkdirSync(folder, { recursive: true });
const views = [
  ["library", "document.querySelectorAll('.refit-adapter img').length >= 5"],
  ["engines", "!!document.querySelector('[data-figure=swap] canvas')"],
  ["try", "document.querySelectorAll('.refit-pictures img').length === 2"],
  ["activity", "document.querySelectorAll('.refit-history li').length > 2"],
  ["system", "!!document.querySelector('.refit-log')"],
];
const quality = { format: "webp", quality: 70 };
const settle = () => new Promise((resolve) => setTimeout(resolve, 400));

const scene = await startScene();
await warmScene(scene);
const browser = await openBrowser();
try {
  for (const width of [390, 1440])
    for (const theme of ["light", "dark"]) {
      await browser.view({ width, height: width === 390 ? 844 : 900, theme, mobile: width === 390 });
      await browser.open(await scene.link());
      for (const [view, whole] of views) {
        await browser.until("document.querySelectorAll('[data-view]').length === 1", 60_000);
        await browser.evaluate(`location.hash = ${JSON.stringify(view)}`);
        await browser.until(`document.querySelector("[data-view=${view}]") && ${whole}`, 90_000);
        await settle();
        await browser.screenshot(join(folder, `${view}-${width}-${theme}.webp`), quality);
        const wider = await browser.evaluate("document.documentElement.scrollWidth - innerWidth");
        if (wider > 0) console.log(`${view} at ${width} px is ${wider} px too wide`);
      }
      await browser.evaluate("location.hash = 'library'");
      await browser.until(views[0][1], 60_000);
      await browser.evaluate("document.querySelectorAll('.refit-adapter')[5].click()");
      await browser.until("!!document.querySelector('.refit-heat')", 60_000);
      await settle();
      await browser.screenshot(join(folder, `lora-${width}-${theme}.webp`), quality);
    }
} finally {
  await browser.close();
  await scene.close();
}
