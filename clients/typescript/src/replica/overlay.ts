/**
 * The optimistic layer: the user's open writes, applied on top of the rows of one selection whenever
 * either of them changes.
 */

import type { Write } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { canonicalKey, keyOfRow, type KeyInput } from "../key.js";
import type { QueryRows } from "./query_rows.js";
import type { Mutation } from "./mutation.js";

/** The rows that differ from the server's: as they are shown, or null where one is not. */
export type Overlay = ReadonlyMap<RowKey, Row | null>;

export interface OverlaySource {
  queue: readonly Mutation[];
  /** The key columns of an entity. */
  keyColumns(entity: string): readonly string[];
  /** A row as some other selection knows it, with all its columns. */
  image(entity: string, key: RowKey): Row | undefined;
  /** Whether a row belongs to the selection; undefined when only the server can tell. */
  matches(query: QueryRows, row: Row): boolean | undefined;
}

const NOTHING: Overlay = new Map();

export function overlayOf(query: QueryRows, source: OverlaySource): Overlay {
  const open = source.queue.filter(
    ({ id, writes }) => !query.settled.has(id) && writes.some(({ entity }) => entity === query.selection.entity),
  );
  if (open.length === 0) return NOTHING;
  const { entity } = query.selection;
  const rows = new Map<RowKey, Row | null>();
  for (const mutation of open) {
    mutation.writes.forEach((write, index) => {
      if (write.entity !== entity) return;
      const key = keyOfWrite(write, source.keyColumns(entity)) ?? temporaryKey(mutation, index);
      const before = rows.has(key) ? rows.get(key) : (query.rows.get(key) ?? source.image(entity, key));
      const after = applyWrite(write, before ?? undefined);
      if (after !== undefined) rows.set(key, after);
    });
  }
  return shownIn(query, rows, source);
}

/** Of the rows that were written, those that this selection shows or hides because of it. */
function shownIn(query: QueryRows, rows: ReadonlyMap<RowKey, Row | null>, source: OverlaySource): Overlay {
  const shown = new Map<RowKey, Row | null>();
  for (const [key, row] of rows) {
    // What only the server can tell stays as it was until the server tells.
    const belongs = row !== null && (source.matches(query, row) ?? query.rows.has(key));
    if (belongs) shown.set(key, project(row, query, source.keyColumns(query.selection.entity)));
    else if (query.rows.has(key)) shown.set(key, null);
  }
  return shown;
}

/** The row after a write, null when it is gone, undefined when the write changes nothing here. */
function applyWrite(write: Write, before: Row | undefined): Row | null | undefined {
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

/** The key of the row that a write is about; none when the database is to choose it. */
export function keyOfWrite(write: Write, columns: readonly string[]): RowKey | undefined {
  if (write.key !== undefined) return canonicalKey(write.key as KeyInput);
  return keyOfRow(write.values ?? {}, columns);
}

/** Until the database has chosen a key, the row goes by this one. */
export function temporaryKey({ id }: Mutation, index: number): RowKey {
  return `new:${id}:${index}`;
}
