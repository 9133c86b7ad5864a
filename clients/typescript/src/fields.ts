/**
 * `@rhtmx/sync/fields`: rows that merge by their fields. Two edit the same row offline, one its title, the other its date,
 * and both edits stay.
 *
 *     import { fields } from "@rhtmx/sync/fields";
 *     const sync = createSync({ entities: { todos: entity<Todo>() }, fields: fields(["todos"]) });
 *     sync.todos.update("42", { title: "Milk", likes: { add: 1 } });
 *     sync.todos.conflicts.subscribe(({ rows }) => show(rows));
 */

import { GROUND } from "./fields/clock.js";
import { FieldsError } from "./fields/error.js";
import type { Entity, PendingWrite, Values } from "./entity.js";
import { InvalidWriteError } from "./errors.js";
import { keyOfRow, type KeyInput } from "./key.js";
import { Conflicts, idOf } from "./merging/conflicts.js";
import { ClockStore } from "./merging/clock_store.js";
import { dispatchFields } from "./merging/page.js";
import { PendingWrites } from "./merging/pending.js";
import { mergingRow, newestOf, rulesOf } from "./merging/rows.js";
import { Stamps } from "./merging/stamps.js";
import type { Conflict, Step, Write } from "./protocol/generated.js";
import type { Json, Row, RowKey } from "./protocol/json.js";
import { emptyCommit, type Commit } from "./replica/commit.js";
import { isCall } from "./replica/mutation.js";
import { keyOfWrite } from "./replica/overlay.js";
import type { QueryRows } from "./replica/query_rows.js";
import type { Replica } from "./replica/replica.js";
import type { Extension, Sync } from "./sync.js";

export { Conflicts, type FieldConflict, type Resolution } from "./merging/conflicts.js";

/** How many values that lost a client keeps; the oldest go first. */
const CONFLICTS_MAX = 500;

/** What an update writes: values; increments of counters; what is added to sets, and removed from them. */
export type FieldValues<R> = {
  [C in keyof Values<R>]: Values<R>[C] | (number extends R[C & keyof R] ? { readonly add: number | bigint | string } : never) |
    (R[C & keyof R] extends readonly (infer E)[] | null | undefined ? { readonly add?: readonly E[]; readonly remove?: readonly E[] } : never);
};

/** An entity whose rows merge by their fields. */
export interface FieldsEntity<R extends object> extends Entity<R> {
  /** Values that lost against others. */
  readonly conflicts: Conflicts;
  /** Changes some columns: `sync.todos.update(key, { done: true, likes: { add: 1 }, tags: { add: ["new"] } })`. */
  update(key: KeyInput, values: FieldValues<R>): PendingWrite;
}

/** What `createSync` takes as `fields`. */
export type Fields<N extends string> = Extension & { readonly entities: readonly N[] };

/**
 * Merges the rows of these entities by their fields, as the server does, which must be configured so. Their lists come with
 * clocks, and each write is stamped when the user makes it.
 */
export function fields<const N extends string>(entities: readonly N[]): Fields<N> {
  const extend: Extension = (sync, replica, _write, begun, { store, clock }) => {
    new Merging(sync, replica, begun, new ClockStore(store), () => clock.now()).start(entities, store.open.bind(store));
  };
  return Object.assign(extend, { entities });
}

/** Drops the oldest of what is too much. */
function bound(all: Map<string, unknown> | Set<string>): void {
  for (const id of all.keys()) {
    if (all.size <= CONFLICTS_MAX) break;
    all.delete(id);
  }
}

/** The same for the script element of a page, which has a list of names and listens to events. */
export function fieldsOfPage(list: string): Fields<string> {
  const merging = fields(list.split(/[\s,]+/).filter(Boolean));
  const extend: Extension = (sync, ...rest) => {
    merging(sync, ...rest);
    for (const name of merging.entities) dispatchFields(sync.entity(name) as FieldsEntity<Row>);
  };
  return Object.assign(extend, { entities: merging.entities });
}

/** What a client has besides, to merge. */
class Merging {
  readonly #sync: Sync;
  readonly #replica: Replica;
  readonly #begun: () => readonly Step[];
  readonly #clockStore: ClockStore;
  readonly #stamps: Stamps;
  readonly #pending: PendingWrites;
  /** The values of this client's that lost, by their ids. */
  readonly #own = new Map<string, Conflict>();
  readonly #dismissed = new Set<string>();
  readonly #lists: Conflicts[] = [];

  constructor(sync: Sync, replica: Replica, begun: () => readonly Step[], clockStore: ClockStore, time: () => number) {
    this.#sync = sync;
    this.#replica = replica;
    this.#begun = begun;
    this.#clockStore = clockStore;
    this.#stamps = new Stamps(time);
    this.#pending = new PendingWrites(replica, this.#stamps);
  }

  start(entities: readonly string[], open: () => Promise<{ clientId: string }>): void {
    this.#extendReplica();
    this.#extendRetry();
    for (const name of entities) this.#extendEntity(this.#sync.entity(name));
    this.#clockStore.stampWith((...write) => this.#stamps.settle(...write));
    void this.#restore(open);
  }

  /** What the store keeps. Without it everything works until the page is left. */
  async #restore(open: () => Promise<{ clientId: string }>): Promise<void> {
    // The store is new where nobody has opened it.
    await this.#sync.opened;
    const found = await Promise.all([open(), this.#clockStore.read()]).catch(() => undefined);
    if (!found) return;
    const [{ clientId }, kept] = found;
    this.#stamps.restore(clientId, kept.clock, kept.aheadMs);
    this.#replica.apply({ ...emptyCommit(), ...(kept.conflicts?.length && { conflicts: [...kept.conflicts] }) });
  }

  #extendReplica(): void {
    const replica = this.#replica;
    const [apply, dismiss, changed] = [replica.apply.bind(replica), replica.dismiss.bind(replica), replica.onChange];
    replica.asClient = (writes, clientId) => this.#stamps.asClient(writes, clientId);
    replica.applyWrite = (write, before) => this.#pending.apply(write, before);
    replica.apply = (commit) => {
      this.#take(commit);
      apply(commit);
    };
    replica.dismiss = (ids) => {
      if (this.#forget(ids)) this.#keep();
      dismiss(ids);
    };
    replica.onChange = () => {
      changed();
      for (const list of this.#lists) list.refresh();
    };
  }

  /** What is tried again is made now, by somebody who sees the row as it is now. */
  #extendRetry(): void {
    const [sync, replica] = [this.#sync, this.#replica];
    const retry = sync.retry.bind(sync);
    const again = (step: Step): Step => {
      if (isCall(step) || step.hlc === undefined) return step;
      const { hlc: _, born: __, seen: ___, ...write } = step;
      return this.#stamped(write);
    };
    sync.retry = (id) => {
      replica.rejected = replica.rejected.map((rejection) =>
        rejection.id === id ? { ...rejection, writes: rejection.writes.map(again) } : rejection);
      retry(id);
    };
  }

  #extendEntity(entity: Entity<Row>): void {
    const { ports, validate } = entity;
    const { view, write } = ports;
    ports.view = (of, options, validator) => view(of, { ...options, mode: "fields" } as typeof options, validator);
    ports.write = (made) => write(this.#stamped(made));
    if (validate) entity.validate = (row) => validate(this.#resolved(entity, row));
    const conflicts = new Conflicts(entity, this.#replica, () => this.#own.values(), (...ids) => this.#sync.dismiss(...ids));
    this.#lists.push(conflicts);
    Object.assign(entity, { conflicts });
  }

  /** Takes what a step says beside rows. */
  #take({ conflicts = [], stamps, aheadMs }: Commit): void {
    if (stamps) this.#stamps.count(stamps);
    if (aheadMs !== undefined) this.#stamps.correct(aheadMs);
    // What the server keeps is in the row until anybody resolves it; one of this client's own would outlive that.
    const lost = conflicts.filter(({ strategy, kept }) => strategy !== "keep_both" || !kept);
    const own = lost.map((conflict) => [idOf(conflict), conflict] as const).filter(([id]) => !this.#dismissed.has(id));
    for (const [id, conflict] of own) this.#own.set(id, conflict);
    bound(this.#own);
    if (own.length || aheadMs !== undefined) this.#keep(aheadMs);
  }

  #forget(ids: readonly string[]): boolean {
    const known = ids.filter((id) => this.#own.delete(id));
    for (const id of known) this.#dismissed.add(id);
    bound(this.#dismissed);
    return known.length > 0;
  }

  /** Stores it beside what other tabs have stored, if that is possible. */
  #keep(aheadMs?: number): void {
    const update = this.#clockStore.update((kept) => {
      const conflicts = new Map([...(kept.conflicts ?? []), ...this.#own.values()].map((conflict) => [idOf(conflict), conflict]));
      for (const id of this.#dismissed) conflicts.delete(id);
      bound(conflicts);
      return { ...kept, conflicts: [...conflicts.values()], ...(aheadMs !== undefined && { aheadMs }) };
    });
    update.catch(() => {});
  }

  /**
   * The write with its clock and what its author saw. Where nothing was seen that the server knows, it counts as made when
   * the server receives it, by somebody who sees the row then: a row that is in no list, or that was created here.
   *
   * @throws {InvalidWriteError} when a value is none for its column's rule.
   */
  #stamped(write: Write): Write {
    const { entity, op } = write;
    const queued = this.#replica.queue.flatMap(({ writes }) => writes).concat(this.#begun());
    if (op === "create") return { ...write, hlc: this.#stamps.next(undefined, queued) };
    const rules = rulesOf(this.#replica, entity);
    const key = keyOfWrite(write, this.#replica.keyColumns(entity));
    const holder = rules && key !== undefined && this.#holder(entity, key);
    if (!holder || this.#isReborn(entity, key, holder)) return write;
    const row = holder.rows.get(key)!;
    try {
      const known = mergingRow(row, this.#replica.metadata.get(row), rules);
      const seen = newestOf(known);
      const hlc = this.#stamps.next(seen, queued);
      const born = known.born === GROUND ? undefined : known.born;
      const stamped: Write = { ...write, hlc, ...(born && { born }), ...(seen && { seen }) };
      this.#pending.attempt(stamped, row, rules);
      return stamped;
    } catch (error) {
      if (error instanceof FieldsError) throw new InvalidWriteError(error.message, entity);
      throw error;
    }
  }

  /** A list that has the row, a live one with all columns if there is one. */
  #holder(entity: string, key: RowKey): QueryRows | undefined {
    const holder = this.#replica.holder(entity, key);
    return holder ?? [...this.#replica.queries.values()].find(({ selection, rows }) => selection.entity === entity && rows.has(key));
  }

  /** Whether the user has created or deleted the row since the server sent it. */
  #isReborn(entity: string, key: RowKey, { settled }: QueryRows): boolean {
    const columns = this.#replica.keyColumns(entity);
    const isOf = (write: Write) => write.entity === entity && (write.op === "create" || write.op === "delete") && keyOfWrite(write, columns) === key;
    const begun = this.#begun().filter((step): step is Write => !isCall(step));
    const queue = this.#replica.queue.filter(({ id }) => !settled.has(id));
    return begun.some(isOf) || queue.some((mutation) => this.#replica.writesOn(entity, mutation).some(([of, write]) => of === key && isOf(write)));
  }

  /** The row as it will be, without increments and edits of sets. */
  #resolved({ name, ports }: Entity<Row>, row: Row): Row {
    const rules = rulesOf(this.#replica, name);
    const isEdit = ([column, value]: [string, Json]) =>
      value !== null && typeof value === "object" && ["counter", "set"].includes(rules?.columns[column]?.merge as string);
    const edits = Object.entries(row).filter(isEdit);
    const key = keyOfRow(row, ports.keyColumns(name));
    const current = key !== undefined && edits.length ? ports.current(name, key) : undefined;
    if (!current) return row;
    const after = this.#pending.apply({ entity: name, op: "update", key: key!, values: Object.fromEntries(edits) }, current);
    return { ...row, ...Object.fromEntries(edits.map(([column]) => [column, after?.[column] ?? null])) };
  }
}

