/** What can go wrong, and what the user or the application can do about it. */

import type { ErrorCode, RejectCode } from "./protocol/generated.js";
import type { Json } from "./protocol/json.js";

/** What helps: waiting, reloading the page, signing in, correcting the request, freeing space, reporting it. */
export type Remedy = "wait" | "reload" | "signIn" | "correct" | "freeSpace" | "report";

/** Any error of this package. `code` is for programs, `remedy` says what helps. */
export class SyncError extends Error {
  override readonly name = "SyncError";
  constructor(
    readonly code: ErrorCode | RejectCode | "frame" | "storage" | "closed",
    message: string,
    readonly remedy: Remedy = "correct",
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A message from the server that is not a frame. */
export class FrameError extends SyncError {
  constructor(message: string) {
    super("frame", message, "wait");
  }
}

/** A failure of the local store. */
export class StorageError extends SyncError {
  constructor(message: string, remedy: Remedy = "freeSpace", cause?: unknown) {
    super("storage", message, remedy, { cause });
  }
}

/** A write that is invalid. It is thrown at once, and nothing of the write is kept. */
export class InvalidWriteError extends SyncError {
  constructor(
    message: string,
    readonly entity: string,
    readonly issues: readonly Issue[] = [],
  ) {
    super("invalid", message);
  }
}

/** An objection of a validator. */
export interface Issue {
  readonly message: string;
  readonly path?: readonly string[];
}

const REMEDIES: Record<ErrorCode, Remedy> = {
  protocol: "reload",
  unauthenticated: "signIn",
  forbidden: "signIn",
  unknown_entity: "correct",
  bad_filter: "correct",
  too_many_subscriptions: "correct",
  rate_limited: "wait",
  too_large: "correct",
  unavailable: "wait",
  internal: "report",
};

/** The error for the code of an `error` frame or of a close. */
export function serverError(code: ErrorCode, message: string): SyncError {
  return new SyncError(code, message || code, REMEDIES[code] ?? "report");
}

/** An error as JSON, for other tabs. */
export function errorToJson(error: SyncError): { [name: string]: Json } {
  return { code: error.code, message: error.message, remedy: error.remedy };
}

export function errorFromJson(json: { [name: string]: Json }): SyncError {
  return new SyncError(json["code"] as SyncError["code"], json["message"] as string, json["remedy"] as Remedy);
}
