/**
 * Writes commits to the store one after another. What comes while the store is busy goes into one
 * transaction: the store may skip states, but it never holds one that did not exist.
 */

import type { Commit } from "../replica/commit.js";
import type { Store } from "../store/store.js";
import { mergeCommits } from "../store/merge.js";

export class Writer {
  readonly #store: Pick<Store, "commit">;
  #waiting: Commit[] = [];
  #busy: Promise<void> | undefined;

  constructor(store: Pick<Store, "commit">) {
    this.#store = store;
  }

  write(commit: Commit): void {
    const keeps = commit.answered.length || commit.rejected.length || commit.queries.some(({ rows }) => rows);
    if (!keeps) return;
    this.#waiting.push(commit);
    this.#busy ??= this.#run();
  }

  /** Resolves when everything written so far is kept, or cannot be. */
  async idle(): Promise<void> {
    await this.#busy;
  }

  async #run(): Promise<void> {
    // What comes in the same turn goes together.
    await Promise.resolve();
    while (this.#waiting.length) {
      const commit = mergeCommits(this.#waiting);
      this.#waiting = [];
      await this.#store.commit(commit);
    }
    this.#busy = undefined;
  }
}
