/** Writes: what somebody did to a row, and what becomes of it where the row is. */

import type { Json, Row as Values } from "../protocol/json.js";
import { readAmount } from "./amount.js";
import { cellValue, type Cell } from "./cell.js";
import { clockAfter, GROUND, millisOf, nodeOf, type Clock } from "./clock.js";
import { conflictsBetween, type Conflict, type Stamped } from "./conflict.js";
import { counterOf, NO_COUNTER, settle } from "./counter.js";
import { checkCount, fitting, readRow } from "./metadata.js";
import { compareValues } from "./order.js";
import { Row } from "./row.js";
import { mergeOf, strategyOf, type Rules } from "./rules.js";
import { assignSet, editSet, NO_SET } from "./set.js";
import { compareTexts, later, sortedEntries } from "./texts.js";

/**
 * What is written: the row with its values, some columns' values (of counters also `{"add": 3}`, of sets
 * `{"add": […], "remove": […]}`), or that the row is gone.
 */
export type Edit = { readonly create: Values } | { readonly update: Values } | "delete";

/** A write, as its author stamped it: the server's `Write` as JSON. */
export interface Write {
  /** When it was made. */
  readonly clock: Clock;
  /** The birth of the row that the author saw; none for a row that has no metadata. */
  readonly born?: Clock;
  /** The newest clock of the row that the author had seen, which decides what is told as a conflict. */
  readonly seen?: Clock;
  readonly edit: Edit;
}

/** The row as it is now, and what to tell of values that lost. */
export interface AppliedWrite {
  readonly row: Row;
  readonly conflicts: readonly Conflict[];
}

/**
 * Applies a write to the row as it is known, if it is, as a server does that is alone: increments go into the number itself.
 *
 * @throws {FieldsError} when it is refused; nothing has changed then.
 */
export function applyWrite(write: Write, known: Row | undefined, rules: Rules): AppliedWrite {
  const before = known ?? Row.none;
  const [part, conflicts] = byStrategy(write, partOf(write, known, rules), before, rules);
  let row = before.joined(part, rules);
  if (row.isAlive(rules) && row.born === part.born) row = settled(write, row, rules);
  return { row, conflicts: [...conflicts, ...lostValues(write, part, before, row, rules)] };
}

/**
 * The write as a row of which only what was written is known. For edits of a set it needs the row, for it says what they
 * make of it.
 *
 * @throws {FieldsError} when a value fits no counter or set, or there are too many.
 */
export function partOf({ clock, born = GROUND, edit }: Write, known: Row | undefined, rules: Rules): Row {
  if (edit === "delete") return Row.of({ died: clock }, rules);
  if ("create" in edit) return Row.of({ born: clock, base: clock, cells: readRow({}, edit.create, rules).cells }, rules);
  checkCount(edit.update);
  const before = known?.born === born ? known.cells : undefined;
  const cells = new Map<string, Cell>();
  for (const [column, value] of sortedEntries(edit.update)) cells.set(column, cellOf(column, value, before?.get(column), clock, rules));
  return Row.of({ born, edited: clock, cells }, rules);
}

function cellOf(column: string, value: Json, before: Cell | undefined, clock: Clock, rules: Rules): Cell {
  const merge = mergeOf(rules, column);
  if (typeof merge === "object") return { kind: "extreme", value };
  if (merge === "counter") {
    const add = members(value, "add");
    if (!add) return fitting(counterOf(value, clock), merge, column);
    fitting(readAmount(add[0]), merge, column);
    // It is added when the row is joined.
    return before?.kind === "counter" ? before : NO_COUNTER;
  }
  if (merge !== "set") return { kind: "register", clock, value };
  const set = before?.kind === "set" ? before : NO_SET;
  const edited = members(value, "add", "remove");
  return fitting(edited ? editSet(set, edited[0]!, edited[1]!, clock) : assignSet(set, value, clock), merge, column);
}

/** Increments: the number of the only database is the whole truth, so there is nothing to merge. */
function settled({ edit }: Write, row: Row, rules: Rules): Row {
  if (edit === "delete" || !("update" in edit)) return row;
  const cells = new Map(row.cells);
  for (const [column, value] of Object.entries(edit.update)) {
    const add = mergeOf(rules, column) === "counter" && members(value, "add");
    const counter = cells.get(column) ?? NO_COUNTER;
    if (add && counter.kind === "counter") cells.set(column, fitting(settle(counter, add[0]!), "counter", column));
  }
  return row.withCells(cells);
}

/**
 * What the strategies make of the part: the server's value stays, or the client's is stamped above it. From then on the later
 * clock wins everywhere, so that replicas agree that never heard of the strategy.
 */
function byStrategy(write: Write, part: Row, before: Row, rules: Rules): [Row, Conflict[]] {
  const conflicts: Conflict[] = [];
  if (part.born !== before.born || part.isWhole) return [part, conflicts];
  const cells = new Map(part.cells);
  const [hlc, author] = [write.clock, nodeOf(write.clock)];
  for (const [column, cell] of part.cells) {
    const [current, strategy] = [before.clock(column), strategyOf(rules, column)];
    if (cell.kind !== "register" || !current) continue;
    if (strategy === "server_wins" && hasNotSeen(write, current, part, before)) {
      conflicts.push(...conflictsBetween(column, kept(before, column), { value: cell.value, hlc }, strategy));
      cells.delete(column);
    }
    // What the author wrote itself is as its own clocks say.
    if (strategy === "client_wins" && compareTexts(current, hlc) >= 0 && nodeOf(current) !== author) {
      cells.set(column, { ...cell, clock: clockAfter(current, millisOf(hlc), author) });
    }
  }
  return [Row.of({ ...part, cells }, rules), conflicts];
}

/**
 * Whether the author wrote without knowing of a clock in the row. What the row was born with is known to who knows of the
 * birth, and so is what the author wrote.
 */
function hasNotSeen({ clock, seen }: Write, current: Clock, part: Row, before: Row): boolean {
  const birth = part.born === before.born ? before.born : undefined;
  return compareTexts(current, later(seen, birth)) > 0 && nodeOf(current) !== nodeOf(clock);
}

/**
 * The registers whose values lost: those of the write that are not what the row holds now, and those of the row that the
 * author had not seen.
 */
function lostValues(write: Write, part: Row, before: Row, after: Row, rules: Rules): Conflict[] {
  const isAlive = after.isAlive(rules);
  return [...part.cells].flatMap(([column, cell]) => {
    if (cell.kind !== "register") return [];
    const strategy = strategyOf(rules, column);
    const written = { value: cell.value, hlc: cell.clock ?? write.clock };
    const [old, now] = [before.cells.get(column), after.cells.get(column)];
    const isThere = after.born === part.born && isAlive && now?.kind === "register" && compareValues(now.value, cell.value) === 0;
    if (!isThere) return conflictsBetween(column, isAlive ? kept(after, column) : undefined, written, strategy);
    const current = before.clock(column);
    const wasUnseen = current && before.isAlive(rules) && hasNotSeen(write, current, part, before);
    return wasUnseen && old?.kind === "register" ? conflictsBetween(column, written, { value: old.value, hlc: current }, strategy) : [];
  });
}

function kept(row: Row, column: string): Stamped | undefined {
  const [cell, hlc] = [row.cells.get(column), row.clock(column)];
  return cell && hlc && { value: cellValue(cell), hlc };
}

/** The members of an object that has some of these and no others; null stands for one that is not there. */
function members(value: Json, ...names: string[]): Json[] | undefined {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return undefined;
  const own = Object.keys(value);
  return own.length > 0 && own.every((name) => names.includes(name)) ? names.map((name) => value[name] ?? null) : undefined;
}
