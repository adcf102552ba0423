// What a file asks for and ComfyUI does not do: counted while modules are read, said once for the file.

export class ModeNotes {
  readonly #scales = new Map<string, number>();
  #flatMagnitudes = 0;

  /** Metadata asks for this scale where ComfyUI takes 1. */
  scale(wanted: number): void {
    if (wanted === 1) return;
    const shown = String(Number(wanted.toPrecision(4)));
    this.#scales.set(shown, (this.#scales.get(shown) ?? 0) + 1);
  }

  /** A DoRA magnitude of one dimension, which ComfyUI reads along the columns. */
  flatMagnitude(): void {
    this.#flatMagnitudes += 1;
  }

  sentences(): string[] {
    const said: string[] = [];
    const [first] = [...this.#scales].sort((a, b) => b[1] - a[1]);
    if (first !== undefined) {
      const modules = [...this.#scales.values()].reduce((sum, count) => sum + count, 0);
      const others = this.#scales.size > 1 ? ` (and ${this.#scales.size - 1} other scales)` : "";
      said.push(
        `the file's metadata asks for x ${first[0]}${others} in ${modules} modules; ComfyUI applies 1, and so does this mode: use extended mode, or multiply the strength by ${first[0]}`,
      );
    }
    if (this.#flatMagnitudes > 0)
      said.push(
        `${this.#flatMagnitudes} DoRA magnitudes have one dimension; ComfyUI reads them along the columns, where they were trained along the rows: use extended mode for what was trained`,
      );
    return said;
  }
}
