/**
 * The canonical text of a primary key, as the server writes it: a key of one column is its value as
 * text (`42`), a key of several is a JSON array of their values (`[42,"eu"]`).
 */

import type { Json, Row, RowKey } from "./protocol/json.js";
import { toJson } from "./protocol/to_json.js";

/** A key as an application writes it: a value, or the values of a composite key in its order. */
export type KeyInput = string | number | bigint | boolean | readonly (Json | bigint)[];

export function canonicalKey(key: KeyInput): RowKey {
  if (!Array.isArray(key)) return plain(key);
  return key.length === 1 ? plain(key[0]) : JSON.stringify(key, digits);
}

/** The key of a row; undefined when one of its columns is missing or null. */
export function keyOfRow(row: Row, columns: readonly string[]): RowKey | undefined {
  const values = columns.map((column) => row[column]);
  if (values.some((value) => value === undefined || value === null)) return undefined;
  return canonicalKey(values as Json[]);
}

function plain(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value, digits) : String(value);
}

/** A whole number of any size as the server writes it in a key. */
function digits(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? toJson(value) : value;
}

/** Compares keys: numbers by value, before texts by character. */
export function compareKeys(a: RowKey, b: RowKey): number {
  const [x, y] = [Number(a), Number(b)];
  const [aIsText, bIsText] = [Number.isNaN(x), Number.isNaN(y)];
  if (aIsText !== bIsText) return aIsText ? 1 : -1;
  if (!aIsText && x !== y) return x - y;
  return a < b ? -1 : Number(a > b);
}
