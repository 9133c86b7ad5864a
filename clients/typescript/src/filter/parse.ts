/**
 * Parses the server's filter language (a small part of SQL), so that a row that the user has just
 * written appears at once in the lists that it belongs to.
 */

import type { Json } from "../protocol/json.js";

export type Expression =
  | { op: "literal"; value: Json }
  | { op: "param"; index: number }
  | { op: "column"; name: string; quoted: boolean }
  | { op: "not"; of: Expression }
  | { op: "and" | "or" | Comparison | "like"; left: Expression; right: Expression }
  | { op: "in"; of: Expression; list: Expression[] }
  | { op: "null"; of: Expression }
  /** A subquery: the rows of the other table are the server's to know. */
  | { op: "subquery" };

export type Comparison = "=" | "<>" | "<" | "<=" | ">" | ">=";

const TOKEN = /\s*(?:('(?:[^']|'')*')|("(?:[^"]|"")*")|(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|\$(\d+)|([A-Za-z_][A-Za-z0-9_$]*)|(<>|!=|<=|>=|[=<>(),.*-]))/y;

/** The groups of `TOKEN`, in order. */
const KINDS = ["text", "quoted", "number", "param", "name", "sign"] as const;

interface Token {
  kind: (typeof KINDS)[number] | "end";
  text: string;
}

/** The expression; undefined for a filter that only the server understands. */
export function parseFilter(where: string): Expression | undefined {
  try {
    const parser = new Parser(tokens(where));
    const expression = parser.or();
    parser.expect("end", "");
    return expression;
  } catch (error) {
    if (error instanceof Unreadable) return undefined;
    throw error;
  }
}

class Unreadable extends Error {}

function unreadable(): never {
  throw new Unreadable();
}

function tokens(where: string): Token[] {
  const found: Token[] = [];
  const source = where.trimEnd();
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < source.length) {
    const match = TOKEN.exec(source);
    if (!match) unreadable();
    const kind = match.findIndex((group, index) => index > 0 && group !== undefined);
    found.push({ kind: KINDS[kind - 1]!, text: plain(match[kind]!) });
  }
  return found;
}

/** A token without its quotes, and with one spelling where there are two. */
function plain(text: string): string {
  const quote = text[0]!;
  if (text === "!=") return "<>";
  return quote === "'" || quote === '"' ? text.slice(1, -1).replaceAll(quote + quote, quote) : text;
}

class Parser {
  #at = 0;
  constructor(readonly tokens: Token[]) {}

  or(): Expression {
    let left = this.and();
    while (this.word("or")) left = { op: "or", left, right: this.and() };
    return left;
  }

  and(): Expression {
    let left = this.not();
    while (this.word("and")) left = { op: "and", left, right: this.not() };
    return left;
  }

  not(): Expression {
    return this.word("not") ? { op: "not", of: this.not() } : this.test();
  }

  test(): Expression {
    if (this.word("exists")) return this.subquery() ?? unreadable();
    const left = this.value();
    if (this.word("is")) {
      const negated = this.word("not");
      if (!this.word("null")) unreadable();
      return negate(negated, { op: "null", of: left });
    }
    const negated = this.word("not");
    if (this.word("in")) return this.subquery() ?? negate(negated, { op: "in", of: left, list: this.list() });
    if (this.word("like")) return negate(negated, { op: "like", left, right: this.value() });
    if (this.word("between")) {
      const low = this.value();
      if (!this.word("and")) unreadable();
      const above: Expression = { op: ">=", left, right: low };
      return negate(negated, { op: "and", left: above, right: { op: "<=", left, right: this.value() } });
    }
    if (negated) unreadable();
    for (const op of ["=", "<>", "<=", ">=", "<", ">"] as const) {
      if (this.sign(op)) return { op, left, right: this.value() };
    }
    return left;
  }

  list(): Expression[] {
    this.expect("sign", "(");
    const list = [this.value()];
    while (this.sign(",")) list.push(this.value());
    this.expect("sign", ")");
    return list;
  }

  /** Skips a subquery, if one comes next. Whether it stands behind a NOT makes no difference: only the server can tell. */
  subquery(): Expression | undefined {
    const start = this.#at;
    if (!this.sign("(") || !this.word("select")) {
      this.#at = start;
      return undefined;
    }
    for (let open = 1; open > 0; ) {
      const { kind, text } = this.next();
      if (kind === "end") unreadable();
      if (kind === "sign") open += text === "(" ? 1 : text === ")" ? -1 : 0;
    }
    return { op: "subquery" };
  }

  value(): Expression {
    if (this.sign("(")) {
      const inner = this.or();
      this.expect("sign", ")");
      return inner;
    }
    if (this.sign("-")) return { op: "literal", value: exact(`-${this.expect("number")}`) };
    const token = this.next();
    switch (token.kind) {
      case "text":
        return { op: "literal", value: token.text };
      case "number":
        return { op: "literal", value: exact(token.text) };
      case "param":
        return { op: "param", index: Number(token.text) - 1 };
      case "quoted":
      case "name":
        // Behind the name of the entity: outside of subqueries there is only the one.
        return this.sign(".") ? this.column() : token.kind === "name" ? named(token.text) : quoted(token.text);
      default:
        unreadable();
    }
  }

  column(): Expression {
    const { kind, text } = this.next();
    if (kind !== "name" && kind !== "quoted") unreadable();
    return kind === "name" ? { op: "column", name: text, quoted: false } : quoted(text);
  }

  next(): Token {
    return this.tokens[this.#at++] ?? { kind: "end", text: "" };
  }

  word(word: string): boolean {
    return this.#take((token) => token.kind === "name" && token.text.toLowerCase() === word);
  }

  sign(sign: string): boolean {
    return this.#take((token) => token.kind === "sign" && token.text === sign);
  }

  expect(kind: Token["kind"], text?: string): string {
    const token = this.next();
    if (token.kind !== kind || (text !== undefined && token.text !== text)) unreadable();
    return token.text;
  }

  #take(fits: (token: Token) => boolean): boolean {
    const token = this.tokens[this.#at];
    if (!token || !fits(token)) return false;
    this.#at += 1;
    return true;
  }
}

const RESERVED = new Set(["and", "or", "not", "in", "is", "like", "between", "case", "select", "exists", "cast"]);

function named(name: string): Expression {
  const word = name.toLowerCase();
  if (word === "true" || word === "false") return { op: "literal", value: word === "true" };
  if (word === "null") return { op: "literal", value: null };
  if (RESERVED.has(word)) unreadable();
  return { op: "column", name, quoted: false };
}

function quoted(name: string): Expression {
  return { op: "column", name, quoted: true };
}

/** A whole number that a double cannot hold stays text, as it comes from the server. */
function exact(text: string): Json {
  const number = Number(text);
  return Number.isInteger(number) && !Number.isSafeInteger(number) ? text : number;
}

function negate(negated: boolean, of: Expression): Expression {
  return negated ? { op: "not", of } : of;
}
