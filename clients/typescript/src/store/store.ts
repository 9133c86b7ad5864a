/**
 * What survives a reload: who this device is, the queue, the dead letters, and the rows of each selection
 * with the cursor that vouches for them.
 */

import type { SchemaSummary } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { Commit } from "../replica/commit.js";
import type { Mutation, Numbering, Rejection } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";

/** What is there when the store is opened. */
export interface Stored {
  clientId: string;
  /** The highest number that a mutation was ever given. */
  lastNumber: number;
  queue: Mutation[];
  rejected: Rejection[];
}

/** The rows of a selection as they were last. */
export interface StoredRows {
  rows: [RowKey, Row][];
  cursor: string;
  schema: SchemaSummary;
}

/** Every method is one transaction: all of it is kept, or nothing, wherever the tab is killed. */
export interface Store {
  readonly kind: "indexeddb" | "memory";
  /** Whether other tabs see the same. */
  readonly shared: boolean;
  open(): Promise<Stored>;
  rows(selection: Selection): Promise<StoredRows | undefined>;
  /** The resume point of a selection, without its rows. */
  cursor(selection: Selection): Promise<string | undefined>;
  enqueue(mutation: Mutation): Promise<void>;
  number(assigned: readonly Numbering[]): Promise<void>;
  /** Rows, cursors, the queue and the dead letters move together. */
  commit(commit: Commit): Promise<void>;
  dismiss(ids: readonly string[]): Promise<void>;
  /** Drops rows that can be had again, to make room for what cannot. */
  free(): Promise<void>;
  /** Called when the store is taken away: the browser or the user deletes it, or a newer page does. */
  onLost?(listener: () => void): void;
  close?(): void;
}
