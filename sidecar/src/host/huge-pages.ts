const tunable = "glibc.malloc.hugetlb";

/**
 * Environment of a process that computes in main memory: on Linux, glibc asks for huge pages for its large blocks. Weights and activations are hundreds of megabytes that every step
 * walks through, and the first touch of each small page is a trap into the kernel. Whoever has set that tunable himself has the last word.
 */
export function hugePages(
  platform: NodeJS.Platform = process.platform,
  given: string = process.env["GLIBC_TUNABLES"] ?? "",
): Readonly<Record<string, string>> {
  if (platform !== "linux") return {};
  if (given.includes(tunable)) return { GLIBC_TUNABLES: given };
  return { GLIBC_TUNABLES: [given, `${tunable}=1`].filter((part) => part !== "").join(":") };
}
