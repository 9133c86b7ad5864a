/** Which rows a view wants. Equal wishes have one name, share one subscription and one copy. */

import type { Json } from "../protocol/json.js";

/** A part of an entity: a filter in the server's SQL, its `$1…`, and the columns that are wanted. */
export interface SelectionOptions {
  where?: string;
  params?: readonly Json[];
  columns?: readonly string[];
}

export interface Selection {
  /** What the store and the other tabs know it by. */
  name: string;
  entity: string;
  where?: string;
  params?: Json[];
  columns?: string[];
}

export function selectionOf(entity: string, options: SelectionOptions = {}): Selection {
  const selection: Selection = { name: entity, entity };
  if (options.where !== undefined) selection.where = options.where;
  if (options.params?.length) selection.params = [...options.params];
  if (options.columns) selection.columns = [...new Set(options.columns)].sort();
  if (selection.where !== undefined || selection.columns) {
    selection.name = JSON.stringify([entity, selection.where ?? null, selection.params ?? null, selection.columns ?? null]);
  }
  return selection;
}
