/** A client on a simulated server, with a clock that the test moves. */

import { createSync, type CreateSyncOptions, type SyncClient } from "../../src/create.js";
import type { Clock } from "../../src/connection/clock.js";
import { entity } from "../../src/entity.js";
import type { MutatorFunction } from "../../src/mutators.js";
import * as network from "../../src/network.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { Refusal, type ServerTx } from "./database.js";
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

interface Mark {
  n: number | string;
  refused?: boolean;
}

/** Adds a mark to the row `marks`, once. */
const mark: MutatorFunction<typeof ENTITIES, Mark> = (tx, { n }) => {
  tx.todos.upsert({ id: "marks", title: marked(tx.todos.get("marks")?.title, n) });
};

/** Adds to what it reads, so that to run it on rows that contain it already would be seen. */
const countUp: MutatorFunction<typeof ENTITIES, { n: number }> = (tx) => {
  tx.todos.upsert({ id: "mine-count", title: "count", n: (tx.todos.get("mine-count")?.n ?? 0) + 1 });
};
export const MUTATORS = { markOnce: mark, countUp };
export type Client = SyncClient<typeof ENTITIES, { markOnce: Mark; countUp: { n: number } }>;

/** The same on the server, which may refuse it. */
export const SERVER_MUTATORS = {
  mark_once(tx: ServerTx, args: unknown): void {
    const { n, refused } = args as Mark;
    if (refused) throw new Refusal("unwanted");
    tx.put("todos", { id: "marks", title: marked(tx.get("todos", "marks")?.["title"] as string | undefined, n) });
  },
  count_up(tx: ServerTx): void {
    tx.put("todos", { id: "mine-count", title: "count", n: ((tx.get("todos", "mine-count")?.["n"] as number | undefined) ?? 0) + 1 });
  },
};

export function marked(title: string | undefined, n: number | string): string {
  const marks = title?.split(",") ?? [];
  return (marks.includes(`${n}`) ? marks : [...marks, n]).join(",");
}

export class World {
  readonly clock = new ManualClock();
  readonly server = new SimulatedServer();
  readonly store: Store;

  constructor(store: Store = new MemoryStore()) {
    this.store = store;
    this.server.database.mutators = SERVER_MUTATORS;
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

  client(options: Partial<CreateSyncOptions<typeof ENTITIES>> & { mutators?: Partial<typeof MUTATORS> } = {}): Client {
    return createSync({
      url: "http://server.test/api/sync",
      entities: ENTITIES,
      mutators: MUTATORS,
      storage: this.store,
      connect: true,
      ...options,
      environment: { ...this.environment, ...options.environment },
    }) as Client;
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

  /** Runs until something is so: a store on IndexedDB answers later than one in memory. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await this.settle();
  }
}

/** Every list that a view ever showed, including the first. */
export function recording<R>(view: { rows: readonly R[]; subscribe(listener: () => void): () => void }): (readonly R[])[] {
  const shown = [view.rows];
  view.subscribe(() => shown.push(view.rows));
  return shown;
}
