/** What the user's writes make of rows until the server has them: what the server will make of them, as far as it can be known. */

import { clockAfter, GROUND, type Clock } from "../fields/clock.js";
import { FieldsError } from "../fields/error.js";
import type { Row as MergingRow } from "../fields/row.js";
import type { Rules } from "../fields/rules.js";
import { compareTexts } from "../fields/texts.js";
import { applyWrite as merge, type Edit } from "../fields/write.js";
import type { Write } from "../protocol/generated.js";
import type { Row } from "../protocol/json.js";
import { applyWrite } from "../replica/overlay.js";
import type { Replica } from "../replica/replica.js";
import { mergingRow, newestOf, rulesOf } from "./rows.js";
import type { Stamps } from "./stamps.js";

export class PendingWrites {
  readonly #replica: Replica;
  readonly #stamps: Stamps;
  /** Rows with writes on top, as what they are shown as. */
  readonly #merged = new WeakMap<Row, MergingRow>();

  constructor(replica: Replica, stamps: Stamps) {
    this.#replica = replica;
    this.#stamps = stamps;
  }

  /** The row after a write; null when it is not there any more, undefined when the write changes nothing here. */
  apply(write: Write, before: Row | undefined): Row | null | undefined {
    const rules = rulesOf(this.#replica, write.entity);
    if (!rules) return applyWrite(write, before);
    try {
      return this.attempt(write, before, rules);
    } catch (error) {
      // The server will reject it.
      if (error instanceof FieldsError) return before;
      throw error;
    }
  }

  /** @throws {FieldsError} when the write is refused. */
  attempt(write: Write, before: Row | undefined, rules: Rules): Row | null | undefined {
    const known = before && (this.#merged.get(before) ?? mergingRow(before, this.#replica.metadata.get(before), rules));
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
    this.#merged.set(shown, row);
    return shown;
  }
}

function editOf({ op, values = {} }: Write, isKnown: boolean): Edit | undefined {
  if (op === "delete") return "delete";
  if (op === "create" || (op === "upsert" && !isKnown)) return { create: values };
  return isKnown ? { update: values } : undefined;
}
