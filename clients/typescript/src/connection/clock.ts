/** Time and randomness, which tests replace. */
export interface Clock {
  /** Calls `act` later; the result cancels that. */
  after(ms: number, act: () => void): () => void;
  random(): number;
  now(): number;
}

export const systemClock: Clock = {
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
  random: Math.random,
  now: Date.now,
};
