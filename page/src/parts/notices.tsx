// Short messages of a page that has no UI around it.

import { useEffect, useState } from "preact/hooks";
import type { Severity } from "../messages/toasts.ts";

interface Notice {
  readonly id: number;
  readonly severity: Severity;
  readonly summary: string;
  readonly detail: string;
}

export interface Notices {
  readonly show: (severity: Severity, summary: string, detail: string, life?: number) => void;
  readonly subscribe: (listener: (shown: readonly Notice[]) => void) => () => void;
  readonly close: (id: number) => void;
}

const shownAtOnce = 4;

export function notices(): Notices {
  let shown: readonly Notice[] = [];
  let lastId = 0;
  const listeners = new Set<(shown: readonly Notice[]) => void>();
  const become = (next: readonly Notice[]) => {
    shown = next;
    for (const listener of listeners) listener(shown);
  };
  const close = (id: number) => become(shown.filter((one) => one.id !== id));
  return {
    close,
    show(severity, summary, detail, life = 8000) {
      const id = (lastId += 1);
      become([...shown, { id, severity, summary, detail }].slice(-shownAtOnce));
      setTimeout(() => close(id), life);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

export function NoticeList({ notices: source }: { readonly notices: Notices }) {
  const [shown, setShown] = useState<readonly Notice[]>([]);
  useEffect(() => source.subscribe(setShown), [source]);
  return (
    <div class="refit-notices" role="log" aria-live="polite" aria-label="Messages">
      {shown.map((notice) => (
        <button
          key={notice.id}
          type="button"
          class={`refit-notice refit-${notice.severity}`}
          title="Close"
          onClick={() => source.close(notice.id)}
        >
          <strong>{notice.summary}</strong>
          <span>{notice.detail}</span>
        </button>
      ))}
    </div>
  );
}
