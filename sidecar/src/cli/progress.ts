export interface ProgressBar {
  /** `share` from 0 to 1. */
  readonly update: (share: number) => void;
  readonly stop: () => void;
}

const width = 30;

/** A bar on stderr when it is a terminal; silent otherwise, so that logs stay readable. */
export function progressBar(label: string): ProgressBar {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  let shown = -1;
  return {
    update(share) {
      const percent = Math.floor(Math.min(1, Math.max(0, share)) * 100);
      if (percent === shown) return;
      shown = percent;
      const full = Math.round((percent / 100) * width);
      process.stderr.write(`\r${label} ${"█".repeat(full)}${"░".repeat(width - full)} ${percent} %`);
    },
    stop: () => void process.stderr.write("\r\u001b[K"),
  };
}
