/** Makes a client from the application's options and what the browser has. */

import { systemClock, type Clock } from "./connection/clock.js";
import type { TokenSource } from "./connection/connection.js";
import type { Transport } from "./connection/transport.js";
import type { Definitions, Entity, RowOf } from "./entity.js";
import type { Fields, FieldsEntity } from "./fields.js";
import { mutating, type Mutate, type MutatorFunctions } from "./mutators.js";
import { IndexedDbStore } from "./store/indexeddb.js";
import { MemoryStore } from "./store/memory.js";
import type { Store } from "./store/store.js";
import { Sync, type Extension } from "./sync.js";
import { alone, webLocks, type Election } from "./tabs/election.js";
import type { TabChannel } from "./tabs/message.js";
import type { Network, Tab } from "./tabs/tab.js";

/** A client, with each entity under its name, and its mutators under `mutate`; `F` are the entities that merge by their fields. */
export type SyncClient<D extends Definitions, M = {}, F = never> = Sync &
  { readonly [name in keyof D]: name extends F ? FieldsEntity<RowOf<D[name]>> : Entity<RowOf<D[name]>> } &
  ([keyof M] extends [never] ? unknown : { readonly mutate: Mutate<M> });

export interface CreateSyncOptions<D extends Definitions, F extends string = never> {
  /** Where the engine is mounted. Default `/api/sync` on the page's own server. */
  url?: string | URL;
  entities: D;
  /** The token, or a callback for it, called before each connection and when the server rejects one. */
  token?: string | TokenSource;
  /** Default: IndexedDB where Web Locks and BroadcastChannel exist too, else memory. */
  storage?: "indexeddb" | "memory" | Store;
  /**
   * The name of the local store. Tabs with the same name share it, its client id and one connection.
   * Use one name per user, so that a shared computer does not mix their queues.
   */
  name?: string;
  /** False: stays offline until `connect()`. Default true in a page, false elsewhere. */
  connect?: boolean;
  /** Entities whose rows merge by their fields: `fields(["todos"])`, from `@rhtmx/sync/fields`. */
  fields?: Fields<F> | undefined;
  /** For tests and other environments. */
  environment?: Partial<Environment>;
}

/** Clock, network and tabs, as the client finds them. */
export interface Environment {
  clock: Clock;
  network: () => Promise<Network>;
  transports: readonly Transport[];
  election: Election;
  channel: ((name: string) => TabChannel) | undefined;
}

/**
 * Opens the local store, shows what it holds, and connects.
 *
 *     const sync = createSync({ entities: { todos: entity<Todo>() } });
 *     const open = sync.todos.live({ where: "done = false" });
 *     open.subscribe(() => render(open.rows));
 *     sync.todos.create({ title: "Milk", done: false });
 *
 * `mutators` are functions of the server, with what they are expected to do here:
 *
 *     mutators: { completeTodo(tx, args: { id: string }) { tx.todos.update(args.id, { done: true }); } }
 *     const { result } = sync.mutate.completeTodo({ id: "42" });
 *
 * @throws {SyncError} when a mutator has a name that the server does not take.
 */
export function createSync<const D extends Definitions, M = {}, F extends keyof D & string = never>(
  options: CreateSyncOptions<D, F> & {
    /** What mutators of the server are expected to do, by name, with capitals instead of `_`. */
    mutators?: MutatorFunctions<D, M>;
  },
): SyncClient<D, M, F> {
  const { entities, mutators } = options;
  return createExtended(options, mutators && mutating(entities, mutators)) as SyncClient<D, M, F>;
}

/** The same without mutators, for the bundle that has no room for them, or with something else. */
export function createExtended<const D extends Definitions, F extends keyof D & string = never>(
  options: CreateSyncOptions<D, F>,
  extend?: Extension,
): SyncClient<D, {}, F> {
  const { environment = {}, token } = options;
  // When rendering on a server there is no page to be relative to, and no reason to connect.
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
  // Loads while the store is being read; a failure is reported when the code is needed.
  tab.network().catch(() => {});
  return new Sync(options.entities, tab, listenToBrowser, extend, options.fields) as SyncClient<D, {}, F>;
}

const network = () => import("./network.js");

function storeOf(storage: CreateSyncOptions<Definitions>["storage"], name: string): Store {
  if (typeof storage === "object") return storage;
  // Tabs that cannot elect a leader must not share a store: each would send the whole queue.
  const available = globalThis.indexedDB && globalThis.navigator?.locks && globalThis.BroadcastChannel;
  return storage === "memory" || !available ? new MemoryStore() : new IndexedDbStore(name);
}

/** Passes on what the browser reports of the network and of the page. */
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
  // A page in the back/forward cache comes back.
  listen(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && tab.resumed());
  listen(window, "pagehide", (event) => (event as PageTransitionEvent).persisted || void sync.close());
  return () => ends.abort();
}
