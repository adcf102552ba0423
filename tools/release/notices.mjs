// The licences of everything that a release carries, as one text. A package without a licence text stops the release.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Packages whose archive holds no licence text; it is kept here. */
const textElsewhere = { "onnxruntime-node": "onnxruntime.txt", "onnxruntime-common": "onnxruntime.txt" };

function licenceText(root, { name, folder }) {
  const elsewhere = textElsewhere[name];
  if (elsewhere !== undefined) return readFileSync(join(root, "tools", "release", "licences", elsewhere), "utf8");
  const files = readdirSync(folder)
    .filter((file) => /^(licen[cs]e|copying|notice)/i.test(file))
    .sort();
  if (files.length === 0)
    throw new Error(
      `expected a licence text in the package ${name}; found none. Put its text into tools/release/licences and name it in notices.mjs.`,
    );
  return files.map((file) => readFileSync(join(folder, file), "utf8").trim()).join("\n\n");
}

/** Parts of the compiler that end up inside the prebuilt addons. */
export const compilerParts = [
  { name: "libc++, libc++abi and libunwind of LLVM", license: "Apache-2.0 WITH LLVM-exception", path: "lib/libcxx/LICENSE.TXT" },
  { name: "mingw-w64 runtime (in the Windows addons)", license: "ZPL-2.1 AND MIT", path: "lib/libc/mingw/COPYING" },
  { name: "Zig's compiler runtime", license: "MIT", path: "LICENSE" },
];

export const demoData = {
  name: "Optical Recognition of Handwritten Digits",
  license: "CC-BY-4.0",
  text: "The demo's model and pictures were made from this data set by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository), as shipped with scikit-learn.\nLicence: Creative Commons Attribution 4.0 International.",
};

const rule = "-".repeat(100);

/** @param packages as `runtimePackages` gives them */
export function noticesOf(root, packages) {
  const compiler = join(root, ".cache", "zig-licences");
  const parts = [
    "Refit Sidecar itself is under the MIT licence (LICENSE). It carries the following works of others.",
    ...packages.map((each) => `${rule}\n${each.name} ${each.version} (${each.license})\n\n${licenceText(root, each).trim()}`),
    ...compilerParts.flatMap(({ name, license, path }) => {
      const file = join(compiler, path.replaceAll("/", "_"));
      return existsSync(file) ? [`${rule}\n${name} (${license})\n\n${readFileSync(file, "utf8").trim()}`] : [];
    }),
    `${rule}\n${demoData.name} (${demoData.license})\n\n${demoData.text}`,
  ];
  const onnxruntime = join(root, ".cache", "onnxruntime-notices.txt");
  if (existsSync(onnxruntime))
    parts.push(`${rule}\nWorks inside ONNX Runtime, as its own package lists them\n\n${readFileSync(onnxruntime, "utf8").trim()}`);
  return `${parts.join("\n\n").replaceAll("\r\n", "\n")}\n`;
}
