/** The protocol's words for what went wrong. */

export { CLOSE, ERROR_CODES, REFETCH_REASONS, REJECT_CODES } from "./generated.js";
export type { ErrorCode, RefetchReason, RejectCode } from "./generated.js";
