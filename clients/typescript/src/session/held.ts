/** Changes that wait for the frame that makes them visible, folded to the newest for each row. */

import type { Change, RowImage } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { RowsCommit } from "../replica/commit.js";
import { isKnown } from "../protocol/change.js";

export class HeldChanges {
  /** Each row as it will be; null when it will be deleted. */
  #rows = new Map<RowKey, Row | null>();
  /** A snapshot or a truncate came, so the rows before are dropped. */
  #reset = false;
  #order: readonly RowKey[] | undefined;
  /** Nothing came after a snapshot, whose rows are in order. */
  #isSnapshot = false;

  get isEmpty(): boolean {
    return this.#rows.size === 0 && !this.#reset;
  }

  /** Drops the rows before. */
  reset(): void {
    this.#rows.clear();
    this.#order = undefined;
    this.#isSnapshot = false;
    this.#reset = true;
  }

  snapshot(rows: readonly RowImage[]): void {
    this.#reset = true;
    for (const { key, row } of rows) this.#rows.set(key, row);
    this.#isSnapshot = true;
  }

  /** Holds changes; false when there is one that this client cannot apply. After them the rows are in this order, if it is said. */
  take(changes: readonly Change[], order?: readonly RowKey[]): boolean {
    for (const change of changes) {
      if (!isKnown(change)) return false;
      if (change.op === "truncate") this.reset();
      else this.#rows.set(change.key, change.op === "put" ? change.row : null);
    }
    this.#order = order;
    this.#isSnapshot = false;
    return true;
  }

  /** Returns what was held, of a window with the order of the rows if it was said, and starts again. */
  release(isWindow: boolean): RowsCommit {
    const rows: RowsCommit = { reset: this.#reset, puts: [], gone: [] };
    for (const [key, row] of this.#rows) {
      if (row) rows.puts.push([key, row]);
      else if (!this.#reset) rows.gone.push(key);
    }
    const order = this.#isSnapshot ? [...this.#rows.keys()] : this.#order;
    if (isWindow && order) rows.order = order;
    this.#rows = new Map();
    this.#order = undefined;
    this.#isSnapshot = false;
    this.#reset = false;
    return rows;
  }
}
