import type { ComponentChildren } from "preact";
import type { Row } from "../state/rows.ts";

function RowLine({ row }: { readonly row: Row }) {
  return (
    <div class={`refit-row refit-${row.tone}`} title={row.title ?? row.name}>
      <span class="refit-name">{row.name}</span>
      <span class="refit-state">{row.state}</span>
      {row.detail && <span class="refit-detail">{row.detail}</span>}
      {row.progress !== undefined && <progress class="refit-progress" max={1} value={row.progress} aria-label={row.name} />}
    </div>
  );
}

interface SectionProps {
  readonly title: string;
  readonly id?: string;
  readonly children: ComponentChildren;
}

export function Section({ title, id, children }: SectionProps) {
  return (
    <section class="refit-section" id={id}>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

interface RowsProps {
  readonly title: string;
  readonly rows: readonly Row[];
  readonly empty: string;
}

export function Rows({ title, rows, empty }: RowsProps) {
  return (
    <Section title={title}>
      {rows.length === 0 ? <p class="refit-empty">{empty}</p> : rows.map((row) => <RowLine key={row.title ?? row.name} row={row} />)}
    </Section>
  );
}

interface FailuresProps {
  readonly rows: readonly Row[];
  readonly dismiss: () => void;
}

/** Folded: what went wrong once may be of no interest any more. */
export function Failures({ rows, dismiss }: FailuresProps) {
  if (rows.length === 0) return null;
  return (
    <details class="refit-failures">
      <summary>{rows.length} failed</summary>
      {rows.map((row) => (
        <RowLine key={row.name} row={row} />
      ))}
      <button type="button" class="refit-button refit-dismiss" onClick={dismiss}>
        Dismiss
      </button>
    </details>
  );
}
