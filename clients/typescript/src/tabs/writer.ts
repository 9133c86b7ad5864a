/**
 * Writes commits to the store one after another. Those that arrive while the store is busy become one
 * transaction: the store may skip states, but never holds one that did not exist.
 */

import type { Commit } from "../replica/commit.js";
import { mergeCommits } from "../store/merge.js";
import type { Store } from "../store/store.js";

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

  /** Resolves when everything so far is stored, or has failed. */
  async idle(): Promise<void> {
    await this.#busy;
  }

  async #run(): Promise<void> {
    // Commits of the same turn go together.
    await Promise.resolve();
    while (this.#waiting.length) {
      const commit = mergeCommits(this.#waiting);
      this.#waiting = [];
      await this.#store.commit(commit);
    }
    this.#busy = undefined;
  }
}
