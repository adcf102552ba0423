// docs/operate/configuration.md from the option table, so that flags, environment, file and page cannot drift apart.

const shownDefault = (spec) => {
  if (spec.default === null) return "";
  if (Array.isArray(spec.default)) return "none";
  if (spec.type === "flag") return spec.default ? "on" : "off";
  return `${spec.default}${spec.unit ? ` ${spec.unit}` : ""}`;
};

const shownValue = (spec) => {
  switch (spec.type) {
    case "folder":
      return "folder";
    case "list":
      return spec.paths ? "folder, repeatable" : "text, repeatable";
    case "flag":
      return "on/off";
    case "number":
      return `${spec.min} – ${spec.max}`;
    case "choice":
      return spec.choices.join(", ");
    default:
      return "text";
  }
};

export function configurationPage(optionTable) {
  const rows = optionTable.map(
    (spec) => `| \`${spec.name}\` | ${shownValue(spec)} | ${shownDefault(spec)} | ${spec.reload ? "yes" : ""} | ${spec.help} |`,
  );
  return `# Configuration

Generated from \`sidecar/src/options/table.ts\` by \`npm run generate\`; edit the table, not this page.

Each option can be given in three ways; the first one found counts:
1. a flag of \`refit-sidecar serve\`: \`--turn 500\`
2. an environment variable: \`REFIT_TURN=500\` (lists are separated as PATH is on the platform)
3. a TOML file, named by \`--config FILE\` or \`REFIT_CONFIG\`: \`turn = 500\`; relative folders count from the file's own folder

An unknown name or a wrong value is an error that names its source. "Reload" options take effect when the configuration file is saved.

| option | value | default | reload | what it does |
|---|---|---|---|---|
${rows.join("\n")}

\`\`\`toml
# refit-sidecar.toml
loras = ["models/loras"]
checkpoints = ["models/checkpoints"]
turn = 2000
log-level = "info"
\`\`\`
`;
}
