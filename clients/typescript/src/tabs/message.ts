/** The messages between the tabs of one browser. One of them leads: it holds the connection. */

import type { Json, RowKey } from "../protocol/json.js";
import type { Commit, Put, QueryPhase, Schema } from "../replica/commit.js";
import type { Mutation, Numbering } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";

export type Message =
  /** From a new leader: asks what the tabs show. */
  | { type: "lead" }
  /** To the leader: everything that this tab shows. `again`: it needs the state of all of it. */
  | { type: "want"; selections: Selection[]; again: boolean }
  /** This tab is closing. */
  | { type: "bye" }
  /** From the leader to one tab: the state of a query. */
  | { type: "rows"; to: string; query: QueryState }
  /** From the leader: a step for every replica. Counted, so that a gap is noticed. */
  | { type: "commit"; count: number; commit: Commit }
  /** Writes of the user in this tab. `saved`: the store has them. */
  | { type: "queued"; mutations: Mutation[]; saved: boolean }
  /** From the leader: the numbers of mutations. */
  | { type: "numbered"; assigned: Numbering[] }
  /** From the leader: the client has another id, and no mutation a number. */
  | { type: "forked" }
  /** Dead letters were dismissed. */
  | { type: "dismissed"; ids: string[] }
  /** From the leader: what it knows of the connection. */
  | { type: "status"; status: SharedStatus }
  /** A command of the application: for the leader, and for the tabs that may lead later. */
  | { type: "command"; command: Command };

export type Command = "connect" | "disconnect" | "authenticate" | "wake";

export interface Envelope {
  from: string;
  message: Message;
}

/** Connects the tabs, as a BroadcastChannel does. */
export interface TabChannel {
  postMessage(envelope: Envelope): void;
  onmessage: ((event: MessageEvent<Envelope>) => void) | null;
  close(): void;
}

/** A query as the leader has it, for another tab to continue from. */
export interface QueryState {
  name: string;
  rows: Put[];
  phase: QueryPhase;
  error?: { [name: string]: Json };
  cursor?: string;
  schema?: Schema;
  order?: readonly RowKey[];
  settled: string[];
  /** How many of the leader's commits are in it. */
  count: number;
}

/** What the leader knows of the connection. */
export interface SharedStatus {
  state: "connecting" | "live" | "behind" | "offline" | "error";
  error?: { [name: string]: Json };
  features: readonly string[];
  syncedAt?: number;
  transport?: string;
}
