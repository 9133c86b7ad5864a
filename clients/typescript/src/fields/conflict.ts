/** Values that lost a merge, as data: the server's `Conflict` as JSON. */

import type { Json } from "../protocol/json.js";
import type { Clock } from "./clock.js";
import { compareValues } from "./order.js";
import type { FieldMergeStrategy } from "./rules.js";

/** A value, and when it was written. */
export interface Stamped {
  readonly value: Json;
  readonly hlc: Clock;
}

/** Two values of a field, of which one is kept. */
export interface Conflict {
  /** The column. */
  readonly field: string;
  /** What the field holds; none when its row is gone. */
  readonly kept?: Stamped;
  /** What it does not hold. */
  readonly lost: Stamped;
  /** What decided. */
  readonly strategy: FieldMergeStrategy;
}

/** The conflict between two values, unless they are the same. */
export function conflictsBetween(field: string, kept: Stamped | undefined, lost: Stamped, strategy: FieldMergeStrategy): Conflict[] {
  if (kept && compareValues(kept.value, lost.value) === 0) return [];
  return [{ field, ...(kept && { kept }), lost, strategy }];
}
