import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../../failure/index.ts";
import { installInto, pipFor, resolveMissing } from "./pip.ts";
import type { PipRun } from "./pip.ts";
import { packageName } from "./requirements.ts";
import type { PythonFacts } from "./types.ts";

/** Never a second time beside the reused ones: gigabytes, and two CUDA runtimes in one process. */
const shared = /^(torch|torchvision|torchaudio|triton|triton-windows|pytorch-triton.*|nvidia-.*)$/;
/** Imported by diffusers when they are there: they have to go with what is put beside them. */
const neighbours = ["transformers", "accelerate", "peft"];

/** Of `requirements`, those that pip decides on, with what is present and has to go with them. */
const asked = (requirements: readonly string[], present: PythonFacts["packages"]): readonly string[] => [
  ...requirements,
  ...neighbours.filter((name) => present[name] !== undefined && !requirements.some((line) => packageName(line) === name)),
];

/**
 * Puts into `folder`/site what a Python lacks, and nothing that it has: resolved against its packages with PyTorch held at its version, then installed without
 * dependencies. The Python's own packages are only read. Throws INSTALL_REUSE_NO_TORCH, INSTALL_TORCH_TWICE, INSTALL_NO_PIP and what pip throws.
 */
export async function makeSideFolder(
  folder: string,
  python: PythonFacts,
  paths: readonly string[],
  helper: PythonFacts | null,
  requirements: readonly string[],
  options: PipRun,
): Promise<string> {
  const torch = python.packages["torch"];
  if (torch === undefined)
    throw new Failure(
      "INSTALL_REUSE_NO_TORCH",
      `expected PyTorch in the Python that is to be reused; ${python.executable} has none. Give the Python that runs the UI, or leave --reuse out`,
      {},
    );
  const pip = pipFor(python, helper, paths);
  const held = Object.entries(python.packages).filter(([name]) => shared.test(name));
  const constraints = join(folder, "constraints.txt");
  await writeFile(constraints, held.map(([name, version]) => `${name}==${version}\n`).join(""));
  options.told(`finding out what is missing beside PyTorch ${torch}`);
  const missing = await resolveMissing(pip, asked(requirements, python.packages), constraints, folder, options);
  const twice = missing.filter(({ name }) => shared.test(name));
  if (twice.length > 0) {
    throw new Failure(
      "INSTALL_TORCH_TWICE",
      `expected to need nothing of PyTorch beside the reused ${torch}; pip would install ${twice.map(({ name, version }) => `${name} ${version}`).join(", ")} too. Update PyTorch in the UI, or leave --reuse out to get an environment of its own`,
      { twice },
    );
  }
  const site = join(folder, "site");
  await rm(site, { recursive: true, force: true });
  await mkdir(site);
  if (missing.length === 0) options.told("nothing is missing");
  else {
    options.told(`installing beside it: ${missing.map(({ name, version }) => `${name} ${version}`).join(", ")}`);
    await installInto(pip, site, missing, options);
  }
  return site;
}
