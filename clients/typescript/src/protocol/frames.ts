/** Single frames of the two unions, for code that handles one type. */

import type { ClientFrame, ServerFrame } from "./generated.js";

export type SubscribeFrame = Extract<ClientFrame, { type: "subscribe" }>;
export type ChangesFrame = Extract<ServerFrame, { type: "changes" }>;
export type PushFrame = Extract<ClientFrame, { type: "push" }>;
export type WelcomeFrame = Extract<ServerFrame, { type: "welcome" }>;
export type AckFrame = Extract<ServerFrame, { type: "ack" }>;
export type RejectFrame = Extract<ServerFrame, { type: "reject" }>;
/** An error; a transport that knows which push it answers adds the number. */
export type ErrorFrame = Extract<ServerFrame, { type: "error" }> & { mutation?: number };

/** The `last_mutation` of a transport that does not report it. */
export const LAST_MUTATION_UNKNOWN = -1;
