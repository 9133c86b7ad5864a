/** Which tab leads. Web Locks hand the office on in the moment in which a tab closes or crashes. */

/** Calls `elected` once when this tab leads; the result ends its office or its candidacy. */
export type Election = (name: string, elected: () => void) => () => void;

export function webLocks(locks: LockManager): Election {
  return (name, elected) => {
    let end = () => {};
    const office = new Promise<void>((resolve) => (end = resolve));
    const candidacy = new AbortController();
    locks
      .request(name, { signal: candidacy.signal }, () => {
        elected();
        return office;
      })
      // Called off before it was granted.
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
