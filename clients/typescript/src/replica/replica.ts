/**
 * Everything that a tab shows: the rows of its queries, the queue of the user's open writes and the dead
 * letters. Of what comes from the server, only commits change it.
 */

import type { Row, RowKey } from "../protocol/json.js";
import { Matcher } from "../filter/matcher.js";
import type { Commit } from "./commit.js";
import { QueryRows } from "./query_rows.js";
import type { Mutation, Numbering, Rejection } from "./mutation.js";
import { overlayOf, type Overlay } from "./overlay.js";
import type { Selection } from "./selection.js";

/** How many answered mutations are remembered, so that a late message does not bring one back. */
const ANSWERED_KEPT = 1000;

export class Replica {
  readonly queries = new Map<string, QueryRows>();
  /** Called after every step, when all of it has been applied. */
  onChange: () => void = () => {};
  /** Increases with every step. */
  version = 0;
  queue: readonly Mutation[] = [];
  rejected: readonly Rejection[] = [];
  readonly #acked = new Set<string>();
  readonly #answered = new Set<string>();
  readonly #matcher = new Matcher();
  readonly #keyColumns: (entity: string) => readonly string[] | undefined;

  /** @param keyColumns the key as the application declares it, used until the server sends it. */
  constructor(keyColumns: (entity: string) => readonly string[] | undefined) {
    this.#keyColumns = keyColumns;
  }

  query(selection: Selection): QueryRows {
    let query = this.queries.get(selection.name);
    if (!query) this.queries.set(selection.name, (query = new QueryRows(selection)));
    return query;
  }

  drop(name: string): void {
    this.queries.delete(name);
  }

  apply(commit: Commit): void {
    for (const id of commit.acked) this.#acked.add(id);
    for (const part of commit.queries) this.queries.get(part.name)?.apply(part);
    if (commit.rejected.length) this.#addRejections(commit.rejected);
    this.#removeAnswered([...commit.answered, ...commit.rejected.map(({ id }) => id)]);
    this.#changed();
  }

  /** Shows writes of the user from now on. */
  enqueue(...mutations: readonly Mutation[]): void {
    const queue = new Map(this.queue.map((mutation) => [mutation.id, mutation]));
    for (const mutation of mutations) {
      if (!queue.has(mutation.id) && !this.#answered.has(mutation.id)) queue.set(mutation.id, mutation);
    }
    if (queue.size === this.queue.length) return;
    this.queue = [...queue.values()];
    this.#changed();
  }

  /** Takes what the store holds. */
  restore(queue: readonly Mutation[], rejected: readonly Rejection[]): void {
    const madeHere = this.queue;
    this.queue = [];
    this.#addRejections(rejected);
    this.enqueue(...queue, ...madeHere);
    this.#changed();
  }

  /** Takes the numbers that the leader has assigned. */
  number(assigned: readonly Numbering[]): void {
    const numbers = new Map(assigned.map(({ id, ...link }) => [id, link]));
    this.queue = this.queue.map((mutation) => ({ ...mutation, ...numbers.get(mutation.id) }));
  }

  /** Forgets all numbers: the client has another id. */
  unnumber(): void {
    this.queue = this.queue.map(({ number: _, chain: __, ...mutation }) => mutation);
  }

  dismiss(ids: readonly string[]): void {
    this.rejected = this.rejected.filter(({ id }) => !ids.includes(id));
    this.#changed();
  }

  hasAnswered(id: string): boolean {
    return this.#answered.has(id);
  }

  /** Whether a mutation waits for the server's answer. */
  isPending({ id }: Mutation): boolean {
    return !this.#acked.has(id);
  }

  /** The key columns of an entity, as the server sent them or else as the application declares them. */
  keyColumns(entity: string): readonly string[] {
    for (const query of this.queries.values()) {
      if (query.selection.entity === entity && query.schema) return query.schema.key;
    }
    return this.#keyColumns(entity) ?? ["id"];
  }

  /** The type of a column, once the server has sent it. */
  columnType(entity: string, column: string): string | undefined {
    for (const query of this.queries.values()) {
      const type = query.selection.entity === entity ? query.schema?.columns[column] : undefined;
      if (type !== undefined) return type;
    }
    return undefined;
  }

  overlay(query: QueryRows): Overlay {
    return overlayOf(query, {
      queue: this.queue,
      keyColumns: (entity) => this.keyColumns(entity),
      image: (entity, key) => this.#image(entity, key),
      matches: (of, row) => this.#matcher.matches(of.selection, row, (column) => this.columnType(of.selection.entity, column)),
    });
  }

  /** The row with all its columns, from a live query if there is one. */
  #image(entity: string, key: RowKey): Row | undefined {
    let image: Row | undefined;
    for (const query of this.queries.values()) {
      if (query.selection.entity !== entity || !query.isFull) continue;
      const row = query.rows.get(key);
      if (row && query.phase === "live") return row;
      image ??= row;
    }
    return image;
  }

  /** Each dead letter appears once, at the place of its first arrival. */
  #addRejections(rejected: readonly Rejection[]): void {
    this.rejected = [...new Map([...this.rejected, ...rejected].map((rejection) => [rejection.id, rejection])).values()];
  }

  #removeAnswered(ids: readonly string[]): void {
    if (ids.length === 0) return;
    for (const id of ids) {
      this.#answered.add(id);
      this.#acked.delete(id);
      for (const query of this.queries.values()) query.settled.delete(id);
    }
    this.queue = this.queue.filter(({ id }) => !ids.includes(id));
    for (const id of this.#answered) {
      if (this.#answered.size <= ANSWERED_KEPT) break;
      this.#answered.delete(id);
    }
  }

  #changed(): void {
    this.version += 1;
    this.onChange();
  }
}
