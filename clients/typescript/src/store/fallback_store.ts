/**
 * Stands before the store and goes on without it where it fails: rows are given up before writes, and
 * a store that is taken away is replaced by memory, with all that this page knows. Nothing is lost
 * in silence: each of these is told.
 */

import { StorageError } from "../errors.js";
import type { Commit } from "../replica/commit.js";
import type { Mutation, Numbering } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { MemoryStore } from "./memory.js";
import type { Store, Stored, StoredRows } from "./store.js";

export interface FallbackPorts {
  /** What the page has open, for the store that takes over. */
  open(): { queue: readonly Mutation[] };
  failed(error: StorageError): void;
}

/** How the store is: as asked for, gone (this page alone keeps what there is), or full. */
export type StorageState = "indexeddb" | "memory" | "full";

export class FallbackStore {
  state: StorageState;
  #store: Store;
  readonly #ports: FallbackPorts;
  #clientId: string | undefined;
  #lastNumber = 0;
  /** Mutations that are in the store for sure. */
  readonly #kept = new Set<string>();
  #frozen = false;

  constructor(store: Store, ports: FallbackPorts) {
    this.#store = store;
    this.state = store.kind;
    this.#ports = ports;
  }

  get shared(): boolean {
    return this.#store.shared;
  }

  async open(): Promise<Stored> {
    let stored: Stored;
    try {
      stored = await this.#store.open();
    } catch (error) {
      await this.#replace(error);
      stored = await this.#store.open();
    }
    this.#store.onLost?.(() => void this.#replace(new StorageError("the store was taken away", "reload")));
    this.#clientId = stored.clientId;
    this.#lastNumber = stored.lastNumber;
    for (const { id } of stored.queue) this.#kept.add(id);
    return stored;
  }

  /** Rows that cannot be read are asked for again. */
  async rows(selection: Selection): Promise<StoredRows | undefined> {
    return this.#store.rows(selection).catch((error) => this.#failed(error));
  }

  async cursor(selection: Selection): Promise<string | undefined> {
    return this.#store.cursor(selection).catch((error) => this.#failed(error));
  }

  /** @throws {StorageError} when there is no room, not even without the rows. */
  async enqueue(mutation: Mutation): Promise<void> {
    await this.#withRoom(() => this.#store.enqueue(mutation));
    this.#kept.add(mutation.id);
  }

  /** @throws {StorageError} when a mutation that is kept cannot be given its number for good. */
  async number(assigned: readonly Numbering[]): Promise<void> {
    try {
      await this.#withRoom(() => this.#store.number(assigned));
    } catch (error) {
      // What this page alone has is sent all the same: it cannot come back with another number.
      if (assigned.some(({ id }) => this.#kept.has(id))) throw error;
    }
    for (const { number } of assigned) this.#lastNumber = Math.max(this.#lastNumber, number);
  }

  /**
   * Where rows cannot be kept they stay as they are, at their cursor: what comes later must not be
   * added to rows that lack what came before it. The next reload goes on from there.
   */
  async commit(commit: Commit): Promise<void> {
    try {
      // Rows that the user may no longer see, which have no cursor, go all the same.
      const queries = commit.queries.filter(({ rows }) => !this.#frozen || !rows?.cursor);
      await this.#store.commit({ ...commit, queries });
    } catch (error) {
      this.#failed(error);
      // When even the answers cannot be kept, they come again after the next reload.
      if (!this.#frozen) {
        this.#frozen = true;
        await this.commit(commit);
      }
    }
    for (const id of commit.answered) this.#kept.delete(id);
  }

  async dismiss(ids: readonly string[]): Promise<void> {
    await this.#store.dismiss(ids).catch((error) => this.#failed(error));
  }

  close(): void {
    this.#store.close?.();
  }

  /** Rows can be had again, so they make room for what cannot. */
  async #withRoom(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#failed(error);
      await this.#store.free().catch(() => {});
      await act();
    }
  }

  async #replace(error: unknown): Promise<void> {
    const memory = new MemoryStore(this.#clientId);
    this.#store = memory;
    this.#kept.clear();
    for (const mutation of this.#ports.open().queue) await memory.enqueue(mutation);
    await memory.number([{ id: "", number: this.#lastNumber }]);
    this.#failed(error);
  }

  /** Stores throw nothing but StorageErrors. */
  #failed(error: unknown): undefined {
    this.state = this.#store.kind === "memory" ? "memory" : "full";
    this.#ports.failed(error as StorageError);
  }
}
