/** The client's state in one object, to be displayed. */

import type { SyncError } from "./errors.js";
import type { StorageState } from "./store/fallback_store.js";

/**
 * `connecting`: there is no connection yet. `behind`: connected, and rows are on their way. `live`: all
 * rows are current. `offline`: a connection is not wanted or not possible. `error`: the server refuses
 * the connection; `error` says why and what helps.
 */
export type SyncState = "connecting" | "live" | "behind" | "offline" | "error";

/** Another object when something in it changes, and only then. */
export interface Status {
  readonly state: SyncState;
  /** Why the connection was lost or refused, if that is known. */
  readonly error: SyncError | undefined;
  /** The number of mutations that the server has not answered. */
  readonly pending: number;
  /** How many of these a reload would lose, because the store is full or gone. */
  readonly unsaved: number;
  /** The number of dead letters. */
  readonly rejected: number;
  /** When the rows were last brought up to date, to the second, by this machine's clock. */
  readonly lastSynced: Date | undefined;
  /** `full`: the store has no room; `memory`: nothing survives a reload. */
  readonly storage: StorageState;
  /** Whether this tab holds the connection for the browser. */
  readonly leader: boolean;
  readonly transport: string | undefined;
  /** What the server offers, such as `rows`; empty until the first connection. */
  readonly features: readonly string[];
}

export function sameStatus(a: Status, b: Status): boolean {
  // The JSON of an error lacks its message.
  return JSON.stringify([a, a.error?.message]) === JSON.stringify([b, b.error?.message]);
}
