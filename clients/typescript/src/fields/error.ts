/** Why something is no clock, no row or no write that merges. */

/**
 * What was refused. Nothing has changed then.
 *
 * - `clock`, `node`: the text is no clock, or no id of a node
 * - `ahead`: a clock is more than a minute ahead of the time
 * - `exhausted`: there is no later clock before the year 10000
 * - `counter`, `set`: a value is none for that column, or there are too many
 * - `mark`: the metadata of a column does not fit it, or comes without a value
 * - `too_many_fields`
 */
export type FieldsErrorCode = "clock" | "node" | "ahead" | "exhausted" | "counter" | "set" | "mark" | "too_many_fields";

export class FieldsError extends Error {
  override readonly name = "FieldsError";
  constructor(
    readonly code: FieldsErrorCode,
    message: string,
  ) {
    super(message);
  }
}

export function refuse(code: FieldsErrorCode, message: string): never {
  throw new FieldsError(code, message);
}
