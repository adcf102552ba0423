/**
 * Runs `work` over `items` in order of start, at most `width` at a time: reads of the next parameters overlap the merge of the present one, and memory stays
 * bounded. After the first failure nothing new starts; the promise rejects when the started ones have ended, so their buffers are no longer in use.
 */
export async function eachBounded<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const failures: unknown[] = [];
  const lane = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const item = items[next++] as T;
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
  if (failures.length > 0) throw failures[0];
}
