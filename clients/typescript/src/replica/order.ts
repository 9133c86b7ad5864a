/**
 * The order in which the rows of a window are shown. The database alone knows the order of texts, so where a column has
 * some the server says it. The user's own writes find their places by their values meanwhile.
 */

import type { Direction, OrderBy } from "./selection.js";
import type { Json, Row, RowKey } from "../protocol/json.js";

/** Compares rows as the server orders them: nulls are above every value, and the key decides last. */
export type Compare = (a: Row, b: Row) => number;

/** @param keyColumns those that are not in `orderBy` follow, in its last direction. */
export function comparing(orderBy: OrderBy, keyColumns: readonly string[], typeOf: (column: string) => string | undefined): Compare {
  const last: Direction = orderBy.at(-1)?.[1] ?? "asc";
  // A column that is named twice decides at its first place.
  const order = [...orderBy, ...keyColumns.map((column) => [column, last] as const)];
  return (a, b) => {
    for (const [column, direction] of order) {
      const difference = compareValues(a[column] ?? null, b[column] ?? null, typeOf(column));
      if (difference) return direction === "desc" ? -difference : difference;
    }
    return 0;
  };
}

function compareValues(a: Json, b: Json, type: string | undefined): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  // A number that a double does not hold is a string.
  if (typeof a === "string" && typeof b === "string" && !/^(int|numeric|float)/.test(type ?? "")) return a < b ? -1 : 1;
  return Number(a) - Number(b) || (a < b ? -1 : 1);
}

/**
 * Arranges rows.
 *
 * @param said the order of the rows as the server says it, where it does.
 * @param isMoved whether the user has changed where a row belongs.
 */
export function arrange(
  rows: [RowKey, Row][],
  compare: Compare,
  said: readonly RowKey[] | undefined,
  isMoved: (key: RowKey, row: Row) => boolean,
): [RowKey, Row][] {
  if (!said) return rows.sort((a, b) => compare(a[1], b[1]));
  const places = new Map(said.map((key, place) => [key, place]));
  const isPlaced = ([key, row]: [RowKey, Row]) => places.has(key) && !isMoved(key, row);
  const placed = rows.filter(isPlaced).sort((a, b) => places.get(a[0])! - places.get(b[0])!);
  for (const row of rows) {
    if (isPlaced(row)) continue;
    const before = placed.findIndex((other) => compare(row[1], other[1]) < 0);
    placed.splice(before < 0 ? placed.length : before, 0, row);
  }
  return placed;
}
