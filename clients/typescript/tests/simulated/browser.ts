/** A browser whose tabs share locks, a channel and a store, and can be closed or killed. */

import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import type { Election } from "../../src/tabs/election.js";
import type { Envelope, TabChannel } from "../../src/tabs/message.js";
import { World, type Client } from "./harness.js";
import { MortalStore } from "./mortal.js";

class SharedStore extends MortalStore {
  override readonly shared: boolean = true;
}

/** A tab, as a test sees it. */
export class BrowserTab {
  readonly store: SharedStore;
  readonly channels: Set<SimulatedChannel> = new Set();
  sync!: Client;
  alive = true;

  constructor(readonly browser: Browser) {
    this.store = new SharedStore(browser.disk);
  }

  async close(): Promise<void> {
    await this.sync.close();
    this.alive = false;
  }

  /** Stops everything that is under way: messages, transactions, frames. */
  kill(): void {
    this.alive = false;
    this.store.kill();
    for (const channel of this.channels) channel.close();
    this.browser.locks.release(this);
  }
}

class SimulatedChannel implements TabChannel {
  onmessage: ((event: MessageEvent<Envelope>) => void) | null = null;

  constructor(readonly tab: BrowserTab, readonly all: Set<SimulatedChannel>) {
    all.add(this);
    tab.channels.add(this);
  }

  postMessage(envelope: Envelope): void {
    if (!this.tab.alive) return;
    const copy = structuredClone(envelope);
    for (const other of this.all) {
      if (other === this || !this.tab.browser.delivers(other.tab, copy)) continue;
      queueMicrotask(() => {
        if (other.tab.alive && this.all.has(other)) other.onmessage?.({ data: structuredClone(copy) } as MessageEvent<Envelope>);
      });
    }
  }

  close(): void {
    this.all.delete(this);
  }
}

class Locks {
  #waiting: { tab: BrowserTab; elected: () => void }[] = [];
  #holder: BrowserTab | undefined;

  election(tab: BrowserTab): Election {
    return (_name, elected) => {
      this.#waiting.push({ tab, elected });
      this.#next();
      return () => this.release(tab);
    };
  }

  release(tab: BrowserTab): void {
    this.#waiting = this.#waiting.filter((waiting) => waiting.tab !== tab);
    if (this.#holder === tab) this.#holder = undefined;
    this.#next();
  }

  #next(): void {
    if (this.#holder) return;
    const next = this.#waiting.shift();
    this.#holder = next?.tab;
    next?.elected();
  }
}

export class Browser {
  readonly world = new World();
  readonly disk = new MemoryStore();
  readonly locks = new Locks();
  readonly #channels = new Set<SimulatedChannel>();
  /** Whether a message reaches a tab. */
  delivers: (to: BrowserTab, envelope: Envelope) => boolean = () => true;

  tab(options: Parameters<World["client"]>[0] = {}): BrowserTab {
    const tab = new BrowserTab(this);
    tab.sync = this.world.client({
      ...options,
      storage: tab.store as Store,
      environment: {
        election: this.locks.election(tab),
        channel: () => new SimulatedChannel(tab, this.#channels),
        transports: [
          {
            name: "simulated",
            open: (handlers) => {
              // The socket of a killed page dies with it.
              const guarded = { ...handlers };
              for (const name of ["opened", "frame", "received", "problem", "closed"] as const) {
                const handler = handlers[name] as (...args: unknown[]) => void;
                guarded[name] = ((...args: unknown[]) => tab.alive && handler(...args)) as never;
              }
              return this.world.server.transport.open(guarded);
            },
          },
        ],
      },
    });
    return tab;
  }
}
