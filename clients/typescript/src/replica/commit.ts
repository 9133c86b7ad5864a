/**
 * One step of the replica, from one committed instant of the database to the next. The same value
 * moves the rows in memory, the store and the other tabs, so that they cannot diverge.
 */

import type { Conflict, RowImage, SchemaSummary } from "../protocol/generated.js";
import type { Json, Row, RowKey } from "../protocol/json.js";
import type { ChainLink, Rejection } from "./mutation.js";

export interface Commit {
  queries: QueryCommit[];
  /** Mutations that the server has committed; their effects may still be on their way. */
  acked: string[];
  /** Mutations that leave the queue: the rows of every query contain them, or the server rejected them. */
  answered: string[];
  rejected: Rejection[];
  /** The newest mutation that the server has answered. */
  last?: ChainLink;
  /** Of rows that merge by their fields: values that are not kept. */
  conflicts?: Conflict[];
  /** The clocks under which writes count, by what they said. */
  stamps?: { [hlc: string]: string };
  /** How far the server's time is ahead of this machine's, in milliseconds. */
  aheadMs?: number;
}

/** The columns of a table, and how its rows merge if they do by their fields. */
export type Schema = SchemaSummary & { rules?: Json };

/** What is known of a row beside its values. */
export type RowMetadata = Pick<RowImage, "born" | "died" | "base" | "edited" | "clocks" | "lost">;

/** A row with its key. */
export type Put = [key: RowKey, row: Row, metadata?: RowMetadata];

/** Whether a query's rows are those of the server (`live`), or were at some time (`stale`). */
export type QueryPhase = "loading" | "stale" | "live" | "error";

export interface QueryCommit {
  name: string;
  phase?: QueryPhase;
  error?: { [name: string]: Json };
  rows?: RowsCommit;
  /** Mutations whose effects are in these rows from now on, so that the optimistic layer drops them. */
  settled: string[];
}

export interface RowsCommit {
  /** The rows so far are dropped. */
  reset: boolean;
  puts: Put[];
  gone: RowKey[];
  /** The instant of these rows, to resume from. */
  cursor?: string;
  schema?: Schema;
  /** The order of a window's rows until they change, where the server says it. */
  order?: readonly RowKey[];
}

/** The order of a window's rows after a commit, where the server has said it: what it says holds until they change. */
export function orderAfter({ reset, puts, gone, order }: RowsCommit, before: RowsCommit["order"]): RowsCommit["order"] {
  return order ?? (reset || puts.length || gone.length ? undefined : before);
}

export function emptyCommit(): Commit {
  return { queries: [], acked: [], answered: [], rejected: [] };
}
