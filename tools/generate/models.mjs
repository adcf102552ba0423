// The table of model families in docs/use/models.md, and the short one of the README, from the families' descriptions.
import { replaceBetween } from "./between.mjs";

function engines({ family, hosts, hostsWhen }, shipped) {
  if (shipped.has(family)) return "CPU, GPU";
  const exported = "GPU; CPU when a graph is exported";
  if (hosts?.length !== 1 || hosts[0] !== "torch") return exported;
  return hostsWhen === undefined ? "GPU (torch host)" : `${exported} (some models: GPU alone)`;
}

const listed = (families) => families.filter((one) => one.inputs !== undefined || one.like !== undefined || one.calls !== undefined);

/** `shipped`: families that run on the CPU engine as the package is. */
export function modelsPage(families, shipped, page) {
  const served = new Set(listed(families));
  const lines = families.map(
    (one) =>
      `| ${one.title} | \`${one.family}\` | ${served.has(one) ? engines(one, shipped) : "none yet: files are recognised and merged"} |`,
  );
  return replaceBetween(page, "models", `| models | family | engine on |\n|---|---|---|\n${lines.join("\n")}`, "docs/use/models.md");
}

/** Two lines of names. */
export function readmeModels(families, shipped, page) {
  const rows = listed(families);
  const names = (filter) =>
    rows
      .filter(filter)
      .map(({ title }) => title)
      .join(", ");
  const table = [
    "| | |",
    "|---|---|",
    `| models, CPU and GPU | ${names(({ family }) => shipped.has(family))} |`,
    `| models, GPU | ${names(({ family }) => !shipped.has(family))} |`,
    "| adapters | LoRA, LoCon, LoHa, LoKr, DoRA, GLoRA, OFT, BOFT, full, norm, bias, set, pad |",
    "| checkpoints | f32, f16, bf16; fp8, int8, convrot, nvfp4, mxfp8 and scaled fp8, read and written as they are |",
    "| UIs | ComfyUI, A1111, Forge, reForge, Forge Neo ([what has run](docs/evidence/webui.md)); Python scripts with diffusers |",
  ];
  return replaceBetween(page, "models", table.join("\n"), "README.md");
}
