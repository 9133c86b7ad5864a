/** A store that lives as long as the page: for tests, for Node, and for browsers that allow no other. */

import type { RowKey } from "../protocol/json.js";
import { orderAfter, type Commit, type Put, type RowsCommit } from "../replica/commit.js";
import type { ChainLink, Mutation, Numbering, Rejection } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { uuid } from "../uuid.js";
import type { Store, Stored, StoredRows } from "./store.js";

interface Kept {
  rows: Map<RowKey, Put>;
  cursor: string;
  schema: StoredRows["schema"];
  order: StoredRows["order"];
}

export class MemoryStore implements Store {
  readonly kind = "memory";
  readonly shared = false;
  #clientId: string;
  #lastNumber = 0;
  #last: ChainLink | undefined;
  #queue: Mutation[] = [];
  #rejected: Rejection[] = [];
  readonly #queries = new Map<string, Kept>();

  constructor(clientId = uuid()) {
    this.#clientId = clientId;
  }

  async open(): Promise<Stored> {
    return structuredClone({
      clientId: this.#clientId,
      lastNumber: this.#lastNumber,
      ...(this.#last && { last: this.#last }),
      queue: this.#queue,
      rejected: this.#rejected,
    });
  }

  async rows({ name }: Selection): Promise<StoredRows | undefined> {
    const kept = this.#queries.get(name);
    return kept && structuredClone({ ...kept, rows: [...kept.rows.values()] });
  }

  async cursor({ name }: Selection): Promise<string | undefined> {
    return this.#queries.get(name)?.cursor;
  }

  async enqueue(mutation: Mutation): Promise<void> {
    if (!this.#queue.some(({ id }) => id === mutation.id)) this.#queue.push(structuredClone(mutation));
  }

  async number(assigned: readonly Numbering[]): Promise<void> {
    for (const { id, ...link } of assigned) {
      const mutation = this.#queue.find((queued) => queued.id === id);
      if (mutation) Object.assign(mutation, link);
      this.#lastNumber = Math.max(this.#lastNumber, link.number);
    }
  }

  async commit(commit: Commit): Promise<void> {
    for (const { name, rows } of structuredClone(commit.queries)) if (rows) this.#move(name, rows);
    const gone = new Set([...commit.answered, ...commit.rejected.map(({ id }) => id)]);
    this.#queue = this.#queue.filter(({ id }) => !gone.has(id));
    this.#rejected.push(...structuredClone(commit.rejected));
    this.#last = commit.last ?? this.#last;
  }

  async fork(clientId: string, answered: readonly string[]): Promise<void> {
    this.#clientId = clientId;
    this.#lastNumber = 0;
    this.#last = undefined;
    this.#queue = this.#queue.filter(({ id }) => !answered.includes(id)).map(({ number: _, chain: __, ...mutation }) => mutation);
  }

  async dismiss(ids: readonly string[]): Promise<void> {
    this.#rejected = this.#rejected.filter(({ id }) => !ids.includes(id));
  }

  async free(): Promise<void> {
    this.#queries.clear();
  }

  #move(name: string, commit: RowsCommit): void {
    const { reset, puts, gone, cursor, schema } = commit;
    const kept = this.#queries.get(name);
    if (cursor === undefined) {
      this.#queries.delete(name);
      return;
    }
    const known = schema ?? kept?.schema;
    if (!known || (!kept && !reset)) return;
    const rows = reset ? new Map<RowKey, Put>() : kept!.rows;
    for (const key of gone) rows.delete(key);
    for (const put of puts) rows.set(put[0], put);
    this.#queries.set(name, { rows, cursor, schema: known, order: orderAfter(commit, kept?.order) });
  }
}
