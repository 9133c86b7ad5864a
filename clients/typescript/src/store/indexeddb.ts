/** The store on IndexedDB: rows, cursors, queue and dead letters change in one transaction. */

import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import { StorageError } from "../errors.js";
import type { SchemaSummary } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { Commit, RowsCommit } from "../replica/commit.js";
import type { Mutation, Numbering, Rejection } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { uuid } from "../uuid.js";
import type { Store, Stored, StoredRows } from "./store.js";

/** Raised when what is stored changes. An older page gives the store up to a newer one. */
export const VERSION = 2;

interface Tables extends DBSchema {
  /** `clientId`, `lastNumber`. */
  meta: { key: string; value: string | number };
  /** By name: the cursor and the schema of each query. */
  queries: { key: string; value: { cursor: string; schema: SchemaSummary } };
  /** By query and key. The value repeats the key, so that one read gives both. */
  rows: { key: [string, RowKey]; value: [RowKey, Row] };
  /** In the order in which they were made. */
  queue: { key: number; value: Mutation; indexes: { id: string } };
  rejected: { key: string; value: Rejection };
}

type Writing<T extends ("meta" | "queries" | "rows" | "queue" | "rejected")[]> = IDBPTransaction<Tables, T, "readwrite">;

export class IndexedDbStore implements Store {
  readonly kind = "indexeddb";
  readonly shared = true;
  readonly #name: string;
  /** Opened by the first method that needs it, so that reading rows need not wait for `open`. */
  #database: Promise<IDBPDatabase<Tables>> | undefined;
  #closed = false;
  #lost: () => void = () => {};

  constructor(name: string) {
    this.#name = name;
  }

  async open(): Promise<Stored> {
    return guarded(async () => {
      const transaction = (await this.#opened()).transaction(["meta", "queue", "rejected"]);
      const [meta, queue, rejected] = [transaction.objectStore("meta"), transaction.objectStore("queue"), transaction.objectStore("rejected")];
      const [clientId, lastNumber, ...open] = await Promise.all([
        meta.get("clientId"), meta.get("lastNumber"), queue.getAll(), rejected.getAll(),
      ]);
      const stored = { lastNumber: Number(lastNumber ?? 0), queue: open[0], rejected: open[1] };
      return { clientId: typeof clientId === "string" ? clientId : await this.#identify(), ...stored };
    });
  }

  async rows({ name }: Selection): Promise<StoredRows | undefined> {
    return guarded(async () => {
      const transaction = (await this.#opened()).transaction(["queries", "rows"]);
      const [query, rows] = await Promise.all([
        transaction.objectStore("queries").get(name),
        transaction.objectStore("rows").getAll(all(name)),
      ]);
      return query && { ...query, rows };
    });
  }

  async cursor({ name }: Selection): Promise<string | undefined> {
    return guarded(async () => (await (await this.#opened()).get("queries", name))?.cursor);
  }

  /** Durable when it resolves, even if the machine loses power: nothing else has a copy. */
  async enqueue(mutation: Mutation): Promise<void> {
    await guarded(async () => {
      const transaction = (await this.#opened()).transaction("queue", "readwrite", { durability: "strict" });
      await together(transaction.done, async () => void (await transaction.store.add(mutation)));
    });
  }

  async number(assigned: readonly Numbering[]): Promise<void> {
    await guarded(async () => {
      const transaction = (await this.#opened()).transaction(["queue", "meta"], "readwrite", { durability: "strict" });
      const [queue, meta] = [transaction.objectStore("queue"), transaction.objectStore("meta")];
      await together(transaction.done, async () => {
        let last = Number((await meta.get("lastNumber")) ?? 0);
        for (const { id, number } of assigned) {
          last = Math.max(last, number);
          const cursor = await queue.index("id").openCursor(id);
          await cursor?.update({ ...cursor.value, number });
        }
        await meta.put(last, "lastNumber");
      });
    });
  }

  async commit(commit: Commit): Promise<void> {
    await guarded(async () => {
      const transaction = (await this.#opened()).transaction(["queries", "rows", "queue", "rejected"], "readwrite");
      await together(transaction.done, async (also) => {
        for (const { name, rows } of commit.queries) if (rows) await move(transaction, name, rows, also);
        for (const rejection of commit.rejected) also(transaction.objectStore("rejected").put(rejection));
        const gone = [...commit.answered, ...commit.rejected.map(({ id }) => id)];
        for (const id of gone) await dequeue(transaction, id);
      });
    });
  }

  async dismiss(ids: readonly string[]): Promise<void> {
    await guarded(async () => {
      const transaction = (await this.#opened()).transaction("rejected", "readwrite");
      await together(transaction.done, async (also) => ids.forEach((id) => also(transaction.store.delete(id))));
    });
  }

  async free(): Promise<void> {
    await guarded(async () => {
      const transaction = (await this.#opened()).transaction(["queries", "rows"], "readwrite");
      await together(transaction.done, async (also) => {
        also(transaction.objectStore("queries").clear());
        also(transaction.objectStore("rows").clear());
      });
    });
  }

  onLost(listener: () => void): void {
    this.#lost = listener;
  }

  close(): void {
    this.#lost = () => {};
    this.#closed = true;
    this.#database?.then((database) => database.close(), () => {});
  }

  /** Two tabs may open a new store at once: all take the id of the first. */
  async #identify(): Promise<string> {
    const transaction = (await this.#opened()).transaction("meta", "readwrite");
    let clientId = uuid();
    await together(transaction.done, async () => {
      const known = await transaction.store.get("clientId");
      if (typeof known === "string") clientId = known;
      else await transaction.store.put(clientId, "clientId");
    });
    return clientId;
  }

  #connect(): Promise<IDBPDatabase<Tables>> {
    return guarded(() =>
      openDB<Tables>(this.#name, VERSION, {
        upgrade(database) {
          // Drops stores from before the first release. A later version must keep the queue.
          for (const name of database.objectStoreNames) database.deleteObjectStore(name);
          database.createObjectStore("meta");
          database.createObjectStore("queries");
          database.createObjectStore("rows");
          database.createObjectStore("queue", { autoIncrement: true }).createIndex("id", "id", { unique: true });
          database.createObjectStore("rejected", { keyPath: "id" });
        },
        // A newer page that wants to change the tables must not wait for this one.
        blocking: () => this.#gone(),
        terminated: () => this.#gone(),
      }),
    );
  }

  #gone(): void {
    if (this.#closed) return;
    this.#database?.then((database) => database.close(), () => {});
    this.#closed = true;
    this.#lost();
  }

  #opened(): Promise<IDBPDatabase<Tables>> {
    if (this.#closed) throw new StorageError("the store is closed", "reload");
    return (this.#database ??= this.#connect());
  }
}

/** Moves a query's rows to the cursor of the commit. */
async function move(
  transaction: Writing<("queries" | "rows" | "queue" | "rejected")[]>,
  name: string,
  { reset, puts, gone, cursor, schema }: RowsCommit,
  also: Also,
): Promise<void> {
  const [queries, rows] = [transaction.objectStore("queries"), transaction.objectStore("rows")];
  const kept = await queries.get(name);
  const known = schema ?? kept?.schema;
  if (reset) also(rows.delete(all(name)));
  if (cursor === undefined) return void also(queries.delete(name));
  // Without the rows before them, changes cannot be applied.
  if (!known || (!kept && !reset)) return;
  for (const key of gone) also(rows.delete([name, key]));
  for (const [key, row] of puts) also(rows.put([key, row], [name, key]));
  also(queries.put({ cursor, schema: known }, name));
}

async function dequeue(
  transaction: Writing<("queries" | "rows" | "queue" | "rejected")[]>,
  id: string,
): Promise<void> {
  const queue = transaction.objectStore("queue");
  const key = await queue.index("id").getKey(id);
  if (key !== undefined) await queue.delete(key);
}

/** All rows of a query. */
function all(name: string): IDBKeyRange {
  return IDBKeyRange.bound([name], [name, []]);
}

/** Registers a request to be awaited with the others. */
type Also = (request: Promise<unknown>) => void;

/** Awaits a transaction and all its requests, so that a failure is thrown, and once. */
async function together(done: Promise<void>, act: (also: Also) => Promise<void>): Promise<void> {
  const requests: Promise<unknown>[] = [done];
  const acting = act((request) => requests.push(request));
  const ended = [...(await Promise.allSettled([acting])), ...(await Promise.allSettled(requests))];
  const failed = ended.find((one) => one.status === "rejected");
  if (failed) throw failed.reason;
}

/** Turns what IndexedDB throws into StorageErrors. */
async function guarded<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    if (cause instanceof StorageError) throw cause;
    const name = cause instanceof Error ? cause.name : "";
    if (name === "QuotaExceededError") throw new StorageError("the store is full", "freeSpace", cause);
    if (name === "VersionError") throw new StorageError("a newer page owns the store", "reload", cause);
    throw new StorageError(`the store failed: ${String(cause)}`, "reload", cause);
  }
}
