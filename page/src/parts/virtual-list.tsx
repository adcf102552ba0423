// A list of any length with as many elements as fit on the screen. Rows are of one height; the place of each is told to screen readers.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface VirtualListProps<Item> {
  readonly items: readonly Item[];
  readonly rowHeight: number;
  readonly label: string;
  readonly keyOf: (item: Item) => string;
  readonly draw: (item: Item) => ComponentChildren;
  /** Called for what is on the screen, whenever that changes. */
  readonly seen?: (items: readonly Item[]) => void;
  readonly empty: string;
}

/** Rows above and below the screen, so that a quick scroll finds them drawn. */
const spare = 6;

export function VirtualList<Item>({ items, rowHeight, label, keyOf, draw, seen, empty }: VirtualListProps<Item>) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 480 });
  const first = Math.max(0, Math.floor(view.top / rowHeight) - spare);
  const shown = items.slice(first, Math.ceil((view.top + view.height) / rowHeight) + spare);

  const look = () => {
    const { scrollTop = 0, clientHeight = 0 } = box.current ?? {};
    setView((before) => (before.top === scrollTop && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight }));
  };
  useLayoutEffect(look, [items.length]);
  useEffect(() => {
    const watch = new ResizeObserver(look);
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const keys = shown.map(keyOf).join("\n");
  useEffect(() => seen?.(shown), [keys, seen]);

  /** Arrows, Page keys, Home and End go from row to row; Tab goes to the list once. */
  const move = (event: KeyboardEvent) => {
    const rows = [...(box.current?.querySelectorAll<HTMLElement>("[data-index]") ?? [])];
    const at = Number(rows.find((row) => row.contains(document.activeElement))?.dataset["index"] ?? -1);
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined || !box.current) return;
    event.preventDefault();
    const target = Math.min(items.length - 1, Math.max(0, to));
    const top = target * rowHeight;
    if (top < box.current.scrollTop) box.current.scrollTop = top;
    else if (top + rowHeight > box.current.scrollTop + view.height) box.current.scrollTop = top + rowHeight - view.height;
    look();
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-index="${target}"] button`)?.focus({ preventScroll: true }));
  };

  if (items.length === 0) return <p class="refit-empty">{empty}</p>;
  return (
    <div
      class="refit-list"
      style={{ "--whole": `${items.length * rowHeight}px` }}
      ref={box}
      onScroll={look}
      onKeyDown={move}
      role="list"
      aria-label={label}
    >
      <div class="refit-list-whole" role="presentation" style={{ height: `${items.length * rowHeight}px` }}>
        {shown.map((item, index) => (
          <div
            key={keyOf(item)}
            class="refit-list-row"
            role="listitem"
            aria-setsize={items.length}
            aria-posinset={first + index + 1}
            data-index={first + index}
            style={{ transform: `translateY(${(first + index) * rowHeight}px)`, height: `${rowHeight}px` }}
          >
            {draw(item)}
          </div>
        ))}
      </div>
    </div>
  );
}
