/** What the client sends. */

import type { Json, Row, SubscriptionId } from "./value.js";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOL = "rhtmx-sync.v1";

/** One frame to the server. */
export type ClientFrame =
  | { type: "hello"; protocol: typeof PROTOCOL_VERSION; client_id: string; token?: string; accept?: "gzip"[] }
  | { type: "auth"; token: string }
  | Subscribe
  | { type: "unsubscribe"; id: SubscriptionId }
  | Push
  | { type: "ping"; at?: Json };

export interface Subscribe {
  type: "subscribe";
  id: SubscriptionId;
  entity: string;
  where?: string;
  params?: Json[];
  columns?: string[];
  mode?: "rows";
  cursor?: string;
}

/** One atomic transaction. */
export interface Push {
  type: "push";
  /** 1, 2, 3 … for this `client_id`. */
  mutation: number;
  writes: Write[];
}

export type Op = "create" | "update" | "upsert" | "delete";

export interface Write {
  entity: string;
  op: Op;
  key?: Json;
  values?: Row;
  /** When the user made it; for field entities. */
  hlc?: string;
}
