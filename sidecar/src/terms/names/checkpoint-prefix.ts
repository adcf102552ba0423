// Which part of a checkpoint file is the diffusion model.

const candidates = ["model.diffusion_model.", "model.model.", "net."] as const;

/**
 * Prefix of the diffusion model's keys (rule of ComfyUI 0.3.64: the candidate with most keys if more than five, else `model.`; bare keys when
 * nothing carries it). A file with only a handful of `model.diffusion_model.` keys keeps the long prefix.
 */
export function checkpointPrefix(keys: Iterable<string>): string {
  const counts = new Map<string, number>();
  for (const key of keys) {
    const prefix = candidates.find((candidate) => key.startsWith(candidate)) ?? (key.startsWith("model.") ? "model." : "");
    counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
  }
  const count = (prefix: string): number => counts.get(prefix) ?? 0;
  const top = candidates.reduce((best, candidate) => (count(candidate) > count(best) ? candidate : best));
  if (count(top) > 5) return top;
  if (count("model.diffusion_model.") > 0) return "model.diffusion_model.";
  return count("model.") > 0 ? "model." : "";
}

/** The prefix of a file that somebody says to be of a family: one that every key carries counts, however few there are. */
export function toldPrefix(keys: readonly string[]): string {
  return candidates.find((candidate) => keys.length > 0 && keys.every((key) => key.startsWith(candidate))) ?? checkpointPrefix(keys);
}
