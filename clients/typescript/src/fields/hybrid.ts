/**
 * The hybrid logical clock of one node: it never goes back, follows the time where that is ahead, and is above all that
 * the node has seen (S. Kulkarni and others: "Logical Physical Clocks", OPODIS 2014). What is refused leaves it as it was.
 */

import { checkNode, clockAfter, millisOf, type Clock } from "./clock.js";
import { refuse } from "./error.js";
import { later } from "./texts.js";

/** How far ahead of the time a clock may be that is received, in milliseconds. */
export const AHEAD_MS_MAX = 60_000;

/** A node's clock. The time is always an argument, in milliseconds from 1970. */
export class HybridClock {
  #last: Clock | undefined;

  /**
   * Goes on behind the last clock that the node issued or saw, if there is one.
   *
   * @throws {FieldsError} `node`
   */
  constructor(
    readonly node: string,
    last?: Clock,
  ) {
    checkNode(node);
    this.#last = last;
  }

  /** The newest clock that was issued or seen, to be kept where the node keeps its state. */
  get last(): Clock | undefined {
    return this.#last;
  }

  /**
   * The clock of an event here, above everything before it.
   *
   * @throws {FieldsError} `exhausted`
   */
  now(timeMs: number): Clock {
    return this.receiveAll([], timeMs);
  }

  /**
   * The clock of receiving another's, above both.
   *
   * @throws {FieldsError} `ahead` when it is more than a minute ahead of the time; `exhausted`.
   */
  receive(remote: Clock, timeMs: number): Clock {
    return this.receiveAll([remote], timeMs);
  }

  /** The same for several at once; none is taken if one is refused. */
  receiveAll(remotes: Iterable<Clock>, timeMs: number): Clock {
    let newest = this.#last;
    for (const remote of remotes) {
      const aheadMs = millisOf(remote) - timeMs;
      if (aheadMs > AHEAD_MS_MAX) refuse("ahead", `the clock is ${aheadMs} ms ahead`);
      newest = later(newest, remote);
    }
    return (this.#last = clockAfter(newest, timeMs, this.node));
  }
}
