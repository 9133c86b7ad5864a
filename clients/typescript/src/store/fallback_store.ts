/**
 * Continues where a store fails: it gives up rows before writes, and replaces a store that cannot be opened,
 * does not answer or is taken away by memory, with everything that this page has. It reports every failure,
 * so that nothing is lost silently.
 */

import type { Clock } from "../connection/clock.js";
import { StorageError } from "../errors.js";
import { emptyCommit, type Commit } from "../replica/commit.js";
import type { ChainLink, Mutation, Numbering } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { MemoryStore } from "./memory.js";
import { readable } from "./repair.js";
import type { Store, Stored, StoredRows } from "./store.js";

/** How long a store may take to open. One that another tab is deleting may never answer. */
export const OPEN_MS = 5_000;
export interface FallbackPorts {
  /** The mutations that the page has open. */
  queue(): readonly Mutation[];
  failed(error: StorageError): void;
  /** Memory has replaced the store, which may be brought back. */
  replaced(error: StorageError): void;
}

/** `memory`: as requested, or because the store is gone, so that only this page has the data. */
export type StorageState = "indexeddb" | "memory" | "full";

export class FallbackStore {
  state: StorageState;
  /** The store as configured. */
  readonly first: Store;
  #store: Store;
  readonly #ports: FallbackPorts;
  readonly #clock: Pick<Clock, "after">;
  /** The id that the configured store gave; undefined before it was opened for the first time. */
  clientId: string | undefined;
  #lastNumber = 0;
  #last: ChainLink | undefined;
  /** Mutations that are known to be in the store. */
  readonly #kept = new Set<string>();
  #frozen = false;
  /** Rejects when the store in use is replaced, because the store itself may never answer. */
  #replaced!: Promise<never>;
  #giveUp!: (error: StorageError) => void;
  isClosed = false;
  /** While it is pending no number is assigned. */
  #returning: Promise<void> | undefined;
  #resume: () => void = () => {};

  constructor(store: Store, clock: Pick<Clock, "after">, ports: FallbackPorts) {
    this.first = this.#store = store;
    this.state = store.kind;
    this.#clock = clock;
    this.#ports = ports;
    this.#rely();
  }

  get shared(): boolean {
    return this.#store.shared;
  }

  /**
   * Assigns no number until `resume`: the store may come back, with mutations that have none there and would be
   * sent again under others.
   */
  hold(): void {
    this.#returning ??= new Promise((resolve) => (this.#resume = resolve));
  }

  resume(): void {
    this.#resume();
    this.#returning = undefined;
  }

  /** What the store in use holds. */
  get held(): Promise<Stored> {
    return this.#store.open();
  }

  async open(): Promise<Stored> {
    const first = this.clientId === undefined;
    const cancel = this.#clock.after(OPEN_MS, () => first && this.#replace(new StorageError("the store does not answer", "wait")));
    let stored: Stored;
    try {
      stored = await this.#use((store) => store.open());
    } catch (error) {
      this.#replace(error);
      stored = await this.#store.open();
    } finally {
      cancel();
    }
    if (this.#store === this.first) this.#opened(stored);
    return readable(stored);
  }

  /** Rows that cannot be read are undefined, so that the server is asked for them. */
  async rows(selection: Selection): Promise<StoredRows | undefined> {
    return this.#use((store) => store.rows(selection)).catch((error) => this.#failed(error));
  }

  async cursor(selection: Selection): Promise<string | undefined> {
    return this.#use((store) => store.cursor(selection)).catch((error) => this.#failed(error));
  }

  /**
   * Returns whether the mutation would survive a reload.
   *
   * @throws {StorageError} when there is no room even without the rows.
   */
  async enqueue(mutation: Mutation): Promise<boolean> {
    await this.#withRoom((store) => store.enqueue(mutation));
    this.#kept.add(mutation.id);
    return this.#store.kind !== "memory";
  }

  /** @throws {StorageError} when the number of a stored mutation cannot be stored. */
  async number(assigned: readonly Numbering[]): Promise<void> {
    try {
      await this.#withRoom(async () => {
        await this.#returning;
        await this.#store.number(assigned);
      });
    } catch (error) {
      // A mutation that only this page has is sent anyway: it cannot come back with another number.
      if (assigned.some(({ id }) => this.#kept.has(id))) throw error;
    }
    for (const { number } of assigned) this.#lastNumber = Math.max(this.#lastNumber, number);
  }

  /**
   * When rows cannot be stored, the stored ones stay at their cursor: later changes must not be added
   * to rows that lack earlier ones. The next reload resumes from there.
   */
  async commit(commit: Commit): Promise<void> {
    try {
      // Rows that the user may no longer see (they have no cursor) are removed anyway.
      const queries = commit.queries.filter(({ rows }) => !this.#frozen || !rows?.cursor);
      await this.#use((store) => store.commit({ ...commit, queries }));
    } catch (error) {
      this.#failed(error);
      // If even the answers cannot be stored, the server repeats them after the next reload.
      if (!this.#frozen) {
        this.#frozen = true;
        await this.commit(commit);
      }
    }
    for (const id of commit.answered) this.#kept.delete(id);
    this.#last = commit.last ?? this.#last;
  }

  /** @throws {StorageError} when a store that keeps mutations cannot do it: they would come back with their old numbers. */
  async fork(clientId: string, answered: readonly string[]): Promise<void> {
    await this.#returning;
    await this.#withRoom((store) => store.fork(clientId, answered));
    if (this.clientId !== undefined) this.clientId = clientId;
    this.#lastNumber = 0;
    this.#last = undefined;
  }

  async dismiss(ids: readonly string[]): Promise<void> {
    await this.#use((store) => store.dismiss(ids)).catch((error) => this.#failed(error));
  }

  close(): void {
    this.isClosed = true;
    this.first.close?.();
  }

  /** Frees rows, which the server has, for what only this store has. */
  async #withRoom(act: (store: Store) => Promise<void>): Promise<void> {
    const store = this.#store;
    try {
      await this.#use(act);
    } catch (error) {
      if (this.#store === store) {
        this.#failed(error);
        await store.free().catch(() => {});
      }
      await this.#use(act);
    }
  }

  #use<T>(act: (store: Store) => Promise<T>): Promise<T> {
    return Promise.race([act(this.#store), this.#replaced]);
  }

  #rely(): void {
    this.#replaced = new Promise((_, reject) => (this.#giveUp = reject));
    this.#replaced.catch(() => {});
  }

  #opened({ clientId, lastNumber, last, queue }: Stored): void {
    if (clientId !== this.clientId) this.#lastNumber = 0;
    this.clientId = clientId;
    this.#lastNumber = Math.max(this.#lastNumber, lastNumber);
    this.#last = last;
    for (const { id } of queue) this.#kept.add(id);
    this.first.onLost?.(() => this.#replace(new StorageError("the store was taken away", "reload")));
  }

  #replace(error: unknown): void {
    if (this.#store !== this.first) return;
    const memory = new MemoryStore(this.clientId);
    if (this.clientId !== undefined) this.hold();
    const giveUp = this.#giveUp;
    this.#store = memory;
    this.#rely();
    this.#kept.clear();
    for (const mutation of this.#ports.queue()) void memory.enqueue(mutation);
    void memory.number([{ id: "", number: this.#lastNumber }]);
    if (this.#last) void memory.commit({ ...emptyCommit(), last: this.#last });
    giveUp(error as StorageError);
    this.#failed(error);
    this.#ports.replaced(error as StorageError);
  }

  /** Uses the configured store again, which has everything by now. */
  returnTo(stored: Stored): void {
    this.#store = this.first;
    this.state = this.first.kind;
    this.#frozen = false;
    this.#opened(stored);
  }

  /** Stores throw only StorageErrors. */
  #failed(error: unknown): undefined {
    this.state = this.#store.kind === "memory" ? "memory" : "full";
    this.#ports.failed(error as StorageError);
  }
}
