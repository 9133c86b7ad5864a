/**
 * One tab: its replica, its use of the store, and its place among the other tabs, as the leader or as a
 * follower.
 */

import type { Clock } from "../connection/clock.js";
import type { TokenSource } from "../connection/connection.js";
import type { Transport } from "../connection/transport.js";
import { SyncError, type StorageError } from "../errors.js";
import type { ClientFrame, ServerFrame } from "../protocol/generated.js";
import { emptyCommit } from "../replica/commit.js";
import type { Mutation } from "../replica/mutation.js";
import type { Replica } from "../replica/replica.js";
import type { Selection } from "../replica/selection.js";
import { FallbackStore, type StorageState } from "../store/fallback_store.js";
import type { Store } from "../store/store.js";
import { uuid } from "../uuid.js";
import { alone, type Election } from "./election.js";
import { Follower } from "./follower.js";
import type { Leader } from "./leader.js";
import type { Command, Envelope, Message, SharedStatus, TabChannel } from "./message.js";

/** The code that only a leader needs. */
export interface Network {
  Leader: typeof Leader;
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
  readonly #follower: Follower;
  #leader: Leader | undefined;
  #channel: TabChannel | undefined;
  #endElection: () => void = () => {};
  #closed = false;
  /** Whether the application wants a connection. Every tab remembers this, in case it becomes the leader. */
  #connects: boolean;
  readonly #wanted = new Map<string, Selection>();
  readonly #loading = new Map<string, Promise<void>>();
  /** Mutations that only pages have, also other tabs'. */
  readonly #unsaved = new Set<string>();
  readonly #saving = new Set<Promise<void>>();

  constructor(replica: Replica, options: TabOptions, ports: TabPorts) {
    this.#replica = replica;
    this.#options = options;
    this.#ports = ports;
    this.#store = new FallbackStore(options.store, {
      open: () => ({ queue: replica.queue }),
      failed: (error) => this.#storageFailed(error),
    });
    this.#follower = new Follower(this.id, replica, this.#wanted, {
      post: (message) => this.#post(message),
      status: (status) => this.#setStatus(status),
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
    if (this.#leader) this.#announceWanted();
    else this.#follower.unwant(name);
  }

  /** Shows a write of the user. Resolves when it is stored; rejects when only this page has it. */
  enqueue(mutation: Mutation): Promise<void> {
    this.#unsaved.add(mutation.id);
    this.#replica.enqueue(mutation);
    const saving = this.#save(mutation);
    const ended = saving.catch(() => {}).finally(() => this.#saving.delete(ended));
    this.#saving.add(ended);
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
    if (!this.#leader) this.#follower.restart();
  }

  /** How many mutations a reload would lose. */
  get unsaved(): number {
    return this.#unsaved.size;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.opened;
    await Promise.all(this.#saving);
    this.#post({ type: "bye" });
    await this.#leader?.stop();
    this.#endElection();
    this.#channel?.close();
    this.#store.close();
  }

  async #save(mutation: Mutation): Promise<void> {
    await this.opened;
    try {
      await this.#store.enqueue(mutation);
      this.#unsaved.delete(mutation.id);
    } finally {
      this.#post({ type: "queued", mutations: [mutation], saved: !this.#unsaved.has(mutation.id) });
      this.#leader?.pump();
      this.#ports.changed();
    }
  }

  async #open(): Promise<void> {
    const stored = await this.#store.open();
    this.#replica.restore(stored.queue, stored.rejected);
    const { channel, name, election } = this.#options;
    if (this.#closed) return;
    if (this.#store.shared && channel) {
      this.#channel = channel(name);
      this.#channel.onmessage = ({ data }) => this.#receive(data);
      this.#announceWanted();
    }
    const elect = this.#store.shared ? election : alone;
    this.#endElection = elect(name, () => void this.#elected());
  }

  async #elected(): Promise<void> {
    // The store has changed since this tab was opened.
    const [stored, network] = await Promise.all([this.#store.open(), this.#options.network().catch(() => undefined)]);
    if (this.#closed) return;
    if (!network) return this.#electedAgain();
    const { transports, url, token, clock } = this.#options;
    const connection = { transports: transports ?? network.transportsTo(url, clock), token, clock };
    const leader = new network.Leader(this.#replica, this.#store, stored, connection, {
      post: (message) => this.#post(message),
      load: (selection) => this.#load(selection),
      status: (status) => {
        this.#post({ type: "status", status });
        this.#setStatus(status);
      },
      problem: (error) => this.#ports.problem(error),
      traffic: (direction, frame) => this.#ports.traffic(direction, frame),
    });
    this.#leader = leader;
    await leader.takeOver(stored, this.status, (id) => this.#unsaved.has(id));
    if (this.#closed) return;
    this.#announceWanted();
    leader.start(this.#connects);
  }

  #obey(command: Command): void {
    if (command === "connect" || command === "disconnect") this.#connects = command === "connect";
    this.#leader?.command(command);
  }

  #electedAgain(): void {
    this.#ports.problem(new SyncError("unavailable", "the network code is missing", "reload"));
    this.#options.clock.after(LOAD_AGAIN_MS, () => void this.#elected());
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
        (this.#leader ?? this.#follower).receive(from, message);
    }
  }

  #announceWanted(): void {
    if (this.#closed) return;
    if (this.#leader) void this.#leader.want(this.id, [...this.#wanted.values()]);
    else this.#follower.want();
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
    const { rows: puts, cursor, schema } = stored;
    const part = { name: selection.name, phase: "stale" as const, rows: { reset: true, puts, gone: [], cursor, schema }, settled: [] };
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
