/** The protocol's words for what went wrong. */

export const ERROR_CODES = [
  "protocol", "unauthenticated", "forbidden", "unknown_entity", "bad_filter",
  "too_many_subscriptions", "rate_limited", "too_large", "unavailable", "internal",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

export const REFETCH_REASONS = ["expired", "epoch", "schema", "permission"] as const;
export type RefetchReason = (typeof REFETCH_REASONS)[number];

export const REJECT_CODES = [
  "invalid", "unknown_entity", "unknown_column", "not_found", "exists",
  "constraint", "forbidden", "too_large", "clock", "out_of_order",
] as const;
export type RejectCode = (typeof REJECT_CODES)[number];

/** Why a connection was closed. */
export const CLOSE = {
  shutting_down: 1001,
  protocol: 4400,
  unauthenticated: 4401,
  forbidden: 4403,
  timeout: 4408,
  too_large: 4413,
  rate_limited: 4429,
} as const;
