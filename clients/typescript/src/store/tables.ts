/** The tables of the store on IndexedDB, and its requests as promises. */

/**
 * `meta`: `clientId`, `lastNumber`, `last`. `queries`: by name, the cursor and the schema of each query. `rows`: by
 * query and key; the value repeats the key, so that one read gives both. `queue`: in the order in which the
 * mutations were made. `rejected`: by the mutation's id.
 */
export type Table = "meta" | "queries" | "rows" | "queue" | "rejected";
/** The tables of a transaction. */
export type Tables = (name: Table) => IDBObjectStore;

export function resultOf<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Opens a database, with the tables that `make` makes where it is new or older. */
export function opened(name: string, version: number, make: (database: IDBDatabase) => void): Promise<IDBDatabase> {
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => make(request.result);
  return resultOf(request);
}

/** Resolves when all that `act` requests in a transaction is stored; otherwise nothing of it is, and this throws. */
export async function completed(transaction: IDBTransaction, act: () => void | Promise<void>): Promise<void> {
  const ended = new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
  try {
    await act();
  } catch (cause) {
    ended.catch(() => {});
    try {
      transaction.abort();
    } catch {
      // It has ended already, with this failure.
    }
    throw cause;
  }
  await ended;
}

export async function dequeue(table: Tables, id: string): Promise<void> {
  const key = await resultOf(table("queue").index("id").getKey(id));
  if (key !== undefined) table("queue").delete(key);
}

/** Drops all rows. */
export function clear(table: Tables): void {
  table("queries").clear();
  table("rows").clear();
}
