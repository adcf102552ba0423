// When a page does its work: drawing once a frame, long lists in slices, so that no task keeps a key or a scroll waiting.

/** Before the next picture of the page; of a page that nobody looks at, soon. */
function nextFrame(work: () => void): void {
  if (document.hidden) setTimeout(work, 200);
  else requestAnimationFrame(work);
}

/** A call that does `work` once in the next frame, however often it is asked until then. */
export function onceAFrame(work: () => void, later: (work: () => void) => void = nextFrame): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    later(() => {
      waiting = false;
      work();
    });
  };
}

const sliceMs = 8;
/** Items between two looks at the clock. */
const stride = 64;

interface Waits {
  readonly now?: () => number;
  /** Lets the browser draw and hear, then goes on. */
  readonly pause?: () => Promise<void>;
}

const nextTask = () => new Promise<void>((resolve) => setTimeout(resolve));

/** Goes through a list of any length in slices of a few milliseconds. Resolves to false where a newer pass of these began meanwhile: its work is of no use any more. */
export type Pass = <Item>(items: Iterable<Item>, work: (item: Item) => void) => Promise<boolean>;

export function createPass({ now = () => performance.now(), pause = nextTask }: Waits = {}): Pass {
  let newest = 0;
  return async (items, work) => {
    newest += 1;
    const mine = newest;
    let from = now();
    let done = 0;
    for (const item of items) {
      work(item);
      done += 1;
      if (done % stride !== 0 || now() - from < sliceMs) continue;
      await pause();
      if (mine !== newest) return false;
      from = now();
    }
    return true;
  };
}
