/** The state of one column of a row: what it holds, and what decides when it is merged. */

import type { Json } from "../protocol/json.js";
import type { Clock } from "./clock.js";
import { counterValue, joinCounters, type Counter } from "./counter.js";
import { compareExtremes, compareValues } from "./order.js";
import type { ColumnMerge } from "./rules.js";
import { joinSets, newestInSet, setValue, type ElementSet } from "./set.js";
import { compareTexts } from "./texts.js";

/** A value, and its clock if that is above the row's base. */
export interface Register {
  readonly kind: "register";
  readonly clock: Clock | undefined;
  readonly value: Json;
}

/** The greatest or the least value since the row's birth. A clock would let replicas diverge. */
export interface Extreme {
  readonly kind: "extreme";
  readonly value: Json;
}

export type Cell = Register | Extreme | Counter | ElementSet;

/** The value to show. */
export function cellValue(cell: Cell): Json {
  return cell.kind === "counter" ? counterValue(cell) : cell.kind === "set" ? setValue(cell) : cell.value;
}

/** The clock of a register, if it is above the row's base. */
export function ownClock(cell: Cell | undefined): Clock | undefined {
  return cell?.kind === "register" ? cell.clock : undefined;
}

/** The newest clock in it. The greatest and the least have none. */
export function newestInCell(cell: Cell): Clock | undefined {
  return cell.kind === "counter" ? cell.set : cell.kind === "set" ? newestInSet(cell) : ownClock(cell);
}

/** Kinds differ only while replicas have different rules; even then all of them end with the same. */
function rank(cell: Cell): number {
  return ["register", "extreme", "counter", "set"].indexOf(cell.kind);
}

/** A cell with its row's base. One that is not there is a register that nobody has written since that base. */
export interface Based {
  readonly cell: Cell | undefined;
  readonly base: Clock | undefined;
}

/** The cell of both; undefined where only the table knows the value. */
export function joinCells(one: Based, two: Based, merge: ColumnMerge): Cell | undefined {
  const [a, b] = [one.cell, two.cell];
  if (a && b && a.kind !== b.kind) return rank(a) > rank(b) ? a : b;
  if (a?.kind === "counter" && b?.kind === "counter") return joinCounters(a, b);
  if (a?.kind === "set" && b?.kind === "set") return joinSets(a, b);
  if (a?.kind === "extreme" && b?.kind === "extreme") return compareExtremes(a.value, b.value, merge) < 0 ? b : a;
  const only = a ?? b;
  if (only && only.kind !== "register") return only;
  return joinRegisters(one, two);
}

/** By clock, then by value: equal clocks with different values come from a node's id that two nodes use. */
function joinRegisters(one: Based, two: Based): Cell | undefined {
  const [oneClock, twoClock] = [ownClock(one.cell) ?? one.base, ownClock(two.cell) ?? two.base];
  const [a, b] = [one.cell, two.cell];
  const order = compareTexts(oneClock, twoClock) || (a && b ? compareValues(cellValue(a), cellValue(b)) : Number(!!a) - Number(!!b));
  const [winner, clock] = order < 0 ? [b, twoClock] : [a, oneClock];
  return winner && { kind: "register", clock, value: cellValue(winner) };
}
