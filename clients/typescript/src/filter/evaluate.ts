/** Evaluates a filter on a row, with SQL's three-valued logic: null stands for unknown. */

import type { Json, Row } from "../protocol/json.js";
import type { Comparison, Expression } from "./parse.js";

/** Thrown for what only the server can decide. */
export class Undecidable extends Error {}

export type ColumnType = (column: string) => string | undefined;

interface Scope {
  row: Row;
  params: readonly Json[];
  typeOf: ColumnType;
}

/** @throws {Undecidable} when a value is missing here, or compares in a way that only the database knows. */
export function evaluate(expression: Expression, row: Row, params: readonly Json[], typeOf: ColumnType): Json {
  return value(expression, { row, params, typeOf });
}

function value(expression: Expression, scope: Scope): Json {
  switch (expression.op) {
    case "literal":
      return expression.value;
    case "param":
      return expression.index < scope.params.length ? scope.params[expression.index]! : undecidable();
    case "column":
      return scope.row[columnOf(expression, scope)]!;
    case "not": {
      const of = truth(value(expression.of, scope));
      return of === null ? null : !of;
    }
    case "and":
      return both(expression.left, expression.right, scope, false);
    case "or":
      return both(expression.left, expression.right, scope, true);
    case "null":
      return value(expression.of, scope) === null;
    case "in":
      return within(expression, scope);
    case "subquery":
      return undecidable();
    case "like":
      return like(value(expression.left, scope), value(expression.right, scope));
    default:
      return compare(expression.op, expression.left, expression.right, scope);
  }
}

/** AND and OR: a `decisive` side settles it, even when the other is undecidable here. */
function both(left: Expression, right: Expression, scope: Scope, decisive: boolean): Json {
  const sides = [left, right].map((side) => attempt(() => truth(value(side, scope))));
  if (sides.includes(decisive)) return decisive;
  if (sides.includes(undefined)) return undecidable();
  return sides.includes(null) ? null : !decisive;
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (error instanceof Undecidable) return undefined;
    throw error;
  }
}

function within({ of, list }: Extract<Expression, { op: "in" }>, scope: Scope): Json {
  const found = list.map((one) => compare("=", of, one, scope));
  if (found.includes(true)) return true;
  return found.includes(null) ? null : false;
}

function compare(op: Comparison, left: Expression, right: Expression, scope: Scope): Json {
  const [a, b] = [value(left, scope), value(right, scope)];
  if (a === null || b === null) return null;
  const order = orderOf(a, b, typeOf(left, scope) ?? typeOf(right, scope) ?? "", op !== "=" && op !== "<>");
  switch (op) {
    case "=": return order === 0;
    case "<>": return order !== 0;
    case "<": return order < 0;
    case "<=": return order <= 0;
    case ">": return order > 0;
    case ">=": return order >= 0;
  }
}

function typeOf(expression: Expression, scope: Scope): string | undefined {
  return expression.op === "column" ? scope.typeOf(columnOf(expression, scope)) : undefined;
}

/** An unquoted name means the column with that spelling, or else the one in lower case. */
function columnOf({ name, quoted }: Extract<Expression, { op: "column" }>, { row }: Scope): string {
  if (Object.hasOwn(row, name)) return name;
  const folded = name.toLowerCase();
  // A row that the user has just created lacks the columns that the database fills in.
  return !quoted && Object.hasOwn(row, folded) ? folded : undecidable();
}

/** Negative, zero or positive. Types with several spellings or an order of their own are undecidable. */
function orderOf(a: Json, b: Json, type: string, ordering: boolean): number {
  if (typeof a === "boolean" && typeof b === "boolean") return Number(a) - Number(b);
  if (/^(int|float|numeric)/.test(type) || (typeof a === "number" && typeof b === "number")) return numbers(a, b);
  if (a === b) return 0;
  if (typeof a !== "string" || typeof b !== "string" || /^(date|time)/.test(type)) return undecidable();
  if (type === "uuid") return texts(a.toLowerCase(), b.toLowerCase());
  return ordering && !/^(text|varchar|name)?$/.test(type) ? undecidable() : texts(a, b);
}

function numbers(a: Json, b: Json): number {
  if (!isNumber(a) || !isNumber(b)) return undecidable();
  // A whole number that a double cannot hold comes as text.
  if (/^-?\d+$/.test(String(a)) && /^-?\d+$/.test(String(b))) {
    const [x, y] = [BigInt(a), BigInt(b)];
    return x < y ? -1 : x > y ? 1 : 0;
  }
  return Number(a) - Number(b);
}

function isNumber(value: Json): value is number | string {
  return typeof value === "number" || (typeof value === "string" && value.trim() !== "" && !Number.isNaN(Number(value)));
}

/** Compares by code points, which is the order of UTF-8 bytes and the server's only one. */
function texts(a: string, b: string): number {
  const [x, y] = [Array.from(a), Array.from(b)];
  for (let i = 0; i < x.length && i < y.length; i++) {
    const difference = x[i]!.codePointAt(0)! - y[i]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return x.length - y.length;
}

function like(of: Json, pattern: Json): Json {
  if (of === null || pattern === null) return null;
  if (typeof of !== "string" || typeof pattern !== "string") return undecidable();
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const sign = pattern[i]!;
    if (sign === "\\") {
      i += 1;
      if (i === pattern.length) return undecidable();
      source += literal(pattern[i]!);
    } else source += sign === "%" ? ".*" : sign === "_" ? "." : literal(sign);
  }
  return new RegExp(`^${source}$`, "su").test(of);
}

function literal(sign: string): string {
  return sign.replace(/[.*+?^${}()|[\]\\/]/, "\\$&");
}

function truth(value: Json): boolean | null {
  return value === null || typeof value === "boolean" ? value : undecidable();
}

function undecidable(): never {
  throw new Undecidable();
}
