/** Which rows a view wants. Equal selections have one name, and share a subscription and its rows. */

import type { Json } from "../protocol/json.js";
import { toJson } from "../protocol/to_json.js";

/** A filter in the server's SQL, the values of its `$1…`, and the wanted columns; default all. */
export interface SelectionOptions {
  /**
   * It may have subqueries (`list_id IN (SELECT list_id FROM members WHERE …)`), which read what the user may read. Rows
   * come and go as their answers change. Only the server knows these, so a row that the user creates appears when the
   * server sends it, not at once.
   */
  where?: string;
  params?: readonly (Json | bigint)[];
  columns?: readonly string[];
  /** The columns by which the rows are ordered. Nulls come last, and with `desc` first; the key decides last. */
  orderBy?: OrderBy;
  /** Only the first rows in that order: `{ orderBy: [["created_at", "desc"]], limit: 50 }` is the newest fifty. */
  limit?: number;
}

/** Which values of a column come first. */
export type Direction = "asc" | "desc";
/** Columns with their directions. */
export type OrderBy = readonly (readonly [column: string, direction: Direction])[];

export interface Selection {
  /** Identifies it in the store and among tabs. */
  name: string;
  entity: string;
  where?: string;
  params?: Json[];
  columns?: string[];
  order?: [string, Direction][];
  limit?: number;
  /** `fields`: with what is known of the rows beside their values. */
  mode?: string;
}

/** @throws {TypeError} when a parameter is not JSON. */
export function selectionOf(entity: string, options: SelectionOptions & { mode?: string } = {}): Selection {
  const selection: Selection = { name: entity, entity };
  if (options.where !== undefined) selection.where = options.where;
  if (options.params?.length) selection.params = options.params.map((param, index) => toJson(param, `$${index + 1}`));
  if (options.columns) selection.columns = [...new Set(options.columns)].sort();
  // Without a limit all rows are the same ones, in whatever order they are shown.
  const window: Json[] = [];
  if (options.limit !== undefined) {
    selection.limit = options.limit;
    selection.order = (options.orderBy ?? []).map(([column, direction]) => [column, direction]);
    window.push(selection.limit, selection.order);
  }
  if (options.mode) window.push((selection.mode = options.mode));
  if (selection.where !== undefined || selection.columns || window.length) {
    selection.name = JSON.stringify([entity, selection.where ?? null, selection.params ?? null, selection.columns ?? null, ...window]);
  }
  return selection;
}
