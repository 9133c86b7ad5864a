/** The store on IndexedDB: rows, cursors, queue and dead letters change in one transaction. */

import { StorageError } from "../errors.js";
import { orderAfter, type Commit, type Put, type RowsCommit } from "../replica/commit.js";
import type { ChainLink, Mutation, Numbering, Rejection } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { uuid } from "../uuid.js";
import type { Store, Stored, StoredRows } from "./store.js";
import { clear, completed, dequeue, opened, resultOf, type Table, type Tables } from "./tables.js";

/** Raised when what is stored changes. An older page gives the store up to a newer one. */
export const VERSION = 2;

export class IndexedDbStore implements Store {
  readonly kind = "indexeddb";
  readonly shared = true;
  readonly #name: string;
  /** Opened by the first method that needs it, so that reading rows need not wait for `open`. */
  #database: Promise<IDBDatabase> | undefined;
  #closed = false;
  #lost: () => void = () => {};

  constructor(name: string) {
    this.#name = name;
  }

  /** Two tabs may open a new store at once: all take the id of the first. */
  async open(clientId = uuid()): Promise<Stored> {
    let stored!: Stored;
    await this.write(["meta", "queue", "rejected"], "default", async (table) => {
      const [known, lastNumber, last, queue, rejected] = await Promise.all([
        resultOf<string | undefined>(table("meta").get("clientId")),
        resultOf<number | undefined>(table("meta").get("lastNumber")),
        resultOf<ChainLink | undefined>(table("meta").get("last")),
        resultOf<Mutation[]>(table("queue").getAll()),
        resultOf<Rejection[]>(table("rejected").getAll()),
      ]);
      if (known === undefined) table("meta").put(clientId, "clientId");
      stored = { clientId: known ?? clientId, lastNumber: lastNumber ?? 0, ...(last && { last }), queue, rejected };
    });
    return stored;
  }

  async rows({ name }: Selection): Promise<StoredRows | undefined> {
    return this.#read(["queries", "rows"], async (table) => {
      const [query, rows] = await Promise.all([
        resultOf<Omit<StoredRows, "rows"> | undefined>(table("queries").get(name)),
        resultOf<Put[]>(table("rows").getAll(all(name))),
      ]);
      return query && { ...query, rows };
    });
  }

  async cursor({ name }: Selection): Promise<string | undefined> {
    return this.#read(["queries"], async (table) => (await resultOf<StoredRows | undefined>(table("queries").get(name)))?.cursor);
  }

  /** Durable when it resolves, even if the machine loses power: nothing else has a copy. */
  async enqueue(mutation: Mutation): Promise<void> {
    await this.write(["queue"], "strict", async (table) => {
      const known = await resultOf(table("queue").index("id").getKey(mutation.id));
      if (known === undefined) table("queue").add(mutation);
    });
  }

  async number(assigned: readonly Numbering[]): Promise<void> {
    await this.write(["queue", "meta"], "strict", async (table) => {
      let last = (await resultOf<number | undefined>(table("meta").get("lastNumber"))) ?? 0;
      for (const { id, ...link } of assigned) {
        last = Math.max(last, link.number);
        const cursor = await resultOf(table("queue").index("id").openCursor(id));
        cursor?.update({ ...cursor.value, ...link });
      }
      table("meta").put(last, "lastNumber");
    });
  }

  async commit(commit: Commit): Promise<void> {
    await this.write(["meta", "queries", "rows", "queue", "rejected"], "default", async (table) => {
      if (commit.last) table("meta").put(commit.last, "last");
      for (const { name, rows } of commit.queries) if (rows) await move(table, name, rows);
      for (const rejection of commit.rejected) table("rejected").put(rejection);
      for (const id of [...commit.answered, ...commit.rejected.map((rejection) => rejection.id)]) await dequeue(table, id);
    });
  }

  async dismiss(ids: readonly string[]): Promise<void> {
    await this.write(["rejected"], "default", (table) => ids.forEach((id) => table("rejected").delete(id)));
  }

  async fork(clientId: string, answered: readonly string[]): Promise<void> {
    await this.write(["meta", "queue"], "strict", async (table) => {
      table("meta").clear();
      table("meta").put(clientId, "clientId");
      for (const id of answered) await dequeue(table, id);
      const queue = await resultOf<Mutation[]>(table("queue").getAll());
      table("queue").clear();
      for (const { number: _, chain: __, ...mutation } of queue) table("queue").add(mutation);
    });
  }

  async free(): Promise<void> {
    await this.write(["queries", "rows"], "default", clear);
  }

  onLost(listener: () => void): void {
    this.#lost = listener;
  }

  reopen(): void {
    this.#closed = false;
  }

  close(): void {
    this.#lost = () => {};
    this.#drop();
  }

  /** The browser, the user or a newer page takes the store away. */
  #gone(): void {
    if (this.#closed) return;
    this.#drop();
    this.#lost();
  }

  #drop(): void {
    this.#closed = true;
    this.#database?.then((database) => database.close(), () => {});
    this.#database = undefined;
  }

  async #opened(): Promise<IDBDatabase> {
    if (this.#closed) {
      // It may have been taken away just when it returned.
      this.#lost();
      throw new StorageError("closed", "reload");
    }
    const opening = (this.#database ??= opened(this.#name, VERSION, (database) => {
      // Drops stores from before the first release. A later version must keep the queue.
      for (const name of database.objectStoreNames) database.deleteObjectStore(name);
      for (const name of ["meta", "queries", "rows"]) database.createObjectStore(name);
      database.createObjectStore("queue", { autoIncrement: true }).createIndex("id", "id", { unique: true });
      database.createObjectStore("rejected", { keyPath: "id" });
    }));
    try {
      const database = await opening;
      // A newer page that wants to change the tables, or the user to delete them, must not wait for this one.
      database.onversionchange = database.onclose = () => this.#gone();
      return database;
    } catch (cause) {
      // The next method tries again.
      if (this.#database === opening) this.#database = undefined;
      throw cause;
    }
  }

  #read<T>(tables: Table[], act: (table: Tables) => Promise<T>): Promise<T> {
    return this.#guarded(async () => {
      const transaction = (await this.#opened()).transaction(tables);
      return act((name) => transaction.objectStore(name));
    });
  }

  /** Changes tables in one transaction. Requests that `act` does not wait for make it fail when they do. */
  write(tables: Table[], durability: IDBTransactionDurability, act: (table: Tables) => void | Promise<void>): Promise<void> {
    return this.#guarded(async () => {
      const transaction = (await this.#opened()).transaction(tables, "readwrite", { durability });
      await completed(transaction, () => act((name) => transaction.objectStore(name)));
    });
  }

  /** Turns what IndexedDB throws into StorageErrors. */
  async #guarded<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (cause) {
      if (cause instanceof StorageError) throw cause;
      const { name } = Object(cause) as Error;
      if (name === "QuotaExceededError") throw new StorageError("the store is full", "freeSpace", cause);
      if (name === "VersionError") throw new StorageError("a newer page has it", "reload", cause);
      // A browser may close the database without an event.
      if (name === "InvalidStateError" && this.#database) this.#gone();
      throw new StorageError(`the store failed: ${cause}`, "reload", cause);
    }
  }
}

/** Moves a query's rows to the cursor of the commit. */
async function move(table: Tables, name: string, commit: RowsCommit): Promise<void> {
  const { reset, puts, gone, cursor, schema } = commit;
  const [queries, rows] = [table("queries"), table("rows")];
  const kept = await resultOf<Pick<StoredRows, "schema" | "order"> | undefined>(queries.get(name));
  const known = schema ?? kept?.schema;
  if (reset) rows.delete(all(name));
  if (cursor === undefined) return void queries.delete(name);
  // Without the rows before them, changes cannot be applied.
  if (!known || (!kept && !reset)) return;
  for (const key of gone) rows.delete([name, key]);
  for (const put of puts) rows.put(put, [name, put[0]]);
  queries.put({ cursor, schema: known, order: orderAfter(commit, kept?.order) }, name);
}

/** All rows of a query. */
function all(name: string): IDBKeyRange {
  return IDBKeyRange.bound([name], [name, []]);
}
