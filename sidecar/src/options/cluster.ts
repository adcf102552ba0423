// Options of engines in a Ray cluster: part of the one table.

import type { OptionSpec } from "./table.ts";

export const clusterOptions = [
  {
    name: "engines",
    type: "choice",
    default: "local",
    choices: ["local", "ray"],
    reload: false,
    help: "Where engine hosts run: on this computer, or in the actors of a Ray cluster (docs/operate/cluster.md); ray needs a --python that has Ray",
  },
  {
    name: "ray-address",
    type: "text",
    default: "auto",
    reload: false,
    help: "The Ray cluster to join, as HOST:PORT of its head; auto: the one that runs on this computer, or RAY_ADDRESS",
  },
  {
    name: "ray-actors",
    type: "number",
    default: 0,
    min: 0,
    max: 4096,
    unit: "",
    reload: false,
    help: "Engine hosts in the cluster, one an actor; 0: as many as its GPUs allow, counted anew as nodes come",
  },
  {
    name: "ray-gpus",
    type: "number",
    default: 1,
    min: 0,
    max: 16,
    unit: "",
    reload: false,
    help: "GPUs that Ray gives to each actor; 0 runs engines on processors",
  },
  {
    name: "ray-cpus",
    type: "number",
    default: 1,
    min: 0,
    max: 1024,
    unit: "",
    reload: false,
    help: "Processor cores that Ray gives to each actor",
  },
  {
    name: "ray-files",
    type: "choice",
    default: "auto",
    choices: ["auto", "shared", "store"],
    reload: false,
    help: "How checkpoints and deltas reach nodes: shared, at the same paths; store, once per node through Ray's object store; auto, shared where the same file is there",
  },
  {
    name: "ray-adapters",
    type: "text",
    default: null,
    paths: true,
    reload: false,
    help: "A folder that every node may have: adapters that arrive in one node's folder are catalogued and reach all",
  },
] as const satisfies readonly OptionSpec[];
