/**
 * The frames of the protocol and their words, generated from the Rust types in
 * crates/protocol. Do not edit. To generate it again, at the top of the repository:
 *
 *     UPDATE_TYPES=1 cargo test -p rhtmx-sync-protocol --lib typescript
 */

import type { Json, Row } from "./json.js";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOL = "rhtmx-sync.v1";

/** Why a connection is closed. */
export const CLOSE = {
  shutting_down: 1001,
  protocol: 4400,
  unauthenticated: 4401,
  forbidden: 4403,
  timeout: 4408,
  too_large: 4413,
  rate_limited: 4429,
} as const;

/** The mutation is committed; the `cursor` frame that follows contains it. */
export type Ack = {
  /** The mutation. */
  mutation: number;
  /** The clocks of writes that said another one than they count under; of rows that merge by their fields. */
  stamps?: Array<Stamp>;
};

/** A fresh token on an open connection. */
export type Auth = {
  /** The token. */
  token: string;
};

/** Answer to `auth`. */
export type Authenticated = {
  /** The user; null where the server knows no users. */
  user: string | null;
};

/** One change of one row, or of all. */
export type Change = Partial<MutationId> & (
  | {
    op: "put";
    /** The row's key, canonical. */
    key: string;
    /** The whole row. */
    row: Row;
    /** When it was created; none for before anything was stamped. */
    born?: string;
    /** When it was deleted, for a row that an edit has brought back. */
    died?: string;
    /** The clock of every column that `clocks` does not name; none for `born`. */
    base?: string;
    /** The newest edit, where no clock tells it. It is not told to those who are not sent all columns. */
    edited?: string;
    /** What columns have of their own: a clock, or of a counter or a set what it is made of. */
    clocks?: Record<string,Json>;
    /** By column, where both values of a conflict are kept: those that lost and that nobody has resolved, the oldest first. */
    lost?: Record<string,StampedValue[]>;
  }
  | {
    op: "patch";
    /** The row's key, canonical. */
    key: string;
    /** The values of the columns that changed. */
    values: Row;
    /** When it was created; none for before anything was stamped. */
    born?: string;
    /** When it was deleted, for a row that an edit has brought back. */
    died?: string;
    /** The clock of every column that `clocks` does not name; none for `born`. */
    base?: string;
    /** The newest edit, where no clock tells it. It is not told to those who are not sent all columns. */
    edited?: string;
    /** What columns have of their own: a clock, or of a counter or a set what it is made of. */
    clocks?: Record<string,Json>;
    /** By column, where both values of a conflict are kept: those that lost and that nobody has resolved, the oldest first. */
    lost?: Record<string,StampedValue[]>;
  }
  | {
    op: "delete";
    /** The row's key, canonical. */
    key: string;
  }
  | {
    op: "leave";
    /** The row's key, canonical. */
    key: string;
  }
  | { op: "truncate" }
);

/** Changes, to be held back until the next `cursor` (with `id`: until `subscribed`). */
export type Changes = {
  /** The shape, on a live stream. */
  shape?: string;
  /** The subscription, while it catches up. */
  id?: SubscriptionId;
  /** In the order in which they apply. */
  changes: Array<Change>;
  /** The keys of a window's rows as they are ordered now, where the values do not tell it. */
  order?: Array<string>;
};

/** One frame from a client. */
export type ClientFrame =
  | { type: "hello" } & Hello
  | { type: "auth" } & Auth
  | { type: "subscribe" } & Subscribe
  | { type: "unsubscribe" } & Unsubscribe
  | { type: "push" } & Push
  | { type: "ping" } & Ping;

/**
 * A value that is not the one that a field holds, though somebody wrote it without knowing of the other.
 * Those of a mutation come before its `ack`. One without `mutation` tells a client that somebody else's write has
 * replaced a value of its own.
 */
export type Conflict = {
  /** The entity. */
  entity: string;
  /** The row's key, canonical. */
  key: string;
  /** The column. */
  field: string;
  /** What the field holds; none when its row is gone, and where it is too large to be told. */
  kept?: StampedValue;
  /** What it does not hold. */
  lost: StampedValue;
  /** What decided: `last_write_wins`, `server_wins`, `client_wins` or `keep_both`. */
  strategy: string;
  /** The mutation of this client whose value it is. */
  mutation?: number;
  /** The position of the write in that mutation's `writes`, from 0. */
  write?: number;
};

/** Apply everything held back. */
export type Cursor = {
  /** The new resume point of all subscriptions. */
  cursor: string;
};

/** Something that the client sent or asked for is impossible. */
export type Error = {
  /** The kind. */
  code: ErrorCode;
  /** In words. */
  message: string;
  /** The subscription that it is about. */
  id?: SubscriptionId;
  /** Whether a close follows. */
  fatal: boolean;
  /** Milliseconds after which trying again may help, where that is known. */
  retry_after_ms?: number;
};

export const ERROR_CODES = [
  "protocol",
  "unauthenticated",
  "forbidden",
  "unknown_entity",
  "bad_filter",
  "too_many_subscriptions",
  "rate_limited",
  "too_large",
  "unavailable",
  "internal",
] as const;

/** The `code` of an `error` frame. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** The first frame of a session. */
export type Hello = {
  /** The version that the client speaks. */
  protocol: number;
  /** A uuid that the client keeps. */
  client_id: string;
  /** Proof of who the user is, where the server asks for it. */
  token?: string;
  /** What the client can read besides plain text: `"gzip"`. */
  accept?: Array<string>;
};

/** What a server accepts. */
export type Limits = {
  /** The largest frame from a client, in bytes, also after unzipping. */
  frame_bytes_max: number;
  /** Subscriptions of one connection. */
  subscriptions_max: number;
  /** Writes in one mutation. */
  writes_max: number;
};

/** Names a mutation among those of all clients. */
export type MutationId = {
  /** The client. */
  client_id: string;
  /** Its number for the mutation. */
  mutation: number;
};

/** A call of a mutator: a function of the server's that is run within the mutation's transaction. */
export type MutatorCall = {
  /** Its name: a letter from a to z, then letters, digits and underscores. */
  mutator: string;
  /** Its arguments, as the client spelled them; absent means null. */
  args?: Json;
};

export const OPS = [
  "create",
  "update",
  "upsert",
  "delete",
] as const;

/** What a write does. */
export type Op = (typeof OPS)[number];

/** Asks for a `pong`. */
export type Ping = {
  /** Sent back unchanged. */
  at?: Json;
};

/** Answer to `ping`. */
export type Pong = {
  /** The `at` of the `ping`. */
  at?: Json;
};

/** One mutation: an atomic transaction. */
export type Push = {
  /** 1, 2, 3 … for this client. */
  mutation: number;
  /** The chain up to and including this mutation, from clients that keep one. */
  chain?: string;
  /** Applied in order, together or not at all. */
  writes: Array<Step>;
};

/** Drop the rows of this subscription; a snapshot follows by itself. */
export type Refetch = {
  /** The subscription. */
  id: SubscriptionId;
  /** Why. */
  reason: RefetchReason;
};

export const REFETCH_REASONS = [
  "expired",
  "epoch",
  "schema",
  "permission",
] as const;

/** Why a client must drop a subscription's rows and take them again. */
export type RefetchReason = (typeof REFETCH_REASONS)[number];

export const REJECT_CODES = [
  "invalid",
  "unknown_entity",
  "unknown_column",
  "not_found",
  "exists",
  "constraint",
  "forbidden",
  "refused",
  "unknown_mutator",
  "too_large",
  "clock",
  "out_of_order",
  "forked",
  "forgotten",
] as const;

/** The `code` of a `reject`. */
export type RejectCode = (typeof REJECT_CODES)[number];

/** The `reject` frame: no row of the mutation was applied. */
export type Rejected = {
  /** The mutation. */
  mutation: number;
  /** The kind of reason. */
  code: RejectCode;
  /** The reason in words, never the database's own. */
  message: string;
  /** With `refused`: why, in a word of the application's own. */
  reason?: string;
  /** The position of the write, or of the call, in `writes`, from 0. */
  write?: number;
  /** The column at fault. */
  column?: string;
  /** With `out_of_order`: the number that comes next. */
  expected?: number;
};

/** One row of a snapshot. */
export type RowImage = {
  /** The row's key, canonical. */
  key: string;
  /** The row. */
  row: Row;
  /** When it was created; none for before anything was stamped. */
  born?: string;
  /** When it was deleted, for a row that an edit has brought back. */
  died?: string;
  /** The clock of every column that `clocks` does not name; none for `born`. */
  base?: string;
  /** The newest edit, where no clock tells it. It is not told to those who are not sent all columns. */
  edited?: string;
  /** What columns have of their own: a clock, or of a counter or a set what it is made of. */
  clocks?: Record<string,Json>;
  /** By column, where both values of a conflict are kept: those that lost and that nobody has resolved, the oldest first. */
  lost?: Record<string,StampedValue[]>;
};

/** The names and types of a table's columns. */
export type SchemaSummary = {
  /** The primary key's columns. */
  key: Array<string>;
  /** Each column's PostgreSQL type name. */
  columns: { [key in string]: string };
};

/** One frame from a server. */
export type ServerFrame =
  | { type: "welcome" } & Welcome
  | { type: "snapshot" } & Snapshot
  | { type: "subscribed" } & Subscribed
  | { type: "refetch" } & Refetch
  | { type: "changes" } & Changes
  | { type: "cursor" } & Cursor
  | { type: "conflict" } & Conflict
  | { type: "ack" } & Ack
  | { type: "reject" } & Rejected
  | { type: "authenticated" } & Authenticated
  | { type: "error" } & Error
  | { type: "pong" } & Pong;

/** A page of a first read. */
export type Snapshot = {
  /** The subscription. */
  id: SubscriptionId;
  /** The page's rows. */
  rows: Array<RowImage>;
  /** Whether pages follow. */
  more: boolean;
};

/** The clock under which a write counts. */
export type Stamp = {
  /** The position of the write in `writes`, from 0. */
  write: number;
  /** Its clock. */
  hlc: string;
};

/** A value of a field, and when it was written. */
export type StampedValue = {
  /** The value. */
  value: Json;
  /** Its clock. */
  hlc: string;
};

/** One element of a mutation's `writes`. A call has the member `mutator`, a write has `entity`; none has both. */
export type Step = Write | MutatorCall;

/** Asks for an entity's rows and their changes. */
export type Subscribe = {
  /** Chosen by the client. */
  id: SubscriptionId;
  /** Which entity. */
  entity: string;
  /** Resume from here. A text that is not a cursor of this server is answered with `refetch`. */
  cursor?: string;
  /** A filter. */
  where?: string;
  /** The filter's `$1`, `$2`, … */
  params?: Array<Json>;
  /** Only these columns (and the key). */
  columns?: Array<string>;
  /** The columns by which the rows are ordered, where only the first are wanted. The key's columns follow by themselves. */
  order?: Array<[string,'asc' | 'desc']>;
  /** Only the first rows in the order: so many. */
  limit?: number;
  /** The first rows behind this one, which has these values in the order's columns and the key's others. */
  after?: Array<Json>;
  /** Whether with what is known of the rows beside their values: `rows` or `fields`; rows if it is not said. */
  mode?: string;
};

/** Everything up to `cursor` has been sent, and the stream is attached from there. */
export type Subscribed = {
  /** The subscription. */
  id: SubscriptionId;
  /** The name under which its changes come. */
  shape: string;
  /** This subscription's resume point. */
  cursor: string;
  /** The columns. */
  schema: SchemaSummary;
  /**
   * How the rows merge, with `mode: "fields"`: the strategy, what deletions mean, and the columns that are more than
   * a value with a clock.
   */
  rules?: Json;
};

/** A subscription's name: text or a whole number, sent back as it came. */
export type SubscriptionId = number | string;

/** Ends a subscription. */
export type Unsubscribe = {
  /** Which one. */
  id: SubscriptionId;
};

/** Answer to `hello`: what a client must know first. */
export type Welcome = {
  /** The version that the server speaks. */
  protocol: number;
  /** What the server offers, by name. A client does not ask for what is not in here. */
  features: Array<string>;
  /** This connection, for logs. */
  session_id: string;
  /** The epoch that cursors belong to. */
  epoch: string;
  /** The newest mutation of this client that has been answered, 0 for none. */
  last_mutation: number;
  /** The chain up to that mutation; none where the server has none of this client. */
  last_chain?: string;
  /** The server's clock, in milliseconds since 1970. */
  now?: number;
  /** The server sends something at least this often. */
  heartbeat_ms: number;
  /** What the server accepts. */
  limits: Limits;
  /** The user, where there is one. */
  user?: string;
};

/** One write of a mutation. */
export type Write = {
  /** Which entity. */
  entity: string;
  /** What to do. */
  op: Op;
  /** The row; a create may carry it in `values` or leave it to the database. */
  key?: Json;
  /** Columns and their values, each as the client spelled it, so that no digit is lost. */
  values?: Row;
  /** When the user made it: the clock of every field that it writes. Only read where rows merge by their fields. */
  hlc?: string;
  /** With `hlc`: the birth of the row that the user saw; absent for a row that has none. */
  born?: string;
  /** With `hlc`: the newest clock of the row that the user saw. */
  seen?: string;
  /**
   * With `update`: the clocks of lost values, by column, that nobody needs to see any more. It is rejected with
   * `not_found` where one of them is not there or was resolved before.
   */
  resolves?: { [key in string]: Array<string> };
};
