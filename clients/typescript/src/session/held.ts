/** Changes that wait for the frame that makes them visible, folded to the newest for each row. */

import type { Change, RowImage } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { RowMetadata, Put, RowsCommit } from "../replica/commit.js";
import { isKnown } from "../protocol/change.js";

/** A row as it will be. */
interface Held {
  /** Of a patch of a row that is not held: the columns that change. */
  row: Row;
  metadata: RowMetadata | undefined;
  isPatch: boolean;
}

const MEMBERS = ["born", "died", "base", "edited", "clocks", "lost"] as const;

/** What is said of a row beside its values. */
function metadataOf(row: RowMetadata): RowMetadata | undefined {
  const said = MEMBERS.filter((member) => row[member] !== undefined);
  return said.length ? Object.fromEntries(said.map((member) => [member, row[member]])) : undefined;
}

export class HeldChanges {
  /** By key; null when it will be deleted. */
  #rows = new Map<RowKey, Held | null>();
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
    for (const image of rows) this.#put(image.key, image.row, image);
    this.#isSnapshot = true;
  }

  /** Holds changes; false when there is one that this client cannot apply. After them the rows are in this order, if it is said. */
  take(changes: readonly Change[], order?: readonly RowKey[]): boolean {
    for (const change of changes) {
      if (!isKnown(change)) return false;
      if (change.op === "truncate") this.reset();
      else if (change.op === "put") this.#put(change.key, change.row, change);
      else if (change.op === "patch") this.#patch(change.key, change.values, change);
      else this.#rows.set(change.key, null);
    }
    this.#order = order;
    this.#isSnapshot = false;
    return true;
  }

  #put(key: RowKey, row: Row, said: RowMetadata): void {
    this.#rows.set(key, { row, metadata: metadataOf(said), isPatch: false });
  }

  /** A row that is not there has nothing to change. */
  #patch(key: RowKey, values: Row, said: RowMetadata): void {
    const held = this.#rows.get(key);
    if (held === null || (held === undefined && this.#reset)) return;
    this.#rows.set(key, { row: { ...held?.row, ...values }, metadata: metadataOf(said), isPatch: held?.isPatch ?? true });
  }

  /**
   * Returns what was held, of a window with the order of the rows if it was said, and starts again.
   *
   * @param before the rows to which it will be added.
   */
  release(isWindow: boolean, before: ReadonlyMap<RowKey, Row>): RowsCommit {
    const rows: RowsCommit = { reset: this.#reset, puts: [], gone: [] };
    for (const [key, held] of this.#rows) {
      const row = held?.isPatch ? before.get(key) && { ...before.get(key), ...held.row } : held?.row;
      if (row) rows.puts.push(held!.metadata ? ([key, row, held!.metadata] satisfies Put) : [key, row]);
      else if (!held && !this.#reset) rows.gone.push(key);
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
