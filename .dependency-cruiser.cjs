// Who may import what (docs/develop/style.md, "Layer rules"). `npm run check` fails on a violation and prints the comment of the rule.
const stages = ["arrivals", "catalog", "delta", "plan", "refit", "step", "wire"];
const src = "^sidecar/src/";
const any = (names) => `(${names.join("|")})`;

const stageRules = stages.flatMap((stage, index) => {
  const left = stages.slice(0, index);
  // The planner is pure: what stands to its right may call it.
  const others = stages.filter((name) => name !== stage && name !== "plan");
  const rules = [
    {
      name: `${stage}-values`,
      comment: `A stage takes values only from the leaves (terms, storage, files, failure, telemetry, host) and, to its right, from plan. Values of two stages meet in pipeline/; move the meeting point there.`,
      severity: "error",
      from: { path: `${src}${stage}/` },
      to: { path: `${src}${any(others)}/`, dependencyTypesNot: ["type-only"] },
    },
  ];
  const right = stages.slice(index + 1);
  if (right.length > 0) {
    rules.push({
      name: `${stage}-looks-right`,
      comment: `Data flows ${stages.join(" → ")}. ${stage} must not know a later stage, not even its types; ${left.length > 0 ? `types of ${left.join(", ")} are fine` : "it is the first"}.`,
      severity: "error",
      from: { path: `${src}${stage}/` },
      to: { path: `${src}${any(right)}/` },
    });
  }
  return rules;
});

module.exports = {
  forbidden: [
    ...stageRules,
    {
      name: "no-cycles",
      comment: "Two files that need each other are one file, or share a third.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "stage-door",
      comment:
        "Enter another folder through its index.ts (types.ts for types): either the inner file belongs to you, or the door must offer more.",
      severity: "error",
      from: { path: `${src}([^/]+)/` },
      to: { path: `${src}([^/]+)/.+`, pathNot: [`${src}$1/`, `${src}[^/]+/(index|types|codes)\\.ts$`, `${src}[^/]+/[^/]+/index\\.ts$`] },
    },
    {
      name: "leaves-stay-leaves",
      comment: "terms, storage, files, failure, telemetry and host are leaves: every stage leans on them, so they lean on no stage.",
      severity: "error",
      from: { path: `${src}(terms|storage|files|failure|telemetry|host)/` },
      to: { path: `${src}${any(stages)}/`, dependencyTypesNot: ["type-only"] },
    },
    {
      name: "terms-pure",
      comment: "The term algebra is pure mathematics: no files, no processes, no clocks.",
      severity: "error",
      from: { path: `${src}terms/` },
      to: { path: "^(node:)?(fs|fs/promises|child_process|net|http|worker_threads)$" },
    },
    {
      name: "plan-pure",
      comment: "The planner is pure: values in, values out.",
      severity: "error",
      from: { path: `${src}plan/` },
      to: { path: "^(node:)?(fs|fs/promises|child_process|net|http|worker_threads)$" },
    },
    {
      name: "watcher",
      comment: "chokidar is arrivals' business alone; everyone else hears of files through arrivals.",
      severity: "error",
      from: { path: src, pathNot: `${src}arrivals/` },
      to: { path: "node_modules/chokidar" },
    },
    {
      name: "sockets",
      comment: "ws and express belong to the wire stage (and ws to the command line's client).",
      severity: "error",
      from: { path: src, pathNot: `${src}(wire|client)/` },
      to: { path: "node_modules/(ws|express)/" },
    },
    {
      name: "hosts-apart",
      comment:
        "An engine host is another process: it sees plans and terms as data. It may use the leaves, native and protocol, never a stage's values.",
      severity: "error",
      from: { path: "^sidecar/hosts/" },
      to: { path: `${src}(${stages.join("|")}|pipeline|main|options)`, dependencyTypesNot: ["type-only"] },
    },
    {
      name: "protocol-alone",
      comment: "protocol/ holds the shared words and imports nothing but zod.",
      severity: "error",
      from: { path: "^protocol/src/" },
      to: { pathNot: ["^protocol/src/", "node_modules/zod"] },
    },
    {
      name: "native-alone",
      comment: "native/ knows tensors and files, not the project's nouns.",
      severity: "error",
      from: { path: "^native/ts/" },
      to: { path: ["^sidecar/", "^protocol/"] },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: ["/dist/", "/build/"] },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types", "default"] },
  },
};
