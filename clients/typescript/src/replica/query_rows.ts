/**
 * A query: the rows of one selection as the server sent them, without the user's open writes.
 *
 * Each query has its own rows. Two queries may hold the same row at different instants while one of
 * them is joining, and with different columns, so a shared image would be wrong for one of them. The
 * price is memory for rows that are in several queries.
 */

import type { Row, RowKey } from "../protocol/json.js";
import { errorFromJson, type SyncError } from "../errors.js";
import { orderAfter, type RowMetadata, type QueryCommit, type QueryPhase, type RowsCommit, type Schema } from "./commit.js";
import type { Selection } from "./selection.js";

export class QueryRows {
  rows: ReadonlyMap<RowKey, Row> = new Map();
  phase: QueryPhase = "loading";
  error: SyncError | undefined;
  cursor: string | undefined;
  schema: Schema | undefined;
  /** The order of a window's rows, where the server says it. */
  order: readonly RowKey[] | undefined;
  /** Open mutations whose effects these rows contain already. */
  readonly settled = new Set<string>();

  /** @param metadata what is known of rows beside their values. */
  constructor(
    readonly selection: Selection,
    readonly metadata: WeakMap<Row, RowMetadata>,
  ) {}

  /** Whether its rows have all their columns. */
  get isFull(): boolean {
    return !this.selection.columns;
  }

  apply(commit: QueryCommit): void {
    if (commit.rows) this.#move(commit.rows);
    for (const id of commit.settled) this.settled.add(id);
    if (commit.phase) this.#enter(commit.phase);
    this.error = commit.error ? errorFromJson(commit.error) : undefined;
  }

  /** A query that has never had rows is loading, not stale. */
  #enter(phase: QueryPhase): void {
    const known = this.cursor !== undefined || this.phase === "stale" || this.phase === "live";
    this.phase = phase === "stale" && !known ? "loading" : phase;
  }

  #move(commit: RowsCommit): void {
    const { reset, puts, gone, cursor, schema } = commit;
    const before = this.rows;
    const rows = reset ? new Map<RowKey, Row>() : (before as Map<RowKey, Row>);
    for (const key of gone) rows.delete(key);
    for (const [key, put, metadata] of puts) {
      const held = before.get(key);
      // An unchanged row stays the same object, so that it is not drawn again.
      const row = held && sameRow(held, put) ? held : put;
      rows.set(key, row);
      if (metadata) this.metadata.set(row, metadata);
      else this.metadata.delete(row);
    }
    this.rows = rows;
    if (reset || cursor !== undefined) this.cursor = cursor;
    if (schema) this.schema = schema;
    this.order = orderAfter(commit, this.order);
  }
}

/** Whether two rows hold the same values. */
export function sameRow(a: Row, b: Row): boolean {
  const names = Object.keys(b);
  return names.length === Object.keys(a).length && names.every((name) => sameValue(a[name], b[name]));
}

function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  return typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b);
}
