// The test tree has the shape of the source tree in both languages. What tests several parts at once has a folder of its own, named here with its reason.

import { existsSync, readdirSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Folder of tests to folder of sources; below it the folders have the same names. The most exact one counts. */
const shapes: Readonly<Record<string, string>> = {
  "test/protocol": "protocol/src",
  "test/native": "native",
  "test/sidecar": "sidecar/src",
  "test/hosts": "sidecar/hosts",
  "test/page": "page/src",
  "test/release": "tools/release",
  "test/python/hosts": "sidecar/hosts/python",
  "test/python/plugin": "plugin/refit_sidecar_plugin",
  "test/python/native": "native",
  "test/python/bench": "bench",
  "test/python/tools/demo_model": "tools/demo-model",
};

/** Folders that no source folder answers to. */
const apart: Readonly<Record<string, string>> = {
  "test/layers": "rules over all folders",
  "test/docs": "the pages of docs: commands, links, codes",
  "test/corpus": "malformed input for every reader in every language",
  "test/python/corpus": "the same corpus, Python's readers",
  "test/hostile": "hostile files against reader, catalog and a whole sidecar",
  "test/fuzz": "mutated files through the same stages",
  "test/faults": "a whole sidecar while disks fill and processes die",
  "test/reported": "faults as users reported them, whatever parts they cross",
  "test/windows": "a whole sidecar on Windows",
  "test/golden": "vectors",
  "test/golden2": "vectors",
  "test/typings": "stubs of packages, for pyright",
  "test/native/cpp": "the C++ program of native/src/math",
  "test/hosts/conformance": "one suite for every host",
  "test/python/parity": "whole models against diffusers",
  "test/python/oracles": "arithmetic and names against other packages",
  "test/python/served": "every family through sidecar and host",
  "test/python/simulation": "a TensorRT library and a GPU for a computer without",
  "test/python/plugin/ui/comfyui/bind": "recorded signatures of ComfyUI",
  "test/python/plugin/ui/comfyui/real": "a real ComfyUI",
  "test/python/plugin/ui/comfyui/comfy_test_nodes": "nodes that a real ComfyUI loads",
  "test/python/plugin/ui/webui/page": "the page of a real Gradio",
  "test/python/plugin/ui/webui/webui_test_extension": "an extension that a real web UI loads",
};

const folders = new Set(
  readdirSync(join(root, "test"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mjs|py|cpp)$/.test(entry.name))
    .map((entry) => relative(root, entry.parentPath).split(sep).join("/"))
    .filter((folder) => folder !== "test"),
);
const within = (folder: string, parent: string) => folder === parent || folder.startsWith(`${parent}/`);
const isData = (folder: string) => folder.split("/").includes("golden");

it("every folder of tests answers to a folder of sources, or says why it does not", () => {
  const astray = [...folders].filter((folder) => {
    if (isData(folder) || Object.keys(apart).some((parent) => within(folder, parent))) return false;
    const [tests, sources] =
      Object.entries(shapes)
        .filter(([parent]) => within(folder, parent))
        .sort(([a], [b]) => b.length - a.length)[0] ?? [];
    return tests === undefined || sources === undefined || !existsSync(join(root, sources, folder.slice(tests.length)));
  });
  expect(folders.size).toBeGreaterThan(40);
  expect(astray).toEqual([]);
});

it("names no folder that is gone", () => {
  const gone = [...Object.keys(shapes), ...Object.values(shapes), ...Object.keys(apart)].filter(
    (folder) => !existsSync(join(root, folder)),
  );
  expect(gone).toEqual([]);
});
