/** What the tabs of one browser tell each other. One of them leads: it holds the connection. */

import type { SchemaSummary } from "../protocol/generated.js";
import type { Json, Row, RowKey } from "../protocol/json.js";
import type { Commit, QueryPhase } from "../replica/commit.js";
import type { Mutation, Numbering } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";

export type Message =
  /** From a new leader: say what you want. */
  | { type: "lead" }
  /** To the leader: everything that this tab shows. `again`: the rows anew, something was missed. */
  | { type: "want"; selections: Selection[]; again: boolean }
  /** This tab is closing. */
  | { type: "bye" }
  /** From the leader to one tab: a selection as it is. */
  | { type: "rows"; to: string; query: QueryState }
  /** From the leader: a step of everybody's copy. Counted, so that a gap is noticed. */
  | { type: "commit"; count: number; commit: Commit }
  /** The user has written something in this tab. `saved`: the store has it. */
  | { type: "queued"; mutations: Mutation[]; saved: boolean }
  /** From the leader: these are their numbers. */
  | { type: "numbered"; assigned: Numbering[] }
  /** Dead letters were dealt with. */
  | { type: "dismissed"; ids: string[] }
  /** From the leader. */
  | { type: "status"; status: SharedStatus }
  /** From whatever tab the application called it in: for the leader, and for those that lead next. */
  | { type: "command"; command: Command };

export type Command = "connect" | "disconnect" | "authenticate" | "wake";

export interface Envelope {
  from: string;
  message: Message;
}

/** What tabs talk through; a BroadcastChannel fits. */
export interface TabChannel {
  postMessage(envelope: Envelope): void;
  onmessage: ((event: MessageEvent<Envelope>) => void) | null;
  close(): void;
}

/** A selection's copy as the leader has it. */
export interface QueryState {
  name: string;
  rows: [RowKey, Row][];
  phase: QueryPhase;
  error?: { [name: string]: Json };
  cursor?: string;
  schema?: SchemaSummary;
  settled: string[];
  /** The leader's count of commits that are in it. */
  count: number;
}

/** What only the leader knows of the connection. */
export interface SharedStatus {
  state: "connecting" | "live" | "behind" | "offline" | "error";
  error?: { [name: string]: Json };
  features: readonly string[];
  syncedAt?: number;
  transport?: string;
}
