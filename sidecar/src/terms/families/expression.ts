// The expressions of family descriptions. Grammar (a subset of Python's, so that both languages read it alike): docs/develop/adding-a-family.md, "Expressions".
// A size that is not there is null: it makes sums and products null, orders false, and equals nothing.

import type { Parameters } from "../names/parameters.ts";
import { countIndices } from "../names/parameters.ts";
import { findName, patternOf } from "./pattern.ts";

export type Value = number | boolean | string | null | readonly number[];

/** What an expression may ask: shapes by canonical name, and named values. */
export interface Scope {
  readonly shapes: Parameters;
  readonly named: (name: string) => Value;
  /** Functions of their own, before those below. */
  readonly functions?: Readonly<Record<string, (argument: string) => Value>>;
}

type Compiled = (scope: Scope) => Value;

const compiled = new Map<string, Compiled>();

/** Throws SyntaxError with the text for an expression that does not parse. */
export function evaluate(text: string, scope: Scope): Value {
  let run = compiled.get(text);
  if (run === undefined) compiled.set(text, (run = new Parser(text).whole()));
  return run(scope);
}

/** Text with `{expression}` in places. */
export function fillTemplate(text: string, scope: Scope): string {
  return text.replace(/\{([^{}]+)\}/g, (_match, inner: string) => String(evaluate(inner, scope) ?? "?"));
}

export const truth = (value: Value): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== null && value !== false && value !== 0 && value !== "";

const number = (value: Value): number | null => (typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : null);

const functions: Readonly<Record<string, (scope: Scope, args: readonly Value[]) => Value>> = {
  has: ({ shapes }, [name]) => findName(shapes, String(name)) !== undefined,
  count: ({ shapes }, [prefix]) => countIndices(shapes.keys(), String(prefix)),
  where({ shapes }, [text]) {
    const pattern = patternOf(String(text));
    const found = new Set<number>();
    if (pattern !== null)
      for (const name of shapes.keys()) for (const group of pattern.exec(name)?.slice(1, 2) ?? []) found.add(Number(group));
    return [...found].sort((a, b) => a - b);
  },
  rank: ({ shapes }, [name]) => shapes.get(findName(shapes, String(name)) ?? "")?.length ?? null,
  first: (_scope, values) => values.find((value) => value !== null) ?? null,
  length: (_scope, [list]) => (Array.isArray(list) ? list.length : null),
  sqrt: (_scope, [value]) => apply(value, Math.sqrt),
  round: (_scope, [value]) => apply(value, Math.round),
  min: (_scope, values) => combine(values, Math.min),
  max: (_scope, values) => combine(values, Math.max),
};

/** Functions that only a scope of an adapter's modules has. */
const adapterFunctions: readonly string[] = ["last", "width", "rows"];

function apply(value: Value | undefined, change: (x: number) => number): Value {
  const x = number(value ?? null);
  return x === null ? null : change(x);
}

function combine(values: readonly Value[], change: (...x: number[]) => number): Value {
  const numbers = values.map(number);
  return numbers.includes(null) ? null : change(...(numbers as number[]));
}

const operators: Readonly<Record<string, (a: number, b: number) => number | boolean>> = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "//": (a, b) => Math.floor(a / b),
  "%": (a, b) => a % b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};
const comparisons = ["==", "!=", "<=", ">=", "<", ">"];

function binary(operator: string, left: Value, right: Value): Value {
  const [a, b] = [number(left), number(right)];
  if (operator === "==" || operator === "!=")
    return (left !== null && right !== null && (a !== null && b !== null ? a === b : left === right)) === (operator === "==");
  if (a === null || b === null) return comparisons.includes(operator) ? false : null;
  return operators[operator]?.(a, b) ?? null;
}

const token = /\s*(?:(\d+(?:\.\d+)?)|'([^']*)'|([A-Za-z_]\w*)|(\/\/|[<>=!]=|[-+*/%<>()[\],]))/y;

/** Recursive descent; each method takes one level of precedence. */
class Parser {
  readonly #text: string;
  readonly #tokens: { readonly kind: "number" | "text" | "word" | "sign"; readonly value: string }[] = [];
  #at = 0;

  constructor(text: string) {
    this.#text = text;
    token.lastIndex = 0;
    let end = 0;
    for (let match = token.exec(text); match !== null; match = token.exec(text)) {
      end = token.lastIndex;
      const kind = match[1] !== undefined ? "number" : match[2] !== undefined ? "text" : match[3] !== undefined ? "word" : "sign";
      this.#tokens.push({ kind, value: match[1] ?? match[2] ?? match[3] ?? match[4] ?? "" });
    }
    if (text.slice(end).trim() !== "") throw this.#wrong(text.slice(end).trim());
  }

  whole(): Compiled {
    const run = this.#either();
    if (this.#at < this.#tokens.length) throw this.#wrong(this.#tokens[this.#at]?.value ?? "");
    return run;
  }

  #wrong(found: string): SyntaxError {
    return new SyntaxError(
      `expected an expression of a family description, found ${JSON.stringify(found)} in ${JSON.stringify(this.#text)}`,
    );
  }

  #take(kind: "word" | "sign", ...values: readonly string[]): string | null {
    const next = this.#tokens[this.#at];
    if (next?.kind !== kind || !values.includes(next.value)) return null;
    this.#at += 1;
    return next.value;
  }

  #must(sign: string): void {
    if (this.#take("sign", sign) === null) throw this.#wrong(this.#tokens[this.#at]?.value ?? "the end");
  }

  #either(): Compiled {
    let left = this.#both();
    while (this.#take("word", "or") !== null) {
      const [a, b] = [left, this.#both()];
      left = (scope) => truth(a(scope)) || truth(b(scope));
    }
    return left;
  }

  #both(): Compiled {
    let left = this.#not();
    while (this.#take("word", "and") !== null) {
      const [a, b] = [left, this.#not()];
      left = (scope) => truth(a(scope)) && truth(b(scope));
    }
    return left;
  }

  #not(): Compiled {
    if (this.#take("word", "not") === null) return this.#comparison();
    const inner = this.#not();
    return (scope) => !truth(inner(scope));
  }

  #comparison(): Compiled {
    const left = this.#sum();
    const operator = this.#take("sign", ...comparisons);
    if (operator === null) return left;
    const right = this.#sum();
    return (scope) => binary(operator, left(scope), right(scope));
  }

  #sum(): Compiled {
    return this.#chain(["+", "-"], () => this.#chain(["*", "/", "//", "%"], () => this.#unary()));
  }

  #chain(signs: readonly string[], next: () => Compiled): Compiled {
    let left = next();
    for (let operator = this.#take("sign", ...signs); operator !== null; operator = this.#take("sign", ...signs)) {
      const [sign, a, b] = [operator, left, next()];
      left = (scope) => binary(sign, a(scope), b(scope));
    }
    return left;
  }

  #unary(): Compiled {
    if (this.#take("sign", "-") === null) return this.#postfix();
    const inner = this.#unary();
    return (scope) => binary("-", 0, inner(scope));
  }

  /** A tensor name in quotes with a dimension in brackets, or a plain value. */
  #postfix(): Compiled {
    const inner = this.#atom();
    if (this.#take("sign", "[") === null) return inner;
    const axis = this.#sum();
    this.#must("]");
    return (scope) => scope.shapes.get(findName(scope.shapes, String(inner(scope))) ?? "")?.[number(axis(scope)) ?? -1] ?? null;
  }

  #atom(): Compiled {
    const next = this.#tokens[this.#at];
    this.#at += 1;
    if (next === undefined) throw this.#wrong("the end");
    if (next.kind === "number") return () => Number(next.value);
    if (next.kind === "text") return () => next.value;
    if (next.kind === "sign") {
      if (next.value !== "(") throw this.#wrong(next.value);
      const inner = this.#either();
      this.#must(")");
      return inner;
    }
    if (this.#take("sign", "(") === null) return (scope) => scope.named(next.value);
    const call = functions[next.value];
    if (call === undefined && !adapterFunctions.includes(next.value)) throw this.#wrong(next.value);
    const args: Compiled[] = [];
    while (this.#take("sign", ")") === null) {
      if (args.length > 0) this.#must(",");
      args.push(this.#either());
    }
    return (scope) => {
      const values = args.map((arg) => arg(scope));
      const own = scope.functions?.[next.value];
      return own ? own(String(values[0])) : (call?.(scope, values) ?? null);
    };
  }
}
