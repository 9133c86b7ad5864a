/** Makes a client out of what an application says and what the browser has. */

import type { TokenSource } from "./connection/connection.js";
import { systemClock, type Clock } from "./connection/clock.js";
import type { Transport } from "./connection/transport.js";
import type { EntityDefinition, Entity } from "./entity.js";
import { IndexedDbStore } from "./store/indexeddb.js";
import { MemoryStore } from "./store/memory.js";
import type { Store } from "./store/store.js";
import { Sync } from "./sync.js";
import { alone, webLocks, type Election } from "./tabs/election.js";
import type { TabChannel } from "./tabs/message.js";
import type { Network, Tab } from "./tabs/tab.js";

type Definitions = { [name: string]: EntityDefinition<object> };
type RowOf<D> = D extends EntityDefinition<infer R extends object> ? R : never;

/** A client, with its entities by their names. */
export type SyncClient<D extends Definitions> = Sync & { readonly [name in keyof D]: Entity<RowOf<D[name]>> };

export interface CreateSyncOptions<D extends Definitions> {
  /** Where the engine is mounted. Default `/api/sync` on the page's own server. */
  url?: string | URL;
  entities: D;
  /** The token, or what supplies it. Called before each connection and when the server refuses one. */
  token?: string | TokenSource;
  /** Default: IndexedDB, where there are Web Locks and BroadcastChannel too; else memory. */
  storage?: "indexeddb" | "memory" | Store;
  /**
   * The name of the local store. Tabs with the same name share it, its device id and one connection.
   * Choose one for each user, so that a shared computer does not mix their queues.
   */
  name?: string;
  /** False: waits for `connect()`. */
  connect?: boolean;
  /** For tests and other environments. */
  environment?: Partial<Environment>;
}

/** What the client takes from its surroundings. */
export interface Environment {
  clock: Clock;
  network: () => Promise<Network>;
  transports: readonly Transport[];
  election: Election;
  channel: ((name: string) => TabChannel) | undefined;
}

export function createSync<const D extends Definitions>(options: CreateSyncOptions<D>): SyncClient<D> {
  const { environment = {}, token } = options;
  // On a server there is no page to be relative to, and nothing to connect for unless told so.
  const inPage = typeof window !== "undefined";
  const url = new URL(options.url ?? "/api/sync", inPage ? location.href : "http://localhost");
  const clock = environment.clock ?? systemClock;
  const name = options.name ?? `rhtmx-sync:${url.host}${url.pathname}`;
  const tab = {
    name,
    store: storeOf(options.storage, name),
    election: environment.election ?? (globalThis.navigator?.locks ? webLocks(navigator.locks) : alone),
    channel: "channel" in environment ? environment.channel : (name: string) => new BroadcastChannel(name) as TabChannel,
    connect: options.connect ?? inPage,
    network: environment.network ?? network,
    transports: environment.transports,
    url,
    token: typeof token === "string" ? () => token : token,
    clock,
  };
  // Begun now, needed when the store has been read.
  tab.network().catch(() => {});
  return new Sync(options.entities, tab, listenToBrowser) as SyncClient<D>;
}

const network = () => import("./network.js");

function storeOf(storage: CreateSyncOptions<Definitions>["storage"], name: string): Store {
  if (typeof storage === "object") return storage;
  // Tabs that cannot agree on a leader must not share a store: each would send its queue again.
  const available = globalThis.indexedDB && globalThis.navigator?.locks && globalThis.BroadcastChannel;
  return storage === "memory" || !available ? new MemoryStore() : new IndexedDbStore(name);
}


/** What the browser knows of the network and of the page. */
function listenToBrowser(sync: Sync, tab: Tab): () => void {
  if (typeof window === "undefined") return () => {};
  const ends = new AbortController();
  const listen = (target: EventTarget, event: string, act: (event: Event) => void) =>
    target.addEventListener(event, act, { signal: ends.signal });
  listen(window, "online", () => tab.command("wake"));
  listen(window, "offline", () => tab.wentOffline());
  listen(document, "visibilitychange", () => {
    if (document.visibilityState === "visible") tab.command("wake");
  });
  listen(document, "resume", () => tab.resumed());
  // A page that is only put aside comes back.
  listen(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && tab.resumed());
  listen(window, "pagehide", (event) => (event as PageTransitionEvent).persisted || void sync.close());
  return () => ends.abort();
}
