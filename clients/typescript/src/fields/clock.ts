/**
 * Clocks: a moment, a counter and the node that wrote, as a text whose order of bytes is their order:
 * `2026-11-20T07:00:00.000Z-0000-node`. They are texts, so that they can be stored, sent, and held against each other
 * with `===` and `compareTexts`.
 */

import { refuse } from "./error.js";
import { byteLength, compareTexts } from "./texts.js";

/** The text of a clock, as `readClock` and `clockAfter` make it. */
export type Clock = string & { readonly clock: true };

/** The last millisecond of the year 9999, after which a year has more than four digits. */
export const MILLIS_MAX = 253_402_300_799_999;

/** The longest id of a node, in bytes. */
export const NODE_BYTES_MAX = 128;

const FORM = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})(?:\d{3})?Z-[\da-fA-F]{4}-(.*)$/s;
/** A letter or a digit at first, so that no node sorts below the ground. */
const NODE = /^[\p{Alphabetic}\p{N}][^:\p{Cc}]*$/u;

/** The least of all clocks: the birth of rows that were there before anything was stamped. */
export const GROUND = write(0, 0, "0");

/**
 * Reads a clock, also with six digits of a second and small letters in its counter, as others write it; the text is kept
 * as it is.
 *
 * @throws {FieldsError} `clock` when the text has another form, or names no moment from 1970 to 9999; `node`.
 */
export function readClock(text: unknown): Clock {
  const parts = typeof text === "string" && FORM.exec(text);
  if (!parts || !isMoment(`${parts[1]}Z`)) refuse("clock", `no clock: ${text}`);
  checkNode(parts[2]!);
  return text as Clock;
}

/** The calendar and the day have it, and it is not before 1970. */
function isMoment(text: string): boolean {
  const millis = Date.parse(text);
  return millis >= 0 && new Date(millis).toISOString() === text;
}

/** @throws {FieldsError} `node` */
export function checkNode(node: string): void {
  if (!NODE.test(node) || byteLength(node) > NODE_BYTES_MAX) {
    refuse("node", `no id of a node: ${node}`);
  }
}

/**
 * The earliest clock of this moment (in milliseconds from 1970) or later that is above another.
 *
 * @throws {FieldsError} `exhausted` at the end of the year 9999.
 */
export function clockAfter(below: Clock | undefined, millis: number, node: string): Clock {
  const moment = Math.min(Math.max(millis, 0), MILLIS_MAX);
  const floor = below === undefined ? -1 : millisOf(below);
  if (below === undefined || floor < moment) return write(moment, 0, node);
  const counter = counterOf(below) + 1;
  if (counter <= 0xffff) {
    const next = write(floor, counter, node);
    // A counter in small letters sorts above its own value.
    if (compareTexts(next, below) > 0) return next;
  }
  return floor < MILLIS_MAX ? write(floor + 1, 0, node) : refuse("exhausted", "there is no later clock");
}

function write(millis: number, counter: number, node: string): Clock {
  return `${new Date(millis).toISOString()}-${counter.toString(16).toUpperCase().padStart(4, "0")}-${node}` as Clock;
}

/** Milliseconds from 1970. */
export function millisOf(clock: Clock): number {
  return Date.parse(`${clock.slice(0, 23)}Z`);
}

/** How many clocks of the node were before it in the same millisecond. */
export function counterOf(clock: Clock): number {
  return Number.parseInt(clock.slice(counterAt(clock)), 16);
}

/** Who stamped. */
export function nodeOf(clock: Clock): string {
  return clock.slice(counterAt(clock) + 5);
}

function counterAt(clock: Clock): number {
  return clock[23] === "Z" ? 25 : 28;
}

/** The name under which a client stamps: the first 40 bits of its id, a UUID, as eight digits of the base 36. */
export function nodeOfClient(clientId: string): string {
  const digits = clientId.replaceAll("-", "").slice(0, 10);
  return Number.parseInt(digits, 16).toString(36).padStart(8, "0");
}
