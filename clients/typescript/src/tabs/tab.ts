/**
 * One tab: its replica, its use of the store, and its place among the other tabs, as the leader or as a
 * follower.
 */

import type { Clock } from "../connection/clock.js";
import type { TokenSource } from "../connection/connection.js";
import type { Transport } from "../connection/transport.js";
import { errorToJson, SyncError, type StorageError } from "../errors.js";
import type { ClientFrame, ServerFrame } from "../protocol/generated.js";
import { emptyCommit } from "../replica/commit.js";
import type { Mutation } from "../replica/mutation.js";
import type { Replica } from "../replica/replica.js";
import type { Selection } from "../replica/selection.js";
import { FallbackStore, type StorageState } from "../store/fallback_store.js";
import type { Store, Stored } from "../store/store.js";
import type { bringBack } from "../store/return.js";
import { uuid } from "../uuid.js";
import { alone, type Election } from "./election.js";
import type { Follower } from "./follower.js";
import type { Leader } from "./leader.js";
import type { Command, Envelope, Message, SharedStatus, TabChannel } from "./message.js";

/** The code that is needed only after the first paint. */
export interface Network {
  Leader: typeof Leader;
  Follower: typeof Follower;
  bringBack: typeof bringBack;
  /** The transports, in the order in which they are tried. */
  transportsTo(url: URL, clock: Clock): Transport[];
}

/** The pause before loading the network code again. */
const LOAD_AGAIN_MS = 5_000;

export interface TabOptions {
  name: string;
  store: Store;
  election: Election;
  /** Undefined: this tab shares nothing with others. */
  channel: ((name: string) => TabChannel) | undefined;
  /** Loads the code that connects. */
  network: () => Promise<Network>;
  /** Default: those of the network. */
  transports: readonly Transport[] | undefined;
  url: URL;
  token: TokenSource | undefined;
  clock: Clock;
  /** Whether to connect without a command. */
  connect: boolean;
}

export interface TabPorts {
  /** What a view or the status shows may have changed. */
  changed(): void;
  problem(error: SyncError): void;
  traffic(direction: "sent" | "received", frame: ClientFrame | ServerFrame): void;
}

export class Tab {
  readonly id = uuid();
  /** Resolves when the queue and the dead letters have been read from the store. */
  readonly opened: Promise<void>;
  status: SharedStatus = { state: "connecting", features: [] };
  readonly #options: TabOptions;
  readonly #ports: TabPorts;
  readonly #replica: Replica;
  readonly #store: FallbackStore;
  #follower: Follower | undefined;
  #leader: Leader | undefined;
  #channel: TabChannel | undefined;
  #endElection: () => void = () => {};
  /** Stands for one election, which may be called off. */
  #candidacy: object | undefined;
  #closed = false;
  /** Whether the application wants a connection. Every tab remembers this, in case it becomes the leader. */
  #connects: boolean;
  readonly #wanted = new Map<string, Selection>();
  readonly #loading = new Map<string, Promise<void>>();
  /** Mutations that only pages have, also other tabs'. */
  readonly #unsaved = new Set<string>();
  /** Writes on their way to the store, by the mutation's id. */
  readonly #saving = new Map<string, Promise<boolean>>();

  constructor(replica: Replica, options: TabOptions, ports: TabPorts) {
    this.#replica = replica;
    this.#options = options;
    this.#ports = ports;
    this.#store = new FallbackStore(options.store, options.clock, {
      queue: () => replica.queue,
      failed: (error) => this.#storageFailed(error),
      replaced: (error) => void this.#bringBack(error),
    });
    replica.onChange = ports.changed;
    this.#connects = options.connect;
    if (!options.connect) this.status.state = "offline";
    this.opened = this.#open();
  }

  get storage(): StorageState {
    return this.#store.state;
  }

  get leads(): boolean {
    return this.#leader !== undefined;
  }

  /** Shows a selection from now on: first as the store has it, then as the server does. */
  want(selection: Selection): void {
    this.#wanted.set(selection.name, selection);
    this.#replica.query(selection);
    void this.#load(selection);
    this.#announceWanted();
  }

  unwant(name: string): void {
    this.#wanted.delete(name);
    this.#loading.delete(name);
    if (this.#leader || !this.#follower) this.#announceWanted();
    else this.#follower.unwant(name);
  }

  /** Shows a write of the user. Resolves to true when it is stored, to false when only this page has it. */
  enqueue(mutation: Mutation): Promise<boolean> {
    this.#unsaved.add(mutation.id);
    this.#replica.enqueue(mutation);
    const saving = this.#save(mutation);
    this.#saving.set(mutation.id, saving);
    return saving;
  }

  async dismiss(ids: string[]): Promise<void> {
    this.#replica.dismiss(ids);
    await this.opened;
    this.#post({ type: "dismissed", ids });
    await this.#store.dismiss(ids);
  }

  command(command: Command): void {
    this.#post({ type: "command", command });
    this.#obey(command);
  }

  wentOffline(): void {
    this.#leader?.wentOffline();
  }

  /** The page was frozen, so messages may be lost. */
  resumed(): void {
    if (!this.#leader) this.#follower?.restart();
  }

  /** How many mutations a reload would lose. */
  get unsaved(): number {
    return this.#replica.queue.filter((mutation) => this.#unsaved.has(mutation.id) && this.#replica.isPending(mutation)).length;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.opened;
    await Promise.all(this.#saving.values());
    this.#post({ type: "bye" });
    await this.#leader?.stop();
    this.#endElection();
    this.#channel?.close();
    this.#store.close();
  }

  async #save(mutation: Mutation): Promise<boolean> {
    await this.opened;
    // A failure has been reported.
    const saved = await this.#store.enqueue(mutation).catch(() => false);
    if (saved) this.#unsaved.delete(mutation.id);
    this.#saving.delete(mutation.id);
    this.#post({ type: "queued", mutations: [mutation], saved });
    this.#leader?.pump();
    this.#ports.changed();
    return saved;
  }

  async #open(): Promise<void> {
    const stored = await this.#store.open();
    this.#replica.restore(stored.queue, stored.rejected);
    this.#join();
  }

  /** Takes its place among the tabs that share the store. */
  #join(): void {
    const { channel, name, election } = this.#options;
    if (this.#closed) return;
    if (this.#store.shared && channel && !this.#channel) {
      this.#channel = channel(name);
      this.#channel.onmessage = ({ data }) => this.#receive(data);
      void this.#follow();
    }
    const elect = this.#store.shared ? election : alone;
    const candidacy = (this.#candidacy = {});
    this.#endElection = elect(name, () => void this.#elected(candidacy));
  }

  async #bringBack(error: StorageError): Promise<void> {
    (await this.#network()).bringBack(this.#store, error, this.#options.clock, {
      queue: () => this.#replica.queue,
      release: () => this.#release(),
      returned: (stored) => this.#storeReturned(stored),
    });
  }

  /** Stops sending, unless a mutation has a number of the client id that ends with that. */
  async #release(): Promise<boolean> {
    const isNumbered = () => this.#replica.queue.some(({ number }) => number !== undefined);
    if (isNumbered()) return false;
    const leader = this.#leader;
    await leader?.stop();
    if (isNumbered()) {
      leader?.start(this.#connects);
      return false;
    }
    this.#leader = this.#candidacy = undefined;
    this.#endElection();
    return true;
  }

  #storeReturned(stored: Stored | undefined): void {
    if (stored) {
      for (const { id } of stored.queue) this.#unsaved.delete(id);
      this.#replica.restore(stored.queue, stored.rejected);
    }
    if (this.#leader && stored) void this.#leader.storeReturned(stored);
    else if (!this.#candidacy) this.#join();
    this.#ports.changed();
  }

  async #elected(candidacy: object): Promise<void> {
    // The store has changed since this tab was opened.
    const [stored, network] = await Promise.all([this.#store.open(), this.#network()]);
    if (this.#closed || candidacy !== this.#candidacy) return;
    const { transports, url, token, clock } = this.#options;
    const connection = { transports: transports ?? network.transportsTo(url, clock), token, clock };
    const leader = new network.Leader(this.#replica, this.#store, stored, connection, {
      post: (message) => this.#post(message),
      load: (selection) => this.#load(selection),
      isSaving: (id) => this.#saving.has(id),
      status: (status) => {
        this.#post({ type: "status", status });
        this.#setStatus(status);
      },
      problem: (error) => this.#ports.problem(error),
      traffic: (direction, frame) => this.#ports.traffic(direction, frame),
    });
    this.#leader = leader;
    await leader.takeOver(stored, this.status, (id) => this.#unsaved.has(id));
    if (this.#closed || this.#leader !== leader) return;
    this.#announceWanted();
    leader.start(this.#connects);
  }

  #obey(command: Command): void {
    if (command === "connect" || command === "disconnect") this.#connects = command === "connect";
    this.#leader?.command(command);
  }

  async #follow(): Promise<void> {
    const { Follower } = await this.#network();
    this.#follower = new Follower(this.id, this.#replica, this.#wanted, {
      post: (message) => this.#post(message),
      status: (status) => this.#setStatus(status),
    });
    this.#announceWanted();
  }

  /** Loads the code, as often as it takes. */
  async #network(): Promise<Network> {
    for (;;) {
      try {
        return await this.#options.network();
      } catch {
        const error = new SyncError("unavailable", "no network code (another origin?)", "reload");
        this.#ports.problem(error);
        this.#setStatus({ ...this.status, error: errorToJson(error) });
        await new Promise<void>((resolve) => this.#options.clock.after(LOAD_AGAIN_MS, resolve));
      }
    }
  }

  #receive({ from, message }: Envelope): void {
    if (from === this.id || this.#closed) return;
    switch (message.type) {
      case "queued":
        if (!message.saved) for (const { id } of message.mutations) this.#unsaved.add(id);
        this.#replica.enqueue(...message.mutations);
        return this.#leader?.pump();
      case "dismissed":
        return this.#replica.dismiss(message.ids);
      case "command":
        return this.#obey(message.command);
      default:
        (this.#leader ?? this.#follower)?.receive(from, message);
    }
  }

  #announceWanted(): void {
    if (this.#closed) return;
    if (this.#leader) void this.#leader.want(this.id, [...this.#wanted.values()]);
    else this.#follower?.want();
  }

  #setStatus(status: SharedStatus): void {
    this.status = status;
    this.#ports.changed();
  }

  /** Loads a query's rows from the store, once, and unless the server was faster. */
  #load(selection: Selection): Promise<void> {
    let loading = this.#loading.get(selection.name);
    if (!loading) this.#loading.set(selection.name, (loading = this.#read(selection)));
    return loading;
  }

  async #read(selection: Selection): Promise<void> {
    // Reads before the queue is there, but shows nothing without it.
    const reading = this.#store.rows(selection);
    await this.opened;
    const stored = await reading;
    const query = this.#replica.query(selection);
    if (!stored || query.phase !== "loading" || query.cursor !== undefined) return;
    const { rows: puts, order, ...kept } = stored;
    const part = { name: selection.name, phase: "stale" as const, rows: { reset: true, puts, gone: [], ...kept, ...(order && { order }) }, settled: [] };
    this.#replica.apply({ ...emptyCommit(), queries: [part] });
  }

  #storageFailed(error: StorageError): void {
    if (this.storage === "memory") for (const { id } of this.#replica.queue) this.#unsaved.add(id);
    this.#ports.problem(error);
    this.#ports.changed();
  }

  #post(message: Message): void {
    this.#channel?.postMessage({ from: this.id, message });
  }
}
