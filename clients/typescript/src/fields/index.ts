/**
 * Fields: two edit the same row, and both edits live, whatever arrives first. The same merge as the server's, from its
 * `crates/merge`; it has no effects, and no time but what is passed.
 */

export { readClock, clockAfter, millisOf, nodeOf, nodeOfClient, type Clock } from "./clock.js";
export type { Conflict, Stamped } from "./conflict.js";
export { FieldsError, type FieldsErrorCode } from "./error.js";
export { AHEAD_MS_MAX, HybridClock } from "./hybrid.js";
export { metadataOf, readRow, type Metadata } from "./metadata.js";
export { Row } from "./row.js";
export type { ColumnMerge, ColumnRule, Comparison, FieldMergeStrategy, Rules } from "./rules.js";
export { compareTexts as compareClocks } from "./texts.js";
export { applyWrite, partOf, type AppliedWrite, type Edit, type Write } from "./write.js";
