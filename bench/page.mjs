#!/usr/bin/env node
// What the page weighs and how quick it stays: compressed bytes, DOM nodes and the longest tasks with thousands of LoRAs, in the dashboard and in ComfyUI's sidebar tab, in headless Chromium.
// Prints JSON; --out FILE writes it, too.
//   npm run bench -- page [--adapters 1000,10000] [--arriving 100] [--out FILE]
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { budgetBytes, bundles } from "../tools/build-page.mjs";
import { openBrowser } from "./page/browser.mjs";
import { startScene } from "./page/scene.mjs";
import { serveSidebar } from "./page/sidebar.mjs";
import { machine } from "./support/serve.mjs";

const { values } = parseArgs({
  options: { adapters: { type: "string", default: "1000,10000" }, arriving: { type: "string", default: "100" }, out: { type: "string" } },
});
const arriving = Number(values.arriving);
const targets = { gzippedBytes: budgetBytes, domNodes: 2000, longestTaskMs: 50 };

const sizes = bundles.map(({ to }) => ({
  name: to[0],
  gzippedBytes: to.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0),
}));

const scroll = `(async () => {
  const list = document.querySelector('.refit-list');
  const steps = 240;
  let nodes = 0;
  for (let step = 0; step <= steps; step += 1) {
    list.scrollTop = (list.scrollHeight * step) / steps;
    await new Promise(requestAnimationFrame);
    nodes = Math.max(nodes, document.getElementsByTagName('*').length);
  }
  list.scrollTop = 0;
  return nodes;
})()`;
const search = `(async () => {
  const field = document.querySelector('.refit-filter');
  for (const text of ['a', 'ad', 'adapter 0', 'adapter 09', 'adapter 099', 'adapter 0', '']) {
    field.value = text;
    field.dispatchEvent(new Event('input', { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
})()`;
const choose = `(async () => {
  for (const list of document.querySelectorAll('.refit-filters select'))
    for (const option of [list.options[1].value, '']) {
      list.value = option;
      list.dispatchEvent(new Event('change', { bubbles: true }));
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
})()`;
const quiet = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A page from its opening on: what a person does with it, and the longest tasks of each. */
async function visit(browser, url, scene, adapters) {
  const counted = (count) => browser.until(`document.querySelector('.refit-count')?.textContent === '${count} LoRAs'`, 600_000);
  const phases = {};
  const phase = async (name, work) => {
    const { result, ...tasks } = await browser.tasks(work);
    phases[name] = tasks;
    return result;
  };
  await phase("open", async () => {
    await browser.open(url);
    await counted(adapters);
    await quiet(500);
  });
  // Notes of all adapters are read in the background, 50 at a time.
  await phase("notes", () => quiet(Math.min(20_000, 2000 + adapters * 1.5)));
  const nodes = await phase("scroll", () => browser.evaluate(scroll));
  await phase("search", () => browser.evaluate(search));
  await phase("filters", () => browser.evaluate(choose));
  await phase("arrivals", async () => {
    scene.add(arriving);
    await counted(adapters + arriving);
    await quiet(3000);
  });
  const foreign = await browser.evaluate(
    "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => !name.startsWith(location.origin) && !name.startsWith('data:'))",
  );
  return { nodes, phases, requestsElsewhere: foreign };
}

const rows = [];
for (const adapters of values.adapters.split(",").map(Number)) {
  const scene = await startScene({ extra: adapters });
  const sidebar = await serveSidebar(scene);
  try {
    let there = adapters + scene.shelf;
    for (const page of ["dashboard", "sidebar"]) {
      const browser = await openBrowser();
      try {
        await browser.view({ width: 1440, height: 900 });
        if (page === "dashboard") await scene.whole(there);
        rows.push({
          page,
          adapters: there,
          ...(await visit(browser, page === "sidebar" ? sidebar.url : await scene.link(), scene, there)),
        });
        there += arriving;
      } finally {
        await browser.close();
      }
    }
  } finally {
    await sidebar.close();
    await scene.close();
  }
}
const result = {
  sizes,
  rows,
  targets,
  met:
    sizes.every(({ gzippedBytes }) => gzippedBytes <= targets.gzippedBytes) &&
    rows.every(
      ({ nodes, phases, requestsElsewhere }) =>
        nodes < targets.domNodes &&
        requestsElsewhere.length === 0 &&
        Object.values(phases).every(({ longestMs }) => longestMs <= targets.longestTaskMs),
    ),
  machine: machine(),
  processor: cpus()[0]?.model ?? "",
  at: new Date().toISOString(),
};
const text = `${JSON.stringify(result)}\n`;
process.stdout.write(text);
if (values.out) writeFileSync(values.out, text);
