/** What survives a reload of fields: the client's clock, the difference to the server's time, and values that lost. */

import type { Clock } from "../fields/clock.js";
import type { Conflict, Step } from "../protocol/generated.js";
import type { Mutation } from "../replica/mutation.js";
import type { IndexedDbStore } from "../store/indexeddb.js";
import type { Store } from "../store/store.js";
import { resultOf, type Tables } from "../store/tables.js";

export interface Kept {
  /** The newest clock that a write was stored with. */
  readonly clock?: Clock | undefined;
  /** How far the server's time is ahead of this machine's. */
  readonly aheadMs?: number;
  readonly conflicts?: readonly Conflict[];
}

/** The name under which IndexedDB has it, in `meta`. */
const NAME = "fields";
/** For stores that live as long as the page. */
const inMemory = new WeakMap<Store, Kept>();

/** Stamps a mutation's writes above the stored clock, in place; returns the newest. */
export type Settle = (writes: readonly Step[], clientId: string, kept: Kept) => Clock | undefined;

export class ClockStore {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async read(): Promise<Kept> {
    let kept: Kept = {};
    await this.update((now) => (kept = now));
    return kept;
  }

  async update(change: (kept: Kept) => Kept): Promise<void> {
    const tables = tablesOf(this.#store);
    if (!tables) return void inMemory.set(this.#store, change(inMemory.get(this.#store) ?? {}));
    await tables.write(["meta"], "default", async (table) => put(table, change(await get(table))));
  }

  /** From now on mutations are stored together with the clock of their writes. */
  stampWith(settle: Settle): void {
    const store = this.#store;
    const tables = tablesOf(store);
    const enqueue = store.enqueue.bind(store);
    store.enqueue = async (mutation) => {
      if (!mutation.writes.some((step) => "hlc" in step)) return enqueue(mutation);
      if (tables) return tables.write(["meta", "queue"], "strict", (table) => addStamped(table, mutation, settle));
      const { clientId } = await store.open();
      await this.update((kept) => ({ ...kept, clock: settle(mutation.writes, clientId, kept) }));
      return enqueue(mutation);
    };
  }
}

/** The store on IndexedDB. By its kind and not by its class, which the bundles do not share. */
function tablesOf(store: Store): Pick<IndexedDbStore, "write"> | undefined {
  return store.kind === "indexeddb" && "write" in store ? (store as IndexedDbStore) : undefined;
}

/** Adds a mutation with clocks that are above those of every tab's writes before it. */
async function addStamped(table: Tables, mutation: Mutation, settle: Settle): Promise<void> {
  const [known, clientId, kept] = await Promise.all([
    resultOf(table("queue").index("id").getKey(mutation.id)),
    resultOf<string>(table("meta").get("clientId")),
    get(table),
  ]);
  if (known !== undefined) return;
  put(table, { ...kept, clock: settle(mutation.writes, clientId, kept) });
  table("queue").add(mutation);
}

async function get(table: Tables): Promise<Kept> {
  return (await resultOf<Kept | undefined>(table("meta").get(NAME))) ?? {};
}

function put(table: Tables, kept: Kept): void {
  table("meta").put(kept, NAME);
}
