// ComfyUI's frontend as far as the page touches it, over all versions that are served: what one of them lacks is optional.

export interface Widget {
  name: string;
  value: unknown;
  options?: { values?: unknown };
  callback?: (...values: unknown[]) => unknown;
  element?: HTMLTextAreaElement;
}

export interface GraphNode {
  id: number;
  comfyClass?: string;
  title?: string;
  pos: number[];
  size: number[];
  mode?: number;
  color?: string;
  bgcolor?: string;
  flags?: object;
  widgets?: Widget[];
  inputs?: { name: string; link?: number | null }[];
  outputs?: { name: string; type?: string }[];
  connect: (slot: number, target: GraphNode, input: number) => unknown;
  onExecuted?: (output: { text?: string[] }) => void;
  addDOMWidget?: (name: string, kind: string, element: HTMLElement, options: object) => Widget;
}

export interface Link {
  id: number;
  origin_id: number;
  origin_slot: number;
  target_id: number;
  target_slot: number;
}

export interface Graph {
  nodes?: GraphNode[];
  _nodes?: GraphNode[];
  _links?: Map<number, Link> | Record<number, Link>;
  links?: Map<number, Link> | Record<number, Link>;
  subgraphs?: Map<string, Graph>;
  rootGraph?: Graph;
  inputs?: { connect?: (slot: unknown, node: GraphNode) => unknown }[];
  outputs?: { connect?: (slot: unknown, node: GraphNode) => unknown }[];
  extra?: Record<string, unknown>;
  add: (node: GraphNode) => unknown;
  remove: (node: GraphNode) => unknown;
  getNodeById: (id: number) => GraphNode | null | undefined;
  setDirtyCanvas?: (foreground: boolean, background: boolean) => void;
}

export interface Graphs {
  graph?: Graph;
  rootGraph?: Graph;
}

type ToastCall = (summary: string, options: object) => void;
export interface App extends Graphs {
  registerExtension: (extension: object) => void;
  reloadNodeDefs?: () => unknown;
  refreshComboInNodes?: () => unknown;
  extensionManager: {
    registerSidebarTab: (tab: object) => void;
    getSidebarTabs?: () => { id: string; refitChanges?: number }[];
    setting?: { get?: (id: string) => unknown; set?: (id: string, value: unknown) => Promise<unknown> };
    command?: { execute?: (id: string) => unknown };
    toast: { add: (message: object) => void } & Partial<Record<"success" | "info" | "warning" | "error", ToastCall>>;
  };
}

export interface Api {
  fetchApi: (path: string, options?: RequestInit) => Promise<Response>;
  addEventListener: (name: string, listener: (event: CustomEvent) => void) => void;
}

/** LiteGraph's maker of nodes, which is a global of the page. */
export const createNode = (kind: string): GraphNode | null | undefined =>
  (globalThis as { LiteGraph?: { createNode: (kind: string) => GraphNode | null } }).LiteGraph?.createNode(kind);
