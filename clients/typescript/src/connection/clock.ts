/** Time and chance, so that tests can bring their own. */
export interface Clock {
  /** Does something later; the result calls it off. */
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
