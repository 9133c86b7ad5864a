/**
 * Opens a store again that could not be used, and moves to it what the page had in memory meanwhile. Until
 * then `FallbackStore` works in memory.
 */

import type { Clock } from "../connection/clock.js";
import type { StorageError } from "../errors.js";
import type { ChainLink, Mutation } from "../replica/mutation.js";
import { OPEN_MS, type FallbackStore } from "./fallback_store.js";
import type { IndexedDbStore } from "./indexeddb.js";
import { readable } from "./repair.js";
import type { Stored } from "./store.js";
import { clear, dequeue, resultOf } from "./tables.js";

/** The pause before a store is opened again; it doubles up to the longest. */
const PAUSE_MIN_MS = 2_000;
const PAUSE_MAX_MS = 60_000;

export interface ReturnPorts {
  /** The mutations that the page has open. */
  queue(): readonly Mutation[];
  /**
   * The store belongs to another client id than the one that this page uses now. False when mutations with
   * numbers of that id are under way, so that the page must keep it; otherwise the page stops sending until
   * `returned`.
   */
  release(): Promise<boolean>;
  /** The store is used again, with what it holds by now; undefined when it failed again. */
  returned(stored: Stored | undefined): void;
}

/** Tries until the store can be used, once for each time that it was replaced. */
export function bringBack(fallback: FallbackStore, error: StorageError, clock: Pick<Clock, "after">, ports: ReturnPorts): void {
  let pauseMs = PAUSE_MIN_MS;
  const later = (error?: StorageError) => {
    // A newer page owns the store, and this one cannot read it.
    if (fallback.isClosed || (error?.cause as Error | undefined)?.name === "VersionError") return fallback.resume();
    clock.after(pauseMs, () => void attempt().catch(later).finally(() => fallback.resume()));
    pauseMs = Math.min(PAUSE_MAX_MS, pauseMs * 2);
  };
  // By its kind and not by its class, which the two bundles do not share.
  if (fallback.first.kind !== "indexeddb" || !("write" in fallback.first)) return fallback.resume();
  const first = fallback.first as IndexedDbStore;
  const attempt = async () => {
    const { clientId } = fallback;
    first.reopen();
    // What waits for a number waits for one attempt, and not for one without an answer.
    const cancel = clock.after(OPEN_MS, () => fallback.resume());
    const found = await first.open(clientId).finally(cancel);
    if (fallback.isClosed) return;
    const same = found.clientId === clientId;
    if (!same && !(await ports.release())) return later();
    try {
      fallback.hold();
      await carry(fallback, first, same, ports.queue);
    } catch (error) {
      if (!same) ports.returned(undefined);
      throw error;
    }
    ports.returned(readable(await first.open()));
  };
  later(error);
}

/** Stores what the page has, and what comes meanwhile, and has the store used from then on. */
async function carry(fallback: FallbackStore, first: IndexedDbStore, same: boolean, queue: ReturnPorts["queue"]): Promise<void> {
  /** The memory of a tab that does not lead misses the answers, which its page has. */
  const held = async () => {
    const stored = await fallback.held;
    const open = new Map(queue().map((mutation) => [mutation.id, mutation]));
    const kept = stored.queue.filter(({ id }) => open.has(id));
    return { ...stored, queue: kept.map((mutation): Mutation => ({ ...mutation, ...open.get(mutation.id) })) };
  };
  for (;;) {
    const stored = await held();
    await restore(first, stored, same);
    const { clientId, lastNumber, last } = await first.open();
    const now = await held();
    const carried = new Set(stored.queue.map(({ id }) => id));
    if (!now.queue.every(({ id }) => carried.has(id))) continue;
    return fallback.returnTo({ ...now, clientId, lastNumber, ...(last && { last }) });
  }
}

/** Stores what a page had in memory. The rows are dropped: those of the page may be newer, without all that is between. */
async function restore(store: IndexedDbStore, { lastNumber, last, queue, rejected }: Stored, same: boolean): Promise<void> {
  await store.write(["meta", "queries", "rows", "queue", "rejected"], "strict", async (table) => {
    clear(table);
    // Numbers belong to a client id. Another tab may have stored higher ones.
    const [highest, newest] = await Promise.all([
      resultOf<number | undefined>(table("meta").get("lastNumber")),
      resultOf<ChainLink | undefined>(table("meta").get("last")),
    ]);
    if (same && lastNumber > (highest ?? 0)) table("meta").put(lastNumber, "lastNumber");
    if (same && last && last.number > (newest?.number ?? 0)) table("meta").put(last, "last");
    for (const mutation of queue) {
      const cursor = await resultOf(table("queue").index("id").openCursor(mutation.id));
      if (cursor) cursor.update(mutation);
      else table("queue").add(mutation);
    }
    for (const rejection of rejected) {
      table("rejected").put(rejection);
      await dequeue(table, rejection.id);
    }
  });
}
