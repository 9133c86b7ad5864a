/** The client: entities, views, writes and status over one tab's replica. */

import { errorFromJson, SyncError } from "./errors.js";
import { Entity, type EntityDefinition, type LiveOptions, type PendingWrite, type WriteResult } from "./entity.js";
import type { ClientFrame, ServerFrame, Step } from "./protocol/generated.js";
import type { Row, RowKey } from "./protocol/json.js";
import type { Mutation, Rejection } from "./replica/mutation.js";
import { Replica } from "./replica/replica.js";
import { selectionOf, type Selection } from "./replica/selection.js";
import { View, type Validator } from "./replica/view.js";
import { sameStatus, type Status } from "./status.js";
import { Tab, type TabOptions } from "./tabs/tab.js";
import { uuid } from "./uuid.js";

/** How long a closed list is kept up to date, in case it is opened again. */
const LINGER_MS = 5_000;

export interface SyncEvents {
  /** The status has changed. */
  status: Status;
  /** The server has rejected a mutation. */
  rejected: Rejection;
  /** Rows of the named entity have changed in some view. */
  change: string;
  /** Something went wrong and was handled; for logs. Without a listener it goes to the console. */
  problem: SyncError;
  /** A frame was sent or received; only in the leading tab. */
  frame: { direction: "sent" | "received"; frame: ClientFrame | ServerFrame };
}

/**
 * Adds to a client, before it has read its store. `write` queues a step, or adds it to the transaction that has
 * begun; `begun` has the steps of that one; `options` are those of its tab.
 */
export type Extension = (sync: Sync, replica: Replica, write: (step: Step) => Promises, begun: () => readonly Step[], options: TabOptions) => void;

interface Opened {
  selection: Selection;
  views: number;
  linger: (() => void) | undefined;
}

type Promises = Omit<PendingWrite, "key">;

/** The promises of a write, and what resolves them. */
class Receipt {
  saved: (saved: boolean) => void = () => {};
  result: (result: WriteResult) => void = () => {};
  readonly promises: Promises = {
    saved: new Promise((resolve) => (this.saved = resolve)),
    result: new Promise((resolve) => (this.result = resolve)),
  };
}

/** A client, made by `createSync`. */
export class Sync {
  readonly #replica: Replica;
  readonly #tab: Tab;
  readonly #clock: TabOptions["clock"];
  readonly #unlisten: () => void;
  readonly #views = new Set<View<never>>();
  readonly #opened = new Map<string, Opened>();
  readonly #listeners: { [E in keyof SyncEvents]?: Set<(event: SyncEvents[E]) => void> } = {};
  readonly #results = new Map<string, (result: WriteResult) => void>();
  readonly #entities = new Map<string, Entity<Row>>();
  #reported = new Set<string>();
  #transaction: { writes: Step[]; receipt: Receipt } | undefined;
  #status: Status;
  #closed = false;

  constructor(
    entities: { [name: string]: EntityDefinition<object> },
    options: TabOptions,
    listen: (sync: Sync, tab: Tab) => () => void,
    ...extensions: (Extension | undefined)[]
  ) {
    const keys = new Map(Object.entries(entities).map(([name, { key }]) => [name, typeof key === "string" ? [key] : key]));
    this.#clock = options.clock;
    this.#replica = new Replica((name) => keys.get(name));
    this.#tab = new Tab(this.#replica, options, {
      changed: () => this.#changed(),
      problem: (error) => this.#emit("problem", error),
      traffic: (direction, frame) => this.#emit("frame", { direction, frame }),
    });
    this.#status = this.#currentStatus();
    for (const [name, definition] of Object.entries(entities)) this.#define(name, definition as EntityDefinition<Row>);
    for (const extend of extensions) extend?.(this, this.#replica, (step) => this.#write(step), () => this.#transaction?.writes ?? [], options);
    this.#unlisten = listen(this, this.#tab);
  }

  get status(): Status {
    return this.#status;
  }

  /** The dead letters: rejected mutations, until they are dismissed or tried again. */
  get rejected(): readonly Rejection[] {
    return this.#replica.rejected;
  }

  /** Mutations that the server has not answered, oldest first. */
  get pending(): readonly Mutation[] {
    return this.#replica.queue.filter((mutation) => this.#replica.isPending(mutation));
  }

  /** Resolves when the store has been read. Waiting for it is never necessary. */
  get opened(): Promise<void> {
    return this.#tab.opened;
  }

  entity(name: string): Entity<Row> {
    const entity = this.#entities.get(name);
    if (!entity) throw new SyncError("unknown_entity", `no entity ${name}`);
    return entity;
  }

  /**
   * Calls `listener` at each event; the result ends that.
   *
   *     const end = sync.on("rejected", ({ message }) => alert(message));
   */
  on<E extends keyof SyncEvents>(event: E, listener: (event: SyncEvents[E]) => void): () => void {
    const listeners = ((this.#listeners[event] as Set<typeof listener> | undefined) ??=
      (this.#listeners[event] = new Set() as never) as Set<typeof listener>);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /**
   * Makes all writes in `act` one mutation: applied together or not at all. `act` must be synchronous.
   *
   *     const { result } = sync.transaction(() => {
   *       for (const { id, done } of todos.rows) if (done) sync.todos.delete(id);
   *     });
   */
  transaction(act: () => void): Promises {
    if (this.#transaction) throw new SyncError("invalid", "nested");
    const { writes, receipt } = (this.#transaction = { writes: [] as Step[], receipt: new Receipt() });
    try {
      const result: unknown = act();
      if (result instanceof Promise) throw new SyncError("invalid", "asynchronous transaction");
    } finally {
      this.#transaction = undefined;
    }
    if (writes.length) this.#enqueue(writes, receipt);
    else {
      receipt.saved(true);
      receipt.result({ ok: true });
    }
    return receipt.promises;
  }

  /** Removes dead letters. */
  dismiss(...ids: string[]): void {
    void this.#tab.dismiss(ids);
  }

  /** Tries a dead letter again, as a new mutation. */
  retry(id: string): void {
    const rejection = this.#replica.rejected.find((rejected) => rejected.id === id);
    if (!rejection) return;
    this.#enqueue(rejection.writes, new Receipt());
    this.dismiss(id);
  }

  /** Connects after `disconnect`, or at once instead of after a pause. */
  connect(): void {
    this.#tab.command("connect");
  }

  /** Stays offline until `connect`, whatever the network does. */
  disconnect(): void {
    this.#tab.command("disconnect");
  }

  /** Asks for a fresh token and sends it to the server. */
  authenticate(): void {
    this.#tab.command("authenticate");
  }

  /** Ends everything. The store keeps what it has. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#unlisten();
    for (const { linger } of this.#opened.values()) linger?.();
    await this.#tab.close();
  }

  #define(name: string, definition: EntityDefinition<Row>): void {
    if (name in this) throw new SyncError("unknown_entity", `${name} is reserved`);
    const entity = new Entity<Row>(name, definition, {
      keyColumns: (of) => this.#replica.keyColumns(of),
      columnType: (of, column) => this.#replica.columnType(of, column),
      current: (of, key) => this.#current(of, key),
      view: (of, options, validate) => this.#view(of, options, validate),
      write: (write) => this.#write(write),
    });
    this.#entities.set(name, entity);
    Object.defineProperty(this, name, { value: entity, enumerable: true });
  }

  #write(step: Step): Promises {
    if (this.#closed) throw new SyncError("closed", "closed", "report");
    const { writes, receipt } = this.#transaction ?? { writes: undefined, receipt: new Receipt() };
    if (writes) writes.push(step);
    else this.#enqueue([step], receipt);
    return receipt.promises;
  }

  #enqueue(writes: Step[], receipt: Receipt): void {
    const mutation: Mutation = { id: uuid(), writes, madeAt: this.#clock.now() };
    this.#results.set(mutation.id, receipt.result);
    void this.#tab.enqueue(mutation).then(receipt.saved);
  }

  #view(entity: string, options: LiveOptions<never>, validate: Validator | undefined): View<never> {
    const open = (limit = options.limit) => {
      const selection = selectionOf(entity, limit === undefined ? options : { ...options, limit });
      this.#open(selection);
      return this.#replica.query(selection);
    };
    const view: View<never> = new View<never>(this.#replica, open(), {
      order: options.order,
      orderBy: options.orderBy ?? (options.limit === undefined ? undefined : []),
      validate,
      open,
      release: ({ selection }) => this.#release(selection.name),
      close: () => this.#views.delete(view),
    });
    this.#views.add(view);
    return view;
  }

  #open(selection: Selection): void {
    const opened = this.#opened.get(selection.name);
    if (opened) {
      opened.views += 1;
      opened.linger?.();
      opened.linger = undefined;
      return;
    }
    this.#opened.set(selection.name, { selection, views: 1, linger: undefined });
    this.#tab.want(selection);
  }

  #release(name: string): void {
    const opened = this.#opened.get(name);
    if (!opened || --opened.views > 0 || this.#closed) return;
    opened.linger = this.#clock.after(LINGER_MS, () => {
      this.#opened.delete(name);
      this.#tab.unwant(name);
    });
  }

  #current(entity: string, key: RowKey): Row | undefined {
    for (const query of this.#replica.queries.values()) {
      if (query.selection.entity !== entity || !query.isFull) continue;
      const over = this.#replica.overlay(query).get(key);
      if (over === null) return undefined;
      const row = over ?? query.rows.get(key);
      if (row) return row;
    }
    return undefined;
  }

  /** All views take in a step before any listener is called, so that none sees half of it. */
  #changed(): void {
    const changed = [...this.#views].filter((view) => view.refresh());
    const status = this.#currentStatus();
    const statusChanged = !sameStatus(status, this.#status);
    if (statusChanged) this.#status = status;
    for (const view of changed) view.notify();
    for (const entity of new Set(changed.map((view) => view.entity))) this.#emit("change", entity);
    this.#settleResults();
    if (statusChanged) this.#emit("status", status);
  }

  #settleResults(): void {
    for (const rejection of this.#replica.rejected) {
      if (this.#reported.has(rejection.id)) continue;
      this.#reported.add(rejection.id);
      const { code, message, reason } = rejection;
      this.#results.get(rejection.id)?.({ ok: false, code, message, reason });
      this.#results.delete(rejection.id);
      this.#emit("rejected", rejection);
    }
    if (this.#results.size === 0) return;
    const open = new Set(this.pending.map(({ id }) => id));
    for (const [id, resolve] of this.#results) {
      if (open.has(id)) continue;
      resolve({ ok: true });
      this.#results.delete(id);
    }
  }

  #currentStatus(): Status {
    const { state, error, syncedAt, transport, features } = this.#tab.status;
    const pending = this.pending.length;
    return {
      state,
      error: error && errorFromJson(error),
      pending,
      unsaved: this.#tab.storage === "indexeddb" ? 0 : this.#tab.unsaved,
      rejected: this.#replica.rejected.length,
      lastSynced: syncedAt === undefined ? undefined : new Date(Math.floor(syncedAt / 1000) * 1000),
      storage: this.#tab.storage,
      leader: this.#tab.leads,
      transport,
      features,
    };
  }

  #emit<E extends keyof SyncEvents>(event: E, value: SyncEvents[E]): void {
    if (event === "problem" && !this.#listeners.problem?.size) console.warn(`rhtmx-sync: ${(value as SyncError).message}`);
    for (const listener of [...(this.#listeners[event] ?? [])]) listener(value);
  }
}
