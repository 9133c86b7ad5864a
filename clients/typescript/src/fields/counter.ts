/**
 * Counters: a number that somebody set, and what each *database* has added to it and taken from it since. Those sums only
 * grow, so the greater is the newer, however often it is told. Devices do not count by themselves, their database does.
 */

import type { Json } from "../protocol/json.js";
import { amountToJson, isAmount, readAmount } from "./amount.js";
import type { Clock } from "./clock.js";
import { compareTexts } from "./texts.js";

/** How many digits the number has, to which as many databases as may have each added an amount. */
const NUMBER_DIGITS_MAX = 29;

/** What one database has added and taken, in billionths. */
export interface Sums {
  readonly added: bigint;
  readonly taken: bigint;
}

export interface Counter {
  readonly kind: "counter";
  /** When the number was set; undefined since the row's birth. */
  readonly set: Clock | undefined;
  /** Undefined is null, and what is not known where increments arrived before the row's creation. */
  readonly start: bigint | undefined;
  /** By the database. */
  readonly sums: ReadonlyMap<string, Sums>;
}

export const NO_COUNTER: Counter = { kind: "counter", set: undefined, start: undefined, sums: new Map() };

/** The counter that somebody set to a value, a number or null; undefined for another value. */
export function counterOf(value: Json, set: Clock | undefined): Counter | undefined {
  return counterShown(value, set, NO_COUNTER.sums, value !== null);
}

/** The counter that shows a value, of which databases have added so much since it was set. */
export function counterShown(value: Json, set: Clock | undefined, sums: ReadonlyMap<string, Sums>, hasStart: boolean): Counter | undefined {
  const number = value === null ? 0n : readAmount(value, sums.size > 0 ? NUMBER_DIGITS_MAX : undefined);
  return number === undefined ? undefined : { kind: "counter", set, sums, start: hasStart ? number - total(sums) : undefined };
}

/** Adds to the number itself, as its only database does. Undefined for what cannot be added. */
export function settle(counter: Counter, add: Json): Counter | undefined {
  const amount = readAmount(add);
  const start = (counter.start ?? 0n) + (amount ?? 0n);
  return amount !== undefined && isAmount(start) ? { ...counter, start } : undefined;
}

/** A later setting wins with all that was added to it; of the same one, every part is a maximum. */
export function joinCounters(one: Counter, two: Counter): Counter {
  const order = compareTexts(one.set, two.set);
  if (order !== 0) return order < 0 ? two : one;
  const sums = new Map(one.sums);
  for (const [database, theirs] of two.sums) {
    const ours = sums.get(database) ?? theirs;
    sums.set(database, { added: greater(ours.added, theirs.added), taken: greater(ours.taken, theirs.taken) });
  }
  const start = one.start === undefined || two.start === undefined ? (one.start ?? two.start) : greater(one.start, two.start);
  return { ...one, start, sums };
}

/** The number, or null. */
export function counterValue({ start, sums }: Counter): Json {
  return start === undefined && sums.size === 0 ? null : amountToJson((start ?? 0n) + total(sums));
}

function total(sums: ReadonlyMap<string, Sums>): bigint {
  let total = 0n;
  for (const { added, taken } of sums.values()) total += added - taken;
  return total;
}

function greater(one: bigint, two: bigint): bigint {
  return one < two ? two : one;
}
