/** What the server sends: the frames of protocol version 1, as the server's own types spell them. */

import type { Json, Row, RowKey, SubscriptionId } from "./value.js";
import type { ErrorCode, RefetchReason, RejectCode } from "./code.js";

/** One frame from the server. */
export type ServerFrame =
  | Welcome
  | { type: "snapshot"; id: SubscriptionId; rows: RowImage[]; more: boolean }
  | { type: "subscribed"; id: SubscriptionId; shape: string; cursor: string; schema: Schema }
  | { type: "refetch"; id: SubscriptionId; reason: RefetchReason }
  | { type: "changes"; shape?: string; id?: SubscriptionId; changes: Change[] }
  | { type: "cursor"; cursor: string }
  | { type: "ack"; mutation: number }
  | RejectFrame
  | { type: "authenticated"; user: string | null }
  | ErrorFrame
  | { type: "pong"; at?: Json };

export interface Welcome {
  type: "welcome";
  protocol: number;
  session_id: string;
  epoch: string;
  /** The newest mutation of this client that has been answered, 0 for none. */
  last_mutation: number;
  /** How often the server says something at least. */
  heartbeat_ms: number;
  limits: Limits;
  user?: string;
}

export interface Limits {
  frame_bytes_max: number;
  subscriptions_max: number;
  writes_max: number;
}

export interface RejectFrame {
  type: "reject";
  mutation: number;
  code: RejectCode;
  message: string;
  /** The position of the write in `writes`, from 0. */
  write?: number;
  column?: string;
  /** With `out_of_order`: the number that comes next. */
  expected?: number;
}

export interface ErrorFrame {
  type: "error";
  code: ErrorCode;
  message: string;
  id?: SubscriptionId;
  /** Whether a close follows. */
  fatal: boolean;
}

/** One row of a snapshot. */
export interface RowImage {
  key: RowKey;
  row: Row;
}

/** Which client's mutation made a change. */
export interface Origin {
  client_id?: string;
  mutation?: number;
}

/** One change of one row, or of all. */
export type Change =
  | ({ op: "put"; key: RowKey; row: Row } & Origin)
  | ({ op: "delete"; key: RowKey } & Origin)
  | ({ op: "leave"; key: RowKey } & Origin)
  | { op: "truncate" };

/** A table as the server describes it. */
export interface Schema {
  /** The columns of the primary key, in its order. */
  key: string[];
  /** Each column with the name of its type. */
  columns: Record<string, string>;
}
