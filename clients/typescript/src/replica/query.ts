/** Which rows a view wants. Equal wishes have one name, share one subscription and one copy. */

import type { Json } from "../protocol/json.js";

/** A part of an entity: a filter in the server's SQL, its `$1…`, and the columns that are wanted. */
export interface QueryOptions {
  where?: string;
  params?: readonly Json[];
  columns?: readonly string[];
}

export interface Query {
  /** What the store and the other tabs know it by. */
  name: string;
  entity: string;
  where?: string;
  params?: Json[];
  columns?: string[];
}

export function queryOf(entity: string, options: QueryOptions = {}): Query {
  const query: Query = { name: entity, entity };
  if (options.where !== undefined) query.where = options.where;
  if (options.params?.length) query.params = [...options.params];
  if (options.columns) query.columns = [...new Set(options.columns)].sort();
  if (query.where !== undefined || query.columns) {
    query.name = JSON.stringify([entity, query.where ?? null, query.params ?? null, query.columns ?? null]);
  }
  return query;
}
