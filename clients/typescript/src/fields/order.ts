/** An order of all JSON values, the same as on the server. It decides ties, and what is greatest and least. */

import type { Json } from "../protocol/json.js";
import { compareDecimals, readDecimal } from "./decimal.js";
import { readDay, readMoment } from "./moment.js";
import type { ColumnMerge, Comparison } from "./rules.js";
import { compareTexts, sortedEntries } from "./texts.js";

/**
 * Compares two values: null, booleans, numbers, texts by their bytes, arrays, objects by their names. Zero means that they
 * are the same. (The server tells apart how equal numbers are spelled, `1` and `1.0`; here they are one number.)
 */
export function compareValues(one: Json, two: Json): number {
  const kind = rank(one);
  if (kind !== rank(two)) return kind - rank(two);
  switch (kind) {
    case 0:
      return 0;
    case 3:
      return compareTexts(one as string, two as string);
    case 4:
      return compareLists(one as Json[], two as Json[]);
    case 5:
      return compareLists(sortedEntries(one as { [name: string]: Json }), sortedEntries(two as { [name: string]: Json }));
    default:
      return one! < two! ? -1 : Number(one! > two!);
  }
}

function compareLists(one: readonly Json[], two: readonly Json[]): number {
  const length = Math.min(one.length, two.length);
  for (let at = 0; at < length; at++) {
    const order = compareValues(one[at]!, two[at]!);
    if (order !== 0) return order;
  }
  return one.length - two.length;
}

function rank(value: Json): number {
  if (value === null) return 0;
  if (typeof value === "object") return Array.isArray(value) ? 4 : 5;
  return ["boolean", "number", "string"].indexOf(typeof value) + 1;
}

/**
 * Compares values by what they mean for a column, where the greatest or the least is kept: the positive is kept. Null
 * loses, and what cannot be read so is below what can.
 */
export function compareExtremes(one: Json, two: Json, merge: ColumnMerge): number {
  if (one === null || two === null || typeof merge === "string") return compareValues(one, two);
  return "min" in merge ? compareAs(merge.min, two, one) : compareAs(merge.max, one, two);
}

/** Compares two values, as numbers also where they come as texts: `NaN` above all, `Infinity` below it. */
export function compareAs(comparison: Comparison, one: Json, two: Json): number {
  return compareMeanings(comparison, one, two) || compareValues(one, two);
}

function compareMeanings(comparison: Comparison, one: Json, two: Json): number {
  if (comparison === "number") return compareDecimals(readDecimal(one), readDecimal(two));
  if (comparison === "json") return 0;
  const read = comparison === "date" ? readDay : readMoment;
  const [a, b] = [read(one), read(two)];
  return a === undefined || b === undefined ? Number(a !== undefined) - Number(b !== undefined) : a < b ? -1 : Number(a > b);
}
