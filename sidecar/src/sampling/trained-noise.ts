// The noise that the UNet families were trained with: 1,000 steps, betas from 0.00085 to 0.012, linear in their roots (the scheduler_config.json of SD 1.5, SD 2 and SDXL).

export const trainedSteps = 1000;
/** What stands for a signal of zero in the last step of a schedule that ends in pure noise; diffusers' own number. */
const leastSignal = 2 ** -24;

export interface TrainedNoise {
  /** Noise over signal of every trained step, ascending. */
  readonly sigmas: Float64Array;
  /** At a step between two, interpolated linearly, as numpy.interp does. */
  readonly at: (step: number) => number;
  /** The step that has this sigma, interpolated between logarithms; 0 and 999 beyond the ends. */
  readonly stepOf: (sigma: number) => number;
}

function signalRoots(): Float64Array {
  const roots = new Float64Array(trainedSteps);
  const [first, last] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
  let share = 1;
  for (let step = 0; step < trainedSteps; step += 1) {
    share *= 1 - (first + ((last - first) * step) / (trainedSteps - 1)) ** 2;
    roots[step] = Math.sqrt(share);
  }
  return roots;
}

/** Shifted and scaled so that the last step is noise alone (Lin et al. 2023, algorithm 1), as models trained with zero terminal SNR want it. */
function endingInNoise(roots: Float64Array): Float64Array {
  const [first, last] = [roots[0] ?? 1, roots[trainedSteps - 1] ?? 0];
  return roots.map((root, step) => (step === trainedSteps - 1 ? Math.sqrt(leastSignal) : ((root - last) * first) / (first - last)));
}

function tableOf(roots: Float64Array): TrainedNoise {
  const sigmas = roots.map((root) => Math.sqrt((1 - root * root) / (root * root)));
  const logs = sigmas.map((sigma) => Math.log(sigma));
  return {
    sigmas,
    at(step) {
      const low = Math.max(0, Math.min(trainedSteps - 2, Math.floor(step)));
      const [from, to] = [sigmas[low] ?? 0, sigmas[low + 1] ?? 0];
      return from + (to - from) * Math.max(0, Math.min(1, step - low));
    },
    stepOf(sigma) {
      const log = Math.log(Math.max(sigma, 1e-10));
      let low = 0;
      while (low < trainedSteps - 2 && (logs[low + 1] ?? 0) <= log) low += 1;
      const [from, to] = [logs[low] ?? 0, logs[low + 1] ?? 0];
      return low + Math.max(0, Math.min(1, (from - log) / (from - to)));
    },
  };
}

const tables = new Map<boolean, TrainedNoise>();

export function trainedNoise(zeroTerminalSnr: boolean): TrainedNoise {
  const known = tables.get(zeroTerminalSnr);
  if (known !== undefined) return known;
  const table = tableOf(zeroTerminalSnr ? endingInNoise(signalRoots()) : signalRoots());
  tables.set(zeroTerminalSnr, table);
  return table;
}
