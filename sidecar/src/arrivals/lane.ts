// Runs tasks a few at a time, in order of arrival, so that 10,000 files at once do not mean 10,000 open files.

export interface Lane {
  readonly run: <T>(task: () => Promise<T>) => Promise<T>;
}

export function createLane(width: number): Lane {
  let running = 0;
  const waiting: (() => void)[] = [];
  let head = 0;
  const release = () => {
    running -= 1;
    const next = waiting[head];
    if (next === undefined) return;
    head += 1;
    if (head === waiting.length) {
      waiting.length = 0;
      head = 0;
    }
    next();
  };
  return {
    async run(task) {
      if (running >= width) await new Promise<void>((resolve) => waiting.push(resolve));
      running += 1;
      try {
        return await task();
      } finally {
        release();
      }
    },
  };
}
