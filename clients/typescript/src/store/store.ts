/**
 * What survives a reload: the client's id, the queue, the dead letters, and the rows of each query with
 * their cursor.
 */

import type { RowKey } from "../protocol/json.js";
import type { Commit, Put, Schema } from "../replica/commit.js";
import type { ChainLink, Mutation, Numbering, Rejection } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";

/** What a store holds besides rows. */
export interface Stored {
  clientId: string;
  /** The highest number that a mutation was ever assigned. */
  lastNumber: number;
  /** The newest mutation that the server has answered, as far as that is known. */
  last?: ChainLink;
  queue: Mutation[];
  rejected: Rejection[];
}

/** The last known rows of a query. */
export interface StoredRows {
  rows: Put[];
  cursor: string;
  schema: Schema;
  order?: readonly RowKey[] | undefined;
}

/** Every method is one transaction: all of it is stored or nothing, whenever the tab is killed. */
export interface Store {
  readonly kind: "indexeddb" | "memory";
  /** Whether other tabs use the same data. */
  readonly shared: boolean;
  /** @param clientId for a new store; default a random one. */
  open(clientId?: string): Promise<Stored>;
  rows(selection: Selection): Promise<StoredRows | undefined>;
  /** The cursor of a query, without its rows. */
  cursor(selection: Selection): Promise<string | undefined>;
  /** Adds a mutation, unless the store has it. */
  enqueue(mutation: Mutation): Promise<void>;
  number(assigned: readonly Numbering[]): Promise<void>;
  /** Changes rows, cursors, the queue and the dead letters together. */
  commit(commit: Commit): Promise<void>;
  dismiss(ids: readonly string[]): Promise<void>;
  /** Begins under another client id: removes what was answered, and takes the numbers of the rest away. */
  fork(clientId: string, answered: readonly string[]): Promise<void>;
  /** Drops the rows, to make room. */
  free(): Promise<void>;
  /** Calls `listener` when the browser, the user or a newer page takes the store away. */
  onLost?(listener: () => void): void;
  /** Allows the next method to open a store again that was taken away. */
  reopen?(): void;
  close?(): void;
}
