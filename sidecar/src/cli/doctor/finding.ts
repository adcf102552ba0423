/** One line of `doctor`. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  /** What to do, or what could be better; null when there is nothing to do. */
  readonly remedy: string | null;
  /** The product runs without it. */
  readonly optional: boolean;
}
