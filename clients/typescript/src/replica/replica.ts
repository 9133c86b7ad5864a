/**
 * Everything that a tab shows: the rows of its queries, the queue of the user's open writes and the dead
 * letters. Of what comes from the server, only commits change it.
 */

import type { Step, Write } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { Matcher } from "../filter/matcher.js";
import type { Commit, RowMetadata } from "./commit.js";
import { QueryRows } from "./query_rows.js";
import type { Mutation, Numbering, Rejection } from "./mutation.js";
import { applyWrite, keyOfWrite, overlayOf, temporaryKey, type Overlay, type OverlaySource } from "./overlay.js";
import type { Selection } from "./selection.js";

/** How many answered mutations are remembered, so that a late message does not bring one back. */
const ANSWERED_KEPT = 1000;

export class Replica implements OverlaySource {
  readonly queries = new Map<string, QueryRows>();
  /** Called after every step, when all of it has been applied. */
  onChange: () => void = () => {};
  /** Increases with every step. */
  version = 0;
  /** What a mutation writes. Without mutators nobody knows what a call does, so it shows nothing. */
  written: (mutation: Mutation) => readonly Write[] = ({ writes }) => writes as Write[];
  /** What a write makes of a row. */
  applyWrite = applyWrite;
  /** The writes as a client of this id may send them. */
  declare asClient?: (writes: Step[], clientId: string) => Step[];
  /** What is known of rows beside their values. */
  readonly metadata = new WeakMap<Row, RowMetadata>();
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
    if (!query) this.queries.set(selection.name, (query = new QueryRows(selection, this.metadata)));
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

  /** The writes of a mutation on an entity, each with the key of its row. */
  writesOn(entity: string, mutation: Mutation): [RowKey, Write][] {
    const columns = this.keyColumns(entity);
    return this.written(mutation).flatMap((write, index): [RowKey, Write][] =>
      write.entity === entity ? [[keyOfWrite(write, columns) ?? temporaryKey(mutation, index), write]] : [],
    );
  }

  overlay(query: QueryRows): Overlay {
    return overlayOf(query, this);
  }

  /** Whether a row belongs to a query; undefined when only the server can tell. */
  matches({ selection }: QueryRows, row: Row): boolean | undefined {
    return this.#matcher.matches(selection, row, (column) => this.columnType(selection.entity, column));
  }

  /** A query that has the row with all its columns, a live one if there is one. */
  holder(entity: string, key: RowKey): QueryRows | undefined {
    let holder: QueryRows | undefined;
    for (const query of this.queries.values()) {
      if (query.selection.entity !== entity || !query.isFull || !query.rows.has(key)) continue;
      if (query.phase === "live") return query;
      holder ??= query;
    }
    return holder;
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
