/** A way to the server and back: WebSocket, or server-sent events with POST. */

import type { SyncError } from "../errors.js";
import type { ClientFrame, ServerFrame } from "../protocol/generated.js";

export interface TransportHandlers {
  /** Frames can be sent. */
  opened(): void;
  frame(frame: ServerFrame): void;
  /** The other side is there, although it had nothing to say. */
  received(): void;
  /** Something came that is no frame, or of a kind that this client does not know. */
  problem(error: SyncError): void;
  /** It is over; a code of the protocol, or 1006 for none. */
  closed(code: number, reason: string): void;
}

/** An open way. After `close` nothing is called any more. */
export interface Link {
  send(frame: ClientFrame): void;
  close(): void;
}

export interface Transport {
  readonly name: string;
  open(handlers: TransportHandlers): Link;
}
