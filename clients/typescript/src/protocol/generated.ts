/**
 * The frames of the wire and the words in them, generated from the Rust types in
 * crates/rhtmx-sync-core/src/protocol. Do not edit. To make it again, at the top of the repository:
 *
 *     UPDATE_TYPES=1 cargo test -p rhtmx-sync-core --lib typescript
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

/** One change of one row, or of all. */
export type Change = Partial<Origin> & (
  | {
    op: "put";
    /** The row's key, canonical. */
    key: string;
    /** The whole row. */
    row: Row;
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

/** One frame from a client. */
export type ClientFrame =
  | { type: "hello" } & Hello
  | {
    type: "auth";
    /** The token. */
    token: string;
  }
  | { type: "subscribe" } & Subscribe
  | {
    type: "unsubscribe";
    /** Which one. */
    id: SubscriptionId;
  }
  | { type: "push" } & Push
  | {
    type: "ping";
    /** Sent back as it came. */
    at?: Json;
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
  /** A uuid that the device keeps. */
  client_id: string;
  /** Who the user is, where the server asks. */
  token?: string;
  /** What the client can read besides plain text: `"gzip"`. */
  accept?: Array<string>;
};

/** What the server takes. */
export type Limits = {
  /** The largest frame from a client, in bytes, also after unzipping. */
  frame_bytes_max: number;
  /** Subscriptions of one connection. */
  subscriptions_max: number;
  /** Writes in one mutation. */
  writes_max: number;
};

export const OPS = [
  "create",
  "update",
  "upsert",
  "delete",
] as const;

/** What a write does. */
export type Op = (typeof OPS)[number];

/** Which client's mutation made a change. */
export type Origin = {
  /** The device. */
  client_id: string;
  /** Its mutation. */
  mutation: number;
};

/** One atomic transaction. */
export type Push = {
  /** 1, 2, 3 … for this client. */
  mutation: number;
  /** Applied in order, together or not at all. */
  writes: Array<Write>;
};

export const REFETCH_REASONS = [
  "expired",
  "epoch",
  "schema",
  "permission",
] as const;

/** Why a client must drop a subscription's rows and take them anew. */
export type RefetchReason = (typeof REFETCH_REASONS)[number];

export const REJECT_CODES = [
  "invalid",
  "unknown_entity",
  "unknown_column",
  "not_found",
  "exists",
  "constraint",
  "forbidden",
  "too_large",
  "clock",
  "out_of_order",
] as const;

/** The `code` of a `reject`. */
export type RejectCode = (typeof REJECT_CODES)[number];

/** One row of a snapshot. */
export type RowImage = {
  /** The row's key, canonical. */
  key: string;
  /** The whole row. */
  row: Row;
};

/** The `schema` of a `subscribed` frame. */
export type SchemaSummary = {
  /** The primary key's columns. */
  key: Array<string>;
  /** Each column's PostgreSQL type name. */
  columns: { [key in string]: string };
};

/**
 * One frame to a client. `rows` and `changes` are JSON arrays written once and shared by all who
 * get them.
 */
export type ServerFrame =
  | { type: "welcome" } & Welcome
  | {
    type: "snapshot";
    /** The subscription. */
    id: SubscriptionId;
    /** An array of `RowImage`. */
    rows: Array<RowImage>;
    /** Whether pages follow. */
    more: boolean;
  }
  | {
    type: "subscribed";
    /** The subscription. */
    id: SubscriptionId;
    /** The name under which its changes come. */
    shape: string;
    /** This subscription's resume point. */
    cursor: string;
    /** The columns. */
    schema: SchemaSummary;
  }
  | {
    type: "refetch";
    /** The subscription. */
    id: SubscriptionId;
    /** Why. */
    reason: RefetchReason;
  }
  | {
    type: "changes";
    /** The shape, on a live stream. */
    shape?: string;
    /** The subscription, on a resume. */
    id?: SubscriptionId;
    /** An array of `Change`. */
    changes: Array<Change>;
  }
  | {
    type: "cursor";
    /** The new resume point of all subscriptions. */
    cursor: string;
  }
  | {
    type: "ack";
    /** The mutation. */
    mutation: number;
  }
  | {
    type: "reject";
    /** The mutation. */
    mutation: number;
    /** The kind of reason. */
    code: RejectCode;
    /** The reason in words, never the database's own. */
    message: string;
    /** The position of the write in `writes`, from 0. */
    write?: number;
    /** The column at fault. */
    column?: string;
    /** With `out_of_order`: the number that comes next. */
    expected?: number;
  }
  | {
    type: "authenticated";
    /** The user; none until there is authentication. */
    user: string | null;
  }
  | {
    type: "error";
    /** The kind. */
    code: ErrorCode;
    /** In words. */
    message: string;
    /** The subscription that it is about. */
    id?: SubscriptionId;
    /** Whether a close follows. */
    fatal: boolean;
  }
  | {
    type: "pong";
    /** As it came. */
    at?: Json;
  };

/** Asks for an entity's rows and their changes. */
export type Subscribe = {
  /** Chosen by the client. */
  id: SubscriptionId;
  /** Which entity. */
  entity: string;
  /** A filter. */
  where?: string;
  /** The filter's `$1`, `$2`, … */
  params?: Array<Json>;
  /** Only these columns (and the key). */
  columns?: Array<string>;
  /** `rows` or `fields`. */
  mode?: string;
  /** Resume from here. Not yet read: a text that is no cursor is answered, not refused. */
  cursor?: string;
};

/** A subscription's name: text or a whole number, sent back as it came. */
export type SubscriptionId = number | string;

/** What a client learns first. */
export type Welcome = {
  /** The version that the server speaks. */
  protocol: number;
  /** This connection, for logs. */
  session_id: string;
  /** The history that cursors belong to. */
  epoch: string;
  /** The newest mutation of this client that has been answered, 0 for none. */
  last_mutation: number;
  /** How often the server says something at least. */
  heartbeat_ms: number;
  /** What the server takes. */
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
  /** When the user made it. */
  hlc?: string;
};
