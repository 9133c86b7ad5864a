/** What the user's writes make of rows until the server has them: what the server will make of them, as far as it can be known. */

import { clockAfter, GROUND, type Clock } from "../fields/clock.js";
import { FieldsError } from "../fields/error.js";
import type { Row as MergingRow } from "../fields/row.js";
import type { Rules } from "../fields/rules.js";
import { compareTexts } from "../fields/texts.js";
import { applyWrite as merge, type Edit } from "../fields/write.js";
import type { Write } from "../protocol/generated.js";
import type { Row } from "../protocol/json.js";
import type { RowMetadata } from "../replica/commit.js";
import { applyWrite } from "../replica/overlay.js";
import type { Replica } from "../replica/replica.js";
import { mergingRow, newestOf, rulesOf } from "./rows.js";
import type { Stamps } from "./stamps.js";

/** A row that is shown, with what it is to merge with, and what writes have made of it. */
interface Merged {
  readonly row: MergingRow;
  readonly metadata: RowMetadata | undefined;
  readonly rules: Rules;
  readonly after: WeakMap<Write, { readonly clock: Clock | undefined; readonly shown: Row | null | undefined }>;
}

export class PendingWrites {
  readonly #replica: Replica;
  readonly #stamps: Stamps;
  /** By the rows that are shown. Those of the server and writes are the same objects while nothing changes. */
  readonly #merged = new WeakMap<Row, Merged>();

  constructor(replica: Replica, stamps: Stamps) {
    this.#replica = replica;
    this.#stamps = stamps;
  }

  /** The row after a write; null when it is not there any more, undefined when the write changes nothing here. */
  apply(write: Write, before: Row | undefined): Row | null | undefined {
    const rules = rulesOf(this.#replica, write.entity);
    if (!rules) return applyWrite(write, before);
    try {
      return before ? this.#again(write, before, rules) : this.attempt(write, before, rules);
    } catch (error) {
      // The server will reject it.
      if (error instanceof FieldsError) return before;
      throw error;
    }
  }

  /** The same as `attempt`, which is not made twice of the same. */
  #again(write: Write, before: Row, rules: Rules): Row | null | undefined {
    const { row, after } = this.#mergedOf(before, rules);
    // What is not stamped for good comes after all that is there, at any time.
    const clock = this.#stamps.isFinal(write.hlc) ? this.#stamps.effective(write.hlc, newestOf(row)) : undefined;
    const known = after.get(write);
    if (known && known.clock === clock) return known.shown;
    const shown = this.attempt(write, before, rules);
    after.set(write, { clock, shown });
    return shown;
  }

  #mergedOf(shown: Row, rules: Rules): Merged {
    const metadata = this.#replica.metadata.get(shown);
    const known = this.#merged.get(shown);
    if (known && known.metadata === metadata && known.rules === rules) return known;
    return this.#keep(shown, mergingRow(shown, metadata, rules), metadata, rules);
  }

  #keep(shown: Row, row: MergingRow, metadata: RowMetadata | undefined, rules: Rules): Merged {
    const merged = { row, metadata, rules, after: new WeakMap() };
    this.#merged.set(shown, merged);
    return merged;
  }

  /** @throws {FieldsError} when the write is refused. */
  attempt(write: Write, before: Row | undefined, rules: Rules): Row | null | undefined {
    const known = before && this.#mergedOf(before, rules).row;
    const edit = editOf(write, known !== undefined);
    if (!edit) return undefined;
    const newest = known && newestOf(known);
    const isStamped = write.hlc !== undefined;
    const born = (isStamped ? (write.born as Clock | undefined) : known?.born) ?? GROUND;
    // This list has not caught up with what its author saw.
    if (known && typeof edit === "object" && "update" in edit && compareTexts(born, known.born) > 0) return before;
    const stamps = this.#stamps;
    const clock = isStamped ? stamps.effective(write.hlc as Clock, newest) : clockAfter(newest, stamps.now, stamps.node);
    const seen = isStamped ? (write.seen as Clock | undefined) : newest;
    const { row } = merge({ clock, born, ...(seen && { seen }), edit }, known, rules);
    const shown = row.shown(rules);
    if (!shown) return null;
    this.#keep(shown, row, undefined, rules);
    return shown;
  }
}

function editOf({ op, values = {} }: Write, isKnown: boolean): Edit | undefined {
  if (op === "delete") return "delete";
  if (op === "create" || (op === "upsert" && !isKnown)) return { create: values };
  return isKnown ? { update: values } : undefined;
}
