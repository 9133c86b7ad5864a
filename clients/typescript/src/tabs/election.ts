/** Which tab leads. A Web Lock passes leadership on as soon as the leading tab closes or crashes. */

/** Calls `elected` once, when this tab leads; the result ends its leadership or its candidacy. */
export type Election = (name: string, elected: () => void) => () => void;

export function webLocks(locks: LockManager): Election {
  return (name, elected) => {
    let end = () => {};
    const leadership = new Promise<void>((resolve) => (end = resolve));
    const candidacy = new AbortController();
    locks
      .request(name, { signal: candidacy.signal }, () => {
        elected();
        return leadership;
      })
      // The candidacy ended before the lock was granted.
      .catch(() => {});
    return () => {
      candidacy.abort();
      end();
    };
  };
}

/** A tab that shares nothing with others leads at once. */
export const alone: Election = (_name, elected) => {
  elected();
  return () => {};
};
