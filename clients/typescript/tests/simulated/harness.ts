/** A client on a simulated server, with a clock that the test moves. */

import { createSync, type CreateSyncOptions, type SyncClient } from "../../src/create.js";
import type { Clock } from "../../src/connection/clock.js";
import { entity } from "../../src/entity.js";
import * as network from "../../src/network.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { SimulatedServer } from "./server.js";

export interface Todo {
  id: string;
  title: string;
  list?: string;
  done?: boolean;
  n?: number;
}

/** Time passes when the test says so. */
export class ManualClock implements Clock {
  #now = 0;
  #tasks: { at: number; act: () => void }[] = [];

  after(ms: number, act: () => void): () => void {
    const task = { at: this.#now + ms, act };
    this.#tasks.push(task);
    return () => (this.#tasks = this.#tasks.filter((other) => other !== task));
  }

  random(): number {
    return 0.5;
  }

  now(): number {
    return this.#now;
  }

  pass(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const due = this.#tasks.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#tasks = this.#tasks.filter((other) => other !== due);
      this.#now = Math.max(this.#now, due.at);
      due.act();
    }
    this.#now = until;
  }
}

/** Waits for the promises that are under way; no time passes. */
export async function rest(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

export const ENTITIES = { todos: entity<Todo>(), lists: entity<{ id: string; name: string }>() };
export type Client = SyncClient<typeof ENTITIES>;

export class World {
  readonly clock = new ManualClock();
  readonly server = new SimulatedServer();
  readonly store: Store;

  constructor(store: Store = new MemoryStore()) {
    this.store = store;
  }

  /** The client's environment. */
  get environment() {
    return {
      clock: this.clock,
      transports: [this.server.transport],
      channel: undefined,
      network: () => Promise.resolve(network),
    };
  }

  client(options: Partial<CreateSyncOptions<typeof ENTITIES>> = {}): Client {
    return createSync({
      url: "http://server.test/api/sync",
      entities: ENTITIES,
      storage: this.store,
      connect: true,
      ...options,
      environment: { ...this.environment, ...options.environment },
    });
  }

  /** Runs until the server and its clients have nothing more to send. */
  async settle(): Promise<void> {
    do await rest();
    while (this.server.step());
    await rest();
  }

  /** The same, with time for clients that reconnect after a pause. */
  async recover(): Promise<void> {
    await this.settle();
    this.clock.pass(60_000);
    await this.settle();
  }
}

/** Every list that a view ever showed, including the first. */
export function recording<R>(view: { rows: readonly R[]; subscribe(listener: () => void): () => void }): (readonly R[])[] {
  const shown = [view.rows];
  view.subscribe(() => shown.push(view.rows));
  return shown;
}
