/** What the client sends. */

import type { ClientFrame } from "./generated.js";

export { PROTOCOL_VERSION, SUBPROTOCOL } from "./generated.js";
export type { ClientFrame, Op, Write } from "./generated.js";

export type Subscribe = Extract<ClientFrame, { type: "subscribe" }>;
/** One atomic transaction. */
export type Push = Extract<ClientFrame, { type: "push" }>;
