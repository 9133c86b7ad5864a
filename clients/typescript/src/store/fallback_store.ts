/**
 * Continues where a store fails: it gives up rows before writes, and replaces a store that is taken
 * away by memory, with everything that this page has. It reports every failure, so that nothing is
 * lost silently.
 */

import { StorageError } from "../errors.js";
import type { Commit } from "../replica/commit.js";
import type { Mutation, Numbering } from "../replica/mutation.js";
import type { Selection } from "../replica/selection.js";
import { MemoryStore } from "./memory.js";
import type { Store, Stored, StoredRows } from "./store.js";

export interface FallbackPorts {
  /** What the page has open, for the store in memory. */
  open(): { queue: readonly Mutation[] };
  failed(error: StorageError): void;
}

/** `memory`: as requested, or because the store is gone, so that only this page has the data. */
export type StorageState = "indexeddb" | "memory" | "full";

export class FallbackStore {
  state: StorageState;
  #store: Store;
  readonly #ports: FallbackPorts;
  #clientId: string | undefined;
  #lastNumber = 0;
  /** Mutations that are known to be in the store. */
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

  /** Rows that cannot be read are undefined, so that the server is asked for them. */
  async rows(selection: Selection): Promise<StoredRows | undefined> {
    return this.#store.rows(selection).catch((error) => this.#failed(error));
  }

  async cursor(selection: Selection): Promise<string | undefined> {
    return this.#store.cursor(selection).catch((error) => this.#failed(error));
  }

  /** @throws {StorageError} when there is no room even without the rows. */
  async enqueue(mutation: Mutation): Promise<void> {
    await this.#withRoom(() => this.#store.enqueue(mutation));
    this.#kept.add(mutation.id);
  }

  /** @throws {StorageError} when the number of a stored mutation cannot be stored. */
  async number(assigned: readonly Numbering[]): Promise<void> {
    try {
      await this.#withRoom(() => this.#store.number(assigned));
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
      await this.#store.commit({ ...commit, queries });
    } catch (error) {
      this.#failed(error);
      // If even the answers cannot be stored, the server repeats them after the next reload.
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

  /** Frees rows, which the server has, for what only this store has. */
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

  /** Stores throw only StorageErrors. */
  #failed(error: unknown): undefined {
    this.state = this.#store.kind === "memory" ? "memory" : "full";
    this.#ports.failed(error as StorageError);
  }
}
