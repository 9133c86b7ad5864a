/** A store whose page can be killed: operations that are not done by then never happen. */

import type { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";

export class MortalStore implements Store {
  readonly kind: Store["kind"] = "indexeddb";
  readonly shared: boolean = false;
  #dead = false;
  #gate: Promise<void> | undefined;
  #open: () => void = () => {};

  constructor(readonly disk: MemoryStore) {}

  /** Holds back every operation, as a busy disk does. */
  pause(): void {
    this.#gate ??= new Promise((resolve) => (this.#open = resolve));
  }

  resume(): void {
    this.#gate = undefined;
    this.#open();
  }

  kill(): void {
    this.#dead = true;
    this.resume();
  }

  open = () => this.#do(() => this.disk.open());
  rows: Store["rows"] = (selection) => this.#do(() => this.disk.rows(selection));
  cursor: Store["cursor"] = (selection) => this.#do(() => this.disk.cursor(selection));
  enqueue: Store["enqueue"] = (mutation) => this.#do(() => this.disk.enqueue(mutation));
  number: Store["number"] = (assigned) => this.#do(() => this.disk.number(assigned));
  commit: Store["commit"] = (commit) => this.#do(() => this.disk.commit(commit));
  dismiss: Store["dismiss"] = (ids) => this.#do(() => this.disk.dismiss(ids));
  fork: Store["fork"] = (clientId, answered) => this.#do(() => this.disk.fork(clientId, answered));
  free = () => this.#do(() => this.disk.free());

  async #do<T>(act: () => Promise<T>): Promise<T> {
    while (this.#gate && !this.#dead) await this.#gate;
    if (this.#dead) return new Promise<T>(() => {});
    return act();
  }
}
