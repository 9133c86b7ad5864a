/** A row with its metadata: the value that merges. */

import type { Row as Values } from "../protocol/json.js";
import { cellValue, joinCells, newestInCell, ownClock, type Cell } from "./cell.js";
import type { Clock } from "./clock.js";
import { mergeOf, type Rules } from "./rules.js";
import { compareTexts, later, latest } from "./texts.js";

export interface Parts {
  readonly born?: Clock | undefined;
  readonly died?: Clock | undefined;
  readonly base?: Clock | undefined;
  readonly edited?: Clock | undefined;
  readonly cells?: ReadonlyMap<string, Cell>;
}

/**
 * A row as a replica knows it, or a part of one: a write is a row too, of which only what was written is known. It never
 * changes. What belongs to a birth (the base, the edits, the cells) counts while no later birth is known; the birth itself
 * and the death are maxima, and so is every part, so the order in which rows are joined does not matter.
 */
export class Row {
  static readonly none = new Row({});

  /** The newest creation; undefined where only a deletion is known. */
  readonly born: Clock | undefined;
  /** The newest deletion, unless the row was created again since. */
  readonly died: Clock | undefined;
  /** The clock of every register that has none of its own; undefined while the creation itself has not arrived. */
  readonly base: Clock | undefined;
  /** The newest edit, kept where it can bring the row back. */
  readonly edited: Clock | undefined;
  readonly cells: ReadonlyMap<string, Cell>;

  private constructor({ born, died, base, edited, cells = new Map() }: Parts) {
    this.born = born;
    this.died = died;
    this.base = base;
    this.edited = edited;
    this.cells = cells;
  }

  /** The row in its one form: without what cannot matter any more, whatever is still to come. */
  static of(parts: Parts, rules: Rules): Row {
    const { born, base, cells = new Map<string, Cell>() } = parts;
    const died = compareTexts(parts.died, born) < 0 ? undefined : parts.died;
    if (rules.deletes === "win" && born && died) return new Row({ born, died });
    const newest = rules.deletes === "revive" ? later(newestOwn(cells), parts.edited) : undefined;
    const edited = compareTexts(newest, later(born, died)) > 0 ? newest : undefined;
    return new Row({ born, died, base, edited, cells: withoutOldClocks(cells, base) });
  }

  /** The same row with other cells. */
  withCells(cells: ReadonlyMap<string, Cell>): Row {
    return new Row({ ...this, cells });
  }

  /** The clock of a register, or of the row's other registers if it has none of its own. */
  clock(column: string): Clock | undefined {
    return ownClock(this.cells.get(column)) ?? this.base;
  }

  /** The newest clock that somebody wrote. The base may be above it, where the server has folded clocks. */
  get newest(): Clock | undefined {
    return latest([this.born, this.died, this.edited, ...[...this.cells.values()].map(newestInCell)]);
  }

  /** Whether the row is there. */
  isAlive({ deletes }: Rules): boolean {
    if (!this.born) return false;
    return compareTexts(this.born, this.died) > 0 || (deletes === "revive" && compareTexts(this.edited, this.died) > 0);
  }

  /** Whether the row's creation has arrived. One whose edits came first waits, and is not shown. */
  get isWhole(): boolean {
    return this.base !== undefined;
  }

  /** The row's values, if it is there and whole. A column that is not among them is as the table has it. */
  shown(rules: Rules): Values | undefined {
    return this.isAlive(rules) && this.isWhole ? this.values : undefined;
  }

  /** All values that are known, also those of a row that died. */
  get values(): Values {
    return Object.fromEntries([...this.cells].map(([column, cell]) => [column, cellValue(cell)]));
  }

  /** The row of both: another replica's, or a part. Commutative, associative and idempotent. */
  joined(other: Row, rules: Rules): Row {
    const died = later(this.died, other.died);
    const order = compareTexts(this.born, other.born);
    if (order !== 0) return Row.of({ ...(order < 0 ? other : this), died }, rules);
    return Row.of({ ...this.#joinedBirth(other, rules), died }, rules);
  }

  /** What is known of the same birth. */
  #joinedBirth(other: Row, rules: Rules): Parts {
    const cells = new Map<string, Cell>();
    for (const column of new Set([...this.cells.keys(), ...other.cells.keys()])) {
      const ours = { cell: this.cells.get(column), base: this.base };
      const theirs = { cell: other.cells.get(column), base: other.base };
      const cell = joinCells(ours, theirs, mergeOf(rules, column));
      if (cell) cells.set(column, cell);
    }
    const base = later(this.base, other.base);
    // What was the base of one is no edit, which `of` would take it for.
    return { born: this.born, base, edited: later(this.edited, other.edited), cells: withoutOldClocks(cells, base) };
  }
}

/** The newest clock that a register has of its own. */
export function newestOwn(cells: ReadonlyMap<string, Cell>): Clock | undefined {
  return latest([...cells.values()].map(ownClock));
}

/** The cells without the clocks that the base stands for. */
function withoutOldClocks(cells: ReadonlyMap<string, Cell>, base: Clock | undefined): ReadonlyMap<string, Cell> {
  const kept = new Map<string, Cell>();
  for (const [column, cell] of cells) {
    const isOld = cell.kind === "register" && cell.clock && compareTexts(cell.clock, base) <= 0;
    kept.set(column, isOld ? { ...cell, clock: undefined } : cell);
  }
  return kept;
}
