/** Waits for what a client's events lead to. */

interface Listens {
  on(event: "change" | "status", listener: () => void): () => void;
}

/** Resolves when a condition holds, which is looked at now and after each of the client's events. */
export function until(sync: Listens, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!holds()) return;
      ends.forEach((end) => end());
      resolve();
    };
    const ends = [sync.on("change", look), sync.on("status", look)];
    look();
  });
}
