/**
 * One step of the local copy, from one committed instant of the database to the next. The same value
 * moves the rows in memory, the store, and the other tabs, so that they cannot come apart.
 */

import type { SchemaSummary } from "../protocol/generated.js";
import type { Json, Row, RowKey } from "../protocol/json.js";
import type { Rejection } from "./mutation.js";

export interface Commit {
  queries: QueryCommit[];
  /** Mutations that the server has committed; their effects may still have to come. */
  acked: string[];
  /** Mutations that leave the queue: every copy contains them, or the server refused them. */
  answered: string[];
  rejected: Rejection[];
}

/** How far a selection is: its rows are what they are at the server (`live`), or were once (`stale`). */
export type QueryPhase = "loading" | "stale" | "live" | "refused";

export interface QueryCommit {
  name: string;
  phase?: QueryPhase;
  error?: { [name: string]: Json };
  rows?: RowsCommit;
  /** Mutations whose effects are in these rows from now on: the optimistic layer lets go of them. */
  settled: string[];
}

export interface RowsCommit {
  /** The rows before this are gone. */
  reset: boolean;
  puts: [RowKey, Row][];
  gone: RowKey[];
  /** The rows are those of this instant: the place to resume from. */
  cursor?: string;
  schema?: SchemaSummary;
}

export function emptyCommit(): Commit {
  return { queries: [], acked: [], answered: [], rejected: [] };
}
