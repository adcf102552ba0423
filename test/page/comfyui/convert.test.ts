import { afterEach, describe, expect, test } from "vitest";
import { putOnEngines } from "../../../page/src/comfyui/convert.ts";
import type { Graphs } from "../../../page/src/comfyui/frontend.ts";
import { allNodes } from "../../../page/src/comfyui/graphs.ts";
import { migrateWorkflow } from "../../../page/src/comfyui/migrate.ts";

interface Slot {
  name: string;
}
interface Link {
  id: number;
  origin_id: number;
  origin_slot: number;
  target_id: number;
  target_slot: number;
}

/** As much of the frontend's graph as the conversion touches. */
class Graph {
  nodes: Node[] = [];
  links = new Map<number, Link>();
  subgraphs = new Map<string, Graph>();
  inputs: { connect: (slot: Slot, node: Node) => void }[] = [];
  outputs: { connect: (slot: Slot, node: Node) => void }[] = [];
  #next = 1;

  add(node: Node): Node {
    node.graph = this;
    node.id = this.#next++;
    this.nodes.push(node);
    return node;
  }

  link(origin_id: number, origin_slot: number, target_id: number, target_slot: number): void {
    const id = this.#next++;
    for (const [key, link] of this.links)
      if (link.target_id === target_id && link.target_slot === target_slot && target_id > 0) this.links.delete(key);
    this.links.set(id, { id, origin_id, origin_slot, target_id, target_slot });
  }

  getNodeById(id: number): Node | undefined {
    return this.nodes.find((node) => node.id === id);
  }

  remove(node: Node): void {
    this.nodes = this.nodes.filter((one) => one !== node);
    for (const [id, link] of this.links) if (link.origin_id === node.id || link.target_id === node.id) this.links.delete(id);
  }
}

class Node {
  id = 0;
  graph: Graph | undefined;
  title: string;
  pos = [10, 20];
  size = [300, 100];
  mode = 0;
  color?: string;
  flags: Record<string, unknown> = {};
  widgets: { name: string; value: unknown; options?: { values: string[] } }[] = [];

  readonly comfyClass: string;
  inputs: Slot[];
  outputs: Slot[];

  constructor(comfyClass: string, inputs: Slot[] = [], outputs: Slot[] = []) {
    this.comfyClass = comfyClass;
    this.inputs = inputs;
    this.outputs = outputs;
    this.title = comfyClass;
    Object.defineProperty(this, "constructor", { value: { title: comfyClass } });
  }

  connect(slot: number, to: Node, input: number): void {
    this.graph?.link(this.id, slot, to.id, input);
  }
}

function loader(kind: string, file = "a.safetensors", more: { name: string; value: unknown }[] = []): Node {
  const node = new Node(
    kind,
    [{ name: kind === "UNETLoader" ? "unet_name" : "ckpt_name" }],
    [{ name: "MODEL" }, { name: "CLIP" }, { name: "VAE" }],
  );
  node.widgets = [{ name: kind === "UNETLoader" ? "unet_name" : "ckpt_name", value: file }, ...more];
  return node;
}

const sampler = (): Node => new Node("KSampler", [{ name: "model" }], [{ name: "LATENT" }]);

Object.assign(globalThis, {
  LiteGraph: {
    createNode: (type: string): Node => {
      const node = new Node(type, [{ name: "ckpt_name" }], [{ name: "MODEL" }, { name: "CLIP" }, { name: "VAE" }]);
      node.widgets = [{ name: "ckpt_name", value: "first.safetensors", options: { values: ["first.safetensors", "a.safetensors"] } }];
      return node;
    },
  },
});
const first = (graph: Graph, kind: string): Node => graph.nodes.find((node) => node.comfyClass === kind) as Node;

const app = (graph: Graph): Graphs => ({ graph }) as unknown as Graphs;

describe("use engines in this workflow", () => {
  let graph = new Graph();
  afterEach(() => {
    graph = new Graph();
  });

  test("a loader keeps its links, and what it was", () => {
    const old = graph.add(loader("CheckpointLoaderSimple"));
    Object.assign(old, { mode: 4, color: "#223", title: "Mine", flags: { collapsed: true } });
    const to = graph.add(sampler());
    old.connect(0, to, 0);
    expect(putOnEngines(app(graph))).toContain("1 loader replaced");
    const fresh = first(graph, "RefitLoadEngine");
    expect(fresh).toMatchObject({ mode: 4, color: "#223", title: "Mine", flags: { collapsed: true }, pos: [10, 20] });
    expect(fresh.widgets[0]?.value).toBe("a.safetensors");
    expect([...graph.links.values()]).toMatchObject([{ origin_id: fresh.id, origin_slot: 0, target_id: to.id, target_slot: 0 }]);
    expect(putOnEngines(app(graph))).toBe("The workflow is on engines already.");
  });

  test("loaders in subgraphs are found, with links to the subgraph's own inputs and outputs", () => {
    const inner = new Graph();
    graph.subgraphs.set("s", inner);
    const old = inner.add(loader("UNETLoader", "a.safetensors", [{ name: "weight_dtype", value: "default" }]));
    const connected: unknown[] = [];
    inner.inputs = [{ connect: (slot, node) => connected.push(["in", slot.name, node.comfyClass]) }];
    inner.outputs = [{ connect: (slot, node) => connected.push(["out", slot.name, node.comfyClass]) }];
    inner.link(-10, 0, old.id, 0);
    inner.link(old.id, 0, -20, 0);
    expect(putOnEngines(app(graph))).toContain("1 loader replaced");
    expect(connected).toEqual([
      ["in", "ckpt_name", "RefitLoadEngine"],
      ["out", "MODEL", "RefitLoadEngine"],
    ]);
    expect(allNodes(app(graph)).map((node) => node.comfyClass)).toEqual(["RefitLoadEngine"]);
  });

  test("what an engine would not load as it is stays, and is named", () => {
    graph.add(loader("UNETLoader", "a.safetensors", [{ name: "weight_dtype", value: "fp8_e4m3fn" }]));
    graph.add(loader("CheckpointLoaderSimple", "old.ckpt"));
    const said = putOnEngines(app(graph));
    expect(said).toContain("fp8_e4m3fn");
    expect(said).toContain("old.ckpt");
    expect(graph.nodes.map((node) => node.comfyClass)).toEqual(["UNETLoader", "CheckpointLoaderSimple"]);
  });

  test("a workflow without a loader says what else there is", () => {
    graph.add(sampler());
    expect(putOnEngines(app(graph))).toContain("Accelerate Model");
  });
});

describe("workflows of older versions", () => {
  test("values that went away do not shift the others, in subgraphs too", () => {
    const warm = {
      type: "RefitWarmEngine",
      widgets_values: ["a.safetensors", 1, 2, 4, 512, 1024, 1024, 512, 1024, 1024, 77, 77, 231, "fp16"],
      inputs: [{ name: "batch_min", widget: { name: "batch_min" } }],
    };
    const load = { type: "RefitLoadEngine", widgets_values: ["a.safetensors", "torch", "fp16", "exact size"] };
    const lora = { type: "RefitLoadEngineLora", widgets_values: ["a.safetensors", "b.safetensors", 0.5, "auto", "auto", "auto"] };
    const other = { type: "KSampler", widgets_values: [1, 2, 3, 4] };
    migrateWorkflow({ nodes: [warm, other], definitions: { subgraphs: [{ nodes: [load, lora] }] } });
    expect(warm).toMatchObject({ widgets_values: ["a.safetensors", "fp16"], inputs: [] });
    expect(load.widgets_values).toEqual(["a.safetensors", "torch", "fp16"]);
    expect(lora.widgets_values).toEqual(["a.safetensors", "b.safetensors", 0.5, "auto", "auto"]);
    expect(other.widgets_values).toEqual([1, 2, 3, 4]);
  });

  test("workflows of this version stay as they are", () => {
    const nodes = [
      { type: "RefitWarmEngine", widgets_values: ["a.safetensors", "fp16"] },
      { type: "RefitLoadEngine", widgets_values: ["a.safetensors", "auto", "auto"] },
      { type: "RefitLoadEngine" },
    ];
    const before = structuredClone(nodes);
    migrateWorkflow({ nodes });
    expect(nodes).toEqual(before);
  });
});
