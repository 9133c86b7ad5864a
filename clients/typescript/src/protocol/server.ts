/** What the server sends. */

import type { ServerFrame } from "./generated.js";

export type { Change, Limits, RowImage, SchemaSummary as Schema, ServerFrame } from "./generated.js";

export type Welcome = Extract<ServerFrame, { type: "welcome" }>;
export type RejectFrame = Extract<ServerFrame, { type: "reject" }>;
export type ErrorFrame = Extract<ServerFrame, { type: "error" }>;
