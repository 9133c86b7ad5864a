/** The pause before the next attempt to connect. */

import type { Clock } from "./clock.js";

export const PAUSE_MIN_MS = 250;
export const PAUSE_MAX_MS = 30_000;
/** The first pause after `rate_limited`. */
export const RATE_LIMITED_MS = 5_000;

/** Doubles with each attempt. Half of it is random, so that many clients do not come back together. */
export function pause(attempt: number, clock: Clock, atLeastMs = PAUSE_MIN_MS): number {
  const ceiling = Math.min(PAUSE_MAX_MS, atLeastMs * 2 ** Math.min(attempt, 16));
  return ceiling * (0.5 + clock.random() / 2);
}
