/**
 * The clocks of the user's writes.
 *
 * A write is stamped when it is made, above what its author saw of the row and above this client's writes before it. The
 * transaction that stores it moves the stored clock, which all tabs share, and stamps it again where another tab was
 * faster. The clock of one node is a hybrid logical clock (see `fields/hybrid.ts`), but nothing is refused: who edits a
 * row edits it after what they saw, however wrong their time is.
 */

import { clockAfter, millisOf, nodeOf, nodeOfClient, type Clock } from "../fields/clock.js";
import { AHEAD_MS_MAX } from "../fields/hybrid.js";
import { compareTexts, later } from "../fields/texts.js";
import type { Step, Write } from "../protocol/generated.js";
import type { Kept } from "./clock_store.js";

/** Stamps what is written before the store has said who this client is; it is stamped for good when it is stored or sent. */
const NODE_UNKNOWN = "unknown";
/** The beginning of a clock, before its node. */
const NODE_AT = 30;
/** How many clocks are remembered that the server has changed. */
const COUNTED_MAX = 1000;

export class Stamps {
  readonly #time: () => number;
  #node = NODE_UNKNOWN;
  /** The newest clock of this client. */
  #last: Clock | undefined;
  /** How far the server's time is ahead of this machine's; undefined before it has said so. */
  #aheadMs: number | undefined;
  /** The clocks under which writes count, by what they said. */
  readonly #counted = new Map<string, string>();

  /** @param time this machine's, in milliseconds from 1970. */
  constructor(time: () => number) {
    this.#time = time;
  }

  /** Milliseconds from 1970, as the server has them. */
  get now(): number {
    return this.#time() + (this.#aheadMs ?? 0);
  }

  get node(): string {
    return this.#node;
  }

  /** Takes what is known of this client. */
  restore(clientId: string, last: Clock | undefined, aheadMs: number | undefined): void {
    this.#node = nodeOfClient(clientId);
    this.#aheadMs ??= aheadMs;
    this.#last = this.#above(last);
  }

  /** Takes the difference to the server's time. Clocks that a wrong time has made do not count any more. */
  correct(aheadMs: number): void {
    this.#aheadMs = aheadMs;
    this.#last = this.#above(undefined);
  }

  /** The clock of a write that is made now, by somebody who has seen this clock. */
  next(seen: Clock | undefined, queued: readonly Step[]): Clock {
    const clocks = queued.flatMap((step) => ("hlc" in step && step.hlc !== undefined ? [step.hlc as Clock] : []));
    // It comes after writes that are not stamped for good.
    const node = clocks.some(isProvisional) ? NODE_UNKNOWN : this.#node;
    const before = clocks.reduce((newest: Clock | undefined, clock) => this.#above(clock, newest), this.#above(seen));
    return (this.#last = clockAfter(before, this.now, node));
  }

  /**
   * Stamps writes again, in place, that are not above the stored clock, or were stamped before anything was known of this
   * client and its time; returns the newest.
   */
  settle(writes: readonly Step[], clientId: string, { clock, aheadMs }: Kept): Clock | undefined {
    this.restore(clientId, clock, aheadMs);
    let below = this.#isSound(clock) ? clock : undefined;
    for (const write of writes as readonly Write[]) {
      if (write.hlc === undefined) continue;
      const isKnown = nodeOf(write.hlc as Clock) === this.#node && compareTexts(write.hlc, below) > 0;
      if (!isKnown) write.hlc = clockAfter(later(below, write.seen as Clock | undefined), this.now, this.#node);
      below = write.hlc as Clock;
    }
    this.#last = this.#above(below);
    return below;
  }

  /** The writes with clocks of a client's node: a store that was copied goes on under another id. */
  asClient(writes: Step[], clientId: string): Step[] {
    const node = nodeOfClient(clientId);
    const isForeign = (step: Step): step is Write => "hlc" in step && step.hlc !== undefined && nodeOf(step.hlc as Clock) !== node;
    if (!writes.some(isForeign)) return writes;
    return writes.map((step) => (isForeign(step) ? { ...step, hlc: ofNode(step.hlc as Clock, node) } : step));
  }

  /** Remembers under which clocks writes count. */
  count(stamps: { readonly [hlc: string]: string }): void {
    for (const [said, hlc] of Object.entries(stamps)) this.#counted.set(said, hlc);
    for (const said of this.#counted.keys()) {
      if (this.#counted.size <= COUNTED_MAX) break;
      this.#counted.delete(said);
    }
  }

  /**
   * The clock under which a write of this client's counts, as far as that is known: one from far ahead of the time becomes
   * the moment in which the server receives it, and one that is not stamped for good was made after all that is there.
   *
   * @param newest the newest clock of the row, which an earlier write of this client's may have.
   */
  effective(hlc: Clock, newest: Clock | undefined): Clock {
    const counted = this.#counted.get(hlc) as Clock | undefined;
    if (counted !== undefined) return counted;
    if (isProvisional(hlc)) return clockAfter(newest, this.now, NODE_UNKNOWN);
    if (this.#isSound(hlc)) return hlc;
    const own = newest !== undefined && nodeOf(newest) === nodeOf(hlc);
    return clockAfter(own ? newest : undefined, this.now, nodeOf(hlc));
  }

  /** Whether a write has a clock for good. */
  isFinal(hlc: string | undefined): hlc is Clock {
    return hlc !== undefined && !isProvisional(hlc as Clock);
  }

  /** Whether no wrong time has made it, by the server's. */
  #isSound(clock: Clock | undefined): boolean {
    return clock === undefined || this.#aheadMs === undefined || millisOf(clock) - this.now <= AHEAD_MS_MAX;
  }

  #above(clock: string | undefined, than: Clock | undefined = this.#last): Clock | undefined {
    const newest = later(than, clock as Clock | undefined);
    return this.#isSound(newest) ? newest : this.#isSound(than) ? than : undefined;
  }
}

function isProvisional(hlc: Clock): boolean {
  return nodeOf(hlc) === NODE_UNKNOWN;
}

function ofNode(hlc: Clock, node: string): Clock {
  return (hlc.slice(0, NODE_AT) + node) as Clock;
}
