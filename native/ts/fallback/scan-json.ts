import { maxDepth } from "../limits.ts";

/** Why a text is not the JSON we accept; turned into a SafetensorsError by the caller, which knows the file. */
export class ScanError extends Error {
  readonly at: number;
  constructor(problem: string, at: number) {
    super(problem);
    this.at = at;
  }
}

const quote = 0x22;
const backslash = 0x5c;
const escapes: Readonly<Record<string, string>> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/**
 * A strict RFC 8259 scanner over decoded text. JSON.parse hides duplicate keys and rounds integers above 2^53, and both are attacks
 * here, so the header is scanned by hand; the C++ scanner has the same rules.
 */
export class JsonScanner {
  readonly #text: string;
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }

  get at(): number {
    return this.#at;
  }

  fail(problem: string): never {
    throw new ScanError(problem, this.#at);
  }

  #skipSpace(): void {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.#at++;
    }
  }

  /** The next significant character without taking it; "" at the end. */
  peek(): string {
    this.#skipSpace();
    return this.#text.charAt(this.#at);
  }

  expect(char: string): void {
    if (this.peek() !== char)
      this.fail(`expected ${JSON.stringify(char)}, found ${JSON.stringify(this.#text.charAt(this.#at) || "the end")}`);
    this.#at++;
  }

  /** Takes `char` if it comes next. */
  accept(char: string): boolean {
    if (this.peek() !== char) return false;
    this.#at++;
    return true;
  }

  end(): void {
    if (this.peek() !== "") this.fail("text after the header object");
  }

  string(): string {
    this.expect('"');
    const text = this.#text;
    const start = this.#at;
    let at = start;
    for (;;) {
      const c = text.charCodeAt(at);
      if (c === quote) {
        this.#at = at + 1;
        return text.slice(start, at);
      }
      if (c === backslash) return this.#escapedString(start, at);
      if (!(c >= 0x20)) this.#badCharacter(at); // also NaN: the end of the text
      at++;
    }
  }

  #badCharacter(at: number): never {
    this.#at = at;
    this.fail(at >= this.#text.length ? "a string without its closing quote" : "a control character inside a string");
  }

  #escapedString(start: number, firstEscape: number): string {
    const parts = [this.#text.slice(start, firstEscape)];
    this.#at = firstEscape;
    for (;;) {
      const from = this.#at;
      let at = from;
      let c = this.#text.charCodeAt(at);
      while (c !== quote && c !== backslash) {
        if (!(c >= 0x20)) this.#badCharacter(at);
        c = this.#text.charCodeAt(++at);
      }
      parts.push(this.#text.slice(from, at));
      this.#at = at + 1;
      if (c === quote) return parts.join("");
      parts.push(this.#escape());
    }
  }

  #escape(): string {
    const kind = this.#text.charAt(this.#at++);
    if (kind !== "u") return escapes[kind] ?? this.fail("an unknown escape inside a string");
    const high = this.#hex4();
    if (high < 0xd800 || high > 0xdfff) return String.fromCharCode(high);
    if (high > 0xdbff || this.#text.slice(this.#at, this.#at + 2) !== "\\u") this.fail("half of a surrogate pair");
    this.#at += 2;
    const low = this.#hex4();
    if (low < 0xdc00 || low > 0xdfff) this.fail("half of a surrogate pair");
    return String.fromCharCode(high, low);
  }

  #hex4(): number {
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("a \\u escape without four hex digits");
    this.#at += 4;
    return Number.parseInt(digits, 16);
  }

  /** A plain unsigned integer without sign, fraction, exponent or leading zero; null when it is above 2^53 - 1. */
  unsigned(): number | null {
    this.#skipSpace();
    const start = this.#at;
    let value = 0;
    let c = this.#text.charCodeAt(this.#at);
    while (c >= 0x30 && c <= 0x39) {
      value = value * 10 + (c - 0x30);
      c = this.#text.charCodeAt(++this.#at);
    }
    const length = this.#at - start;
    if (length === 0) this.fail("expected an unsigned integer");
    if (length > 1 && this.#text.charCodeAt(start) === 0x30) this.fail("an integer with a leading zero");
    if (c === 0x2e || c === 0x65 || c === 0x45) this.fail("expected an unsigned integer, found a fraction or an exponent");
    return length <= 16 && Number.isSafeInteger(value) ? value : null;
  }

  /** Any value, checked and dropped: fields that the container does not define. */
  skipValue(depth = 0): void {
    if (depth >= maxDepth) this.fail(`values nested deeper than ${maxDepth}`);
    const next = this.peek();
    if (next === '"') this.string();
    else if (next === "{") this.object(() => this.skipValue(depth + 1));
    else if (next === "[") this.array(() => this.skipValue(depth + 1));
    else this.#literal();
  }

  #literal(): void {
    const pattern = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) this.fail("expected a value");
    this.#at = pattern.lastIndex;
  }

  /** Calls `member` after each `"key":`; it must take the value. Duplicate keys are the caller's to find: it knows which code they get. */
  object(member: (key: string) => void): void {
    this.expect("{");
    if (this.accept("}")) return;
    do {
      const key = this.string();
      this.expect(":");
      member(key);
    } while (this.accept(","));
    this.expect("}");
  }

  array(element: () => void): void {
    this.expect("[");
    if (this.accept("]")) return;
    do element();
    while (this.accept(","));
    this.expect("]");
  }
}
