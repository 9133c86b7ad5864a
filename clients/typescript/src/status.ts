/** How the client is, in one object for whoever shows it. */

import type { SyncError } from "./errors.js";
import type { StorageState } from "./store/fallback_store.js";

/**
 * `connecting`: no connection, one is being made. `behind`: connected, and rows are on their way.
 * `live`: everything shown is as it is in the database. `offline`: no connection is wanted or
 * possible. `error`: the server refuses us; `error` says why and what helps.
 */
export type SyncState = "connecting" | "live" | "behind" | "offline" | "error";

/** A new object whenever something in it changes, and only then. */
export interface Status {
  readonly state: SyncState;
  /** Why the connection was lost or refused, as far as it is known. */
  readonly error: SyncError | undefined;
  /** Mutations that the server has not answered. */
  readonly pending: number;
  /** Of these, those that a reload would lose, because the store has no room or is gone. */
  readonly unsaved: number;
  /** Dead letters. */
  readonly rejected: number;
  /** When the copy was last brought up to date, to the second, by this machine's clock. */
  readonly lastSynced: Date | undefined;
  /** `full`: the store has no room for rows; `memory`: nothing survives a reload. */
  readonly storage: StorageState;
  /** Whether this tab holds the connection for the browser. */
  readonly leader: boolean;
  readonly transport: string | undefined;
  /** What the server offers, by name, such as `rows`; empty until it has been reached. */
  readonly features: readonly string[];
}

export function sameStatus(a: Status, b: Status): boolean {
  // An error's message is no part of its JSON.
  return JSON.stringify([a, a.error?.message]) === JSON.stringify([b, b.error?.message]);
}
