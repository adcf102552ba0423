#!/usr/bin/env node
// What the page weighs and how it scrolls: compressed bytes, DOM nodes and the longest tasks with 10,000 LoRAs in headless Chromium. Prints JSON; --out FILE writes it, too.
//   npm run bench -- page [--adapters 10000] [--out FILE]
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { budgetBytes, bundles } from "../tools/build-page.mjs";
import { openBrowser } from "./page/browser.mjs";
import { startScene } from "./page/scene.mjs";

const { values } = parseArgs({ options: { adapters: { type: "string", default: "10000" }, out: { type: "string" } } });
const adapters = Number(values.adapters);
const targets = { gzippedBytes: budgetBytes, domNodes: 2000, longestTaskMs: 50 };

const sizes = bundles.map(({ to }) => ({
  name: to[0],
  gzippedBytes: to.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0),
}));

const scene = await startScene({ extra: adapters });
const browser = await openBrowser();
try {
  await browser.view({ width: 1440, height: 900 });
  await browser.open(await scene.link());
  const wanted = adapters + 8;
  await browser.until(`document.querySelector('.refit-count')?.textContent === '${wanted} LoRAs'`, 600_000);
  // Long tasks are 50 ms and more by their definition; what is shorter is told by the longest frame.
  await browser.evaluate(`
    window.long = [];
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => window.long.push(duration))).observe({ type: "longtask" });
    true`);
  const scrolled = await browser.evaluate(`(async () => {
    const list = document.querySelector('.refit-list');
    const frame = () => new Promise(requestAnimationFrame);
    let nodes = 0;
    let rows = 0;
    const busy = [];
    const steps = 240;
    for (let step = 0; step <= steps; step += 1) {
      const from = performance.now();
      list.scrollTop = (list.scrollHeight * step) / steps;
      list.dispatchEvent(new Event('scroll'));
      await Promise.resolve();
      list.getBoundingClientRect();
      busy.push(performance.now() - from);
      await frame();
      nodes = Math.max(nodes, document.getElementsByTagName('*').length);
      rows = Math.max(rows, list.querySelectorAll('.refit-list-row').length);
    }
    return { nodes, rows, longestWorkMs: Math.max(...busy), height: list.scrollHeight };
  })()`);
  const scrollTasks = await browser.evaluate("window.long.splice(0)");
  await browser.evaluate(`(async () => {
    const field = document.querySelector('.refit-filter');
    for (const text of ['a', 'ad', 'adapter 0', 'adapter 09', 'adapter 099', 'adapter 0', '']) {
      field.value = text;
      field.dispatchEvent(new Event('input', { bubbles: true }));
      await new Promise(requestAnimationFrame);
    }
  })()`);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const searchTasks = await browser.evaluate("window.long.splice(0)");
  const foreign = await browser.evaluate(
    "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => !name.startsWith(location.origin) && !name.startsWith('data:'))",
  );
  const result = {
    adapters: wanted,
    sizes,
    scroll: { ...scrolled, longTasksMs: scrollTasks },
    search: { longTasksMs: searchTasks },
    requestsElsewhere: foreign,
    targets,
    met:
      sizes.every(({ gzippedBytes }) => gzippedBytes <= targets.gzippedBytes) &&
      scrolled.nodes < targets.domNodes &&
      scrollTasks.length === 0 &&
      searchTasks.length === 0 &&
      foreign.length === 0,
    processor: cpus()[0]?.model ?? "",
    at: new Date().toISOString(),
  };
  const text = `${JSON.stringify(result, null, 2)}\n`;
  process.stdout.write(text);
  if (values.out) writeFileSync(values.out, text);
} finally {
  await browser.close();
  await scene.close();
}
