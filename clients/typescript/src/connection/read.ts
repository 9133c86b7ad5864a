/** Reads frames from the wire. Code behind this file only meets valid ones. */

import { FrameError } from "../errors.js";
import type { ServerFrame } from "../protocol/generated.js";

type Fields = { [name: string]: unknown };
type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const number: Check = (value) => typeof value === "number";
const flag: Check = (value) => typeof value === "boolean";
const object: Check = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const id: Check = (value) => text(value) || number(value);
const list = (of: Check): Check => (value) => Array.isArray(value) && value.every(of);
const maybe = (check: Check): Check => (value) => value === undefined || check(value);
const fields = (checks: Record<string, Check>): Check => (value) =>
  object(value) && Object.entries(checks).every(([name, check]) => check((value as Fields)[name]));

const stamped = fields({ hlc: text });

/** The fields that this client relies on. Unknown fields and types are ignored. */
const FRAMES: { [T in ServerFrame["type"]]: Check } = {
  welcome: fields({
    protocol: number, last_mutation: number, heartbeat_ms: number, epoch: text, user: maybe(text), features: list(text),
    last_chain: maybe(text), now: maybe(number), limits: fields({ frame_bytes_max: number, subscriptions_max: number, writes_max: number }),
  }),
  snapshot: fields({ id, rows: list(fields({ key: text, row: object })), more: flag }),
  subscribed: fields({ id, shape: text, cursor: text, schema: fields({ key: list(text), columns: object }) }),
  refetch: fields({ id, reason: text }),
  changes: fields({ shape: maybe(text), id: maybe(id), changes: list(fields({ op: text, key: maybe(text) })) }),
  cursor: fields({ cursor: text }),
  ack: fields({ mutation: number, stamps: maybe(list(fields({ write: number, hlc: text }))) }),
  conflict: fields({ entity: text, key: text, field: text, kept: maybe(stamped), lost: stamped, strategy: text }),
  reject: fields({ mutation: number, code: text, message: text }),
  authenticated: object,
  error: fields({ code: text, message: text, id: maybe(id), fatal: flag }),
  pong: object,
};

/**
 * Reads one frame; undefined for a type of a newer server.
 *
 * @throws {FrameError} when the text is no frame of this protocol. The connection is then unreliable:
 *   something may have been missed.
 */
export function readFrame(data: string): ServerFrame | undefined {
  let frame: unknown;
  try {
    frame = JSON.parse(data);
  } catch {
    throw new FrameError("not JSON");
  }
  if (!object(frame) || !text((frame as Fields)["type"])) throw new FrameError("not a frame");
  const type = (frame as Fields)["type"] as string;
  if (!Object.hasOwn(FRAMES, type)) return undefined;
  if (!FRAMES[type as ServerFrame["type"]](frame)) throw new FrameError(`not a ${type} frame`);
  return frame as ServerFrame;
}
