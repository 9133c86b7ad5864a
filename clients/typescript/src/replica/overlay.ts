/**
 * The optimistic layer: the user's open writes, applied on top of a query's rows whenever either
 * changes.
 */

import type { Write } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { canonicalKey, keyOfRow, type KeyInput } from "../key.js";
import type { QueryRows } from "./query_rows.js";
import type { Mutation } from "./mutation.js";

/** The rows that are shown differently from the server's; null for one that is hidden. */
export type Overlay = ReadonlyMap<RowKey, Row | null>;

export interface OverlaySource {
  queue: readonly Mutation[];
  /** The key columns of an entity. */
  keyColumns(entity: string): readonly string[];
  /** The writes of a mutation on an entity, each with the key of its row. */
  writesOn(entity: string, mutation: Mutation): readonly [RowKey, Write][];
  /** What a write makes of a row. */
  applyWrite: typeof applyWrite;
  /** A query that has the row with all its columns. */
  holder(entity: string, key: RowKey): QueryRows | undefined;
  /** Whether a row belongs to the query; undefined when only the server can tell. */
  matches(query: QueryRows, row: Row): boolean | undefined;
}

const NOTHING: Overlay = new Map();

export function overlayOf(query: QueryRows, source: OverlaySource): Overlay {
  const { entity } = query.selection;
  const rows = new Map<RowKey, Row | null>();
  for (const mutation of source.queue) {
    if (query.settled.has(mutation.id)) continue;
    for (const [key, write] of source.writesOn(entity, mutation)) {
      const before = rows.has(key) ? rows.get(key) : (query.rows.get(key) ?? source.holder(entity, key)?.rows.get(key));
      const after = source.applyWrite(write, before ?? undefined);
      if (after !== undefined) rows.set(key, after);
    }
  }
  return rows.size ? shownIn(query, rows, source) : NOTHING;
}

/** The written rows that this query therefore shows or hides. */
function shownIn(query: QueryRows, rows: ReadonlyMap<RowKey, Row | null>, source: OverlaySource): Overlay {
  const shown = new Map<RowKey, Row | null>();
  for (const [key, row] of rows) {
    // When only the server can tell, the row stays where it was until it does.
    const belongs = row !== null && (source.matches(query, row) ?? query.rows.has(key));
    if (belongs) shown.set(key, project(row, query, source.keyColumns(query.selection.entity)));
    else if (query.rows.has(key)) shown.set(key, null);
  }
  return shown;
}

/** The row after a write; null when it is deleted, undefined when the write changes nothing here. */
export function applyWrite(write: Write, before: Row | undefined): Row | null | undefined {
  switch (write.op) {
    case "create":
      return { ...write.values };
    case "upsert":
      return { ...before, ...write.values };
    case "update":
      return before && { ...before, ...write.values };
    case "delete":
      return null;
  }
}

function project(row: Row, { selection }: QueryRows, key: readonly string[]): Row {
  if (!selection.columns) return row;
  const wanted = new Set([...selection.columns, ...key]);
  return Object.fromEntries(Object.entries(row).filter(([column]) => wanted.has(column)));
}

/** The key of the written row; undefined when the database chooses it. */
export function keyOfWrite(write: Write, columns: readonly string[]): RowKey | undefined {
  if (write.key !== undefined) return canonicalKey(write.key as KeyInput);
  return keyOfRow(write.values ?? {}, columns);
}

/** The key of a row until the database has chosen one. */
export function temporaryKey({ id }: Mutation, index: number | string): RowKey {
  return `new:${id}:${index}`;
}
