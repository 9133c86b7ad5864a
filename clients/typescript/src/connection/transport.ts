/** Carries frames in both directions: WebSocket, or server-sent events with POST. */

import type { SyncError } from "../errors.js";
import type { ClientFrame, ServerFrame } from "../protocol/generated.js";

export interface TransportHandlers {
  /** Frames can be sent. */
  opened(): void;
  frame(frame: ServerFrame): void;
  /** Something was received, be it only a heartbeat. */
  received(): void;
  /** What was received is no frame. */
  problem(error: SyncError): void;
  /** The transport is closed, with a code of the protocol or 1006. */
  closed(code: number, reason: string): void;
}

/** An open transport. After `close` it calls no handler. */
export interface Link {
  send(frame: ClientFrame): void;
  close(): void;
}

export interface Transport {
  readonly name: string;
  open(handlers: TransportHandlers): Link;
}
