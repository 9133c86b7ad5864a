/** The part of the tab with the connection: it moves the replica, the store and the other tabs. */

import { Connection, type ConnectionOptions } from "../connection/connection.js";
import type { State } from "../connection/states.js";
import { errorToJson, serverError, SyncError, type StorageError } from "../errors.js";
import type { WelcomeFrame } from "../protocol/frames.js";
import type { ClientFrame, ServerFrame, Stamp, Write } from "../protocol/generated.js";
import { emptyCommit, type Commit, type Put } from "../replica/commit.js";
import type { ChainLink, Mutation, Numbering } from "../replica/mutation.js";
import type { QueryRows } from "../replica/query_rows.js";
import type { Replica } from "../replica/replica.js";
import type { Selection } from "../replica/selection.js";
import { Outbox } from "../session/outbox.js";
import { Session } from "../session/session.js";
import type { FallbackStore } from "../store/fallback_store.js";
import type { Stored } from "../store/store.js";
import { uuid } from "../uuid.js";
import type { Command, Message, QueryState, SharedStatus } from "./message.js";
import { Writer } from "./writer.js";

export interface LeaderPorts {
  post(message: Message): void;
  /** Loads a query's rows from the store. */
  load(selection: Selection): Promise<void>;
  /** Whether this tab's store is still taking a mutation. */
  isSaving(id: string): boolean;
  status(status: SharedStatus): void;
  problem(error: SyncError): void;
  traffic(direction: "sent" | "received", frame: ClientFrame | ServerFrame): void;
}

export class Leader {
  readonly #replica: Replica;
  readonly #store: FallbackStore;
  readonly #ports: LeaderPorts;
  readonly #session: Session;
  readonly #outbox: Outbox;
  readonly #connection: Connection;
  readonly #writer: Writer;
  readonly #clock: ConnectionOptions["clock"];
  /** What each tab shows, by the tab's id. */
  readonly #wanted = new Map<string, Selection[]>();
  readonly #selections = new Map<string, Selection>();
  #clientId: string;
  #lastNumber: number;
  #last: ChainLink | undefined;
  #forking = false;
  #count = 0;
  #status: SharedStatus = { state: "connecting", features: [] };
  #reportedAt: number | undefined;
  /** Before that the connection is off without being unwanted. */
  #started = false;

  constructor(replica: Replica, store: FallbackStore, stored: Stored, options: Omit<ConnectionOptions, "clientId">, ports: LeaderPorts) {
    this.#replica = replica;
    this.#store = store;
    this.#ports = ports;
    this.#clock = options.clock;
    this.#clientId = stored.clientId;
    this.#lastNumber = stored.lastNumber;
    this.#last = stored.last;
    this.#writer = new Writer(store);
    this.#connection = new Connection({ ...options, clientId: stored.clientId }, {
      welcome: (welcome, askedAt) => this.#welcome(welcome, askedAt),
      frame: (frame) => this.#frame(frame),
      lost: () => {
        this.#session.lost();
        this.#outbox.lost();
      },
      state: (state, error) => this.#reportState(state, error),
      blame: (code, message, number) => this.#outbox.blame(code, message, number),
      problem: ports.problem,
      traffic: ports.traffic,
    });
    this.#session = new Session({
      send: (frame) => this.#connection.send(frame),
      commit: (commit) => this.#commit(commit),
      rows: (name) => this.#replica.queries.get(name)?.rows ?? new Map(),
      problem: ports.problem,
    });
    this.#outbox = new Outbox({
      queue: () => this.#replica.queue,
      send: (push) => this.#connection.send(push),
      number: (assigned) => this.#number(assigned),
      lastNumber: () => this.#lastNumber,
      last: () => this.#last,
      fork: () => void this.#fork(),
      rejected: (rejection) => this.#commit({ ...emptyCommit(), rejected: [rejection] }),
      isSaving: (id) => ports.isSaving(id),
      writes: ({ writes }) => replica.asClient?.(writes, this.#clientId) ?? writes,
      mustWait: () => this.#session.isJoining,
    });
  }

  /**
   * Takes over. The store and this tab's replica may be at different positions, because the previous
   * leader could die between sending a step to the tabs and storing it.
   *
   * @param last the status that the previous leader reported.
   * @param unsaved whether a mutation has never reached the store.
   */
  async takeOver(stored: Stored, last: SharedStatus, unsaved: (id: string) => boolean): Promise<void> {
    this.#status = { ...last, state: "connecting" };
    const answered = stored.queue.filter(({ id }) => this.#replica.hasAnswered(id)).map(({ id }) => id);
    // A mutation that was stored and is gone has been answered, even if no message said so.
    const kept = new Set(stored.queue.map(({ id }) => id));
    const gone = this.#replica.queue.filter(({ id }) => !kept.has(id) && !unsaved(id)).map(({ id }) => id);
    this.#replica.restore(stored.queue, stored.rejected);
    const live = [...this.#replica.queries.values()].filter(({ phase }) => phase === "live");
    const queries = live.map(({ selection }) => ({ name: selection.name, phase: "stale" as const, settled: [] }));
    this.#replica.apply({ ...emptyCommit(), answered: gone, queries });
    if (answered.length) this.#writer.write({ ...emptyCommit(), answered });
    for (const query of this.#replica.queries.values()) await this.#align(query);
    this.#ports.post({ type: "lead" });
  }

  /** Gives a store that was away the rows of all queries, and takes what other tabs have stored there. */
  async storeReturned({ queue }: Stored): Promise<void> {
    const answered = queue.filter(({ id }) => this.#replica.hasAnswered(id)).map(({ id }) => id);
    if (answered.length) this.#writer.write({ ...emptyCommit(), answered });
    for (const query of this.#replica.queries.values()) await this.#align(query);
    this.pump();
  }

  /** Connects, or reports that no connection is wanted. */
  start(connects: boolean): void {
    this.#started = true;
    if (connects) this.#connection.handle("start");
    else this.#reportState("off", undefined);
  }

  command(command: Command): void {
    if (command === "authenticate") return void this.#connection.authenticate();
    this.#connection.handle(command === "connect" ? "start" : command === "disconnect" ? "stop" : "wake");
  }

  wentOffline(): void {
    this.#connection.handle("wentOffline");
  }

  /** Subscribes to what a tab shows from now on. */
  async want(tab: string, selections: Selection[]): Promise<void> {
    this.#wanted.set(tab, selections);
    this.#reconsider();
    for (const selection of selections) {
      await this.#ports.load(selection);
      if (!this.#isWanted(selection.name)) continue;
      this.#selections.set(selection.name, selection);
      this.#session.want(selection, this.#replica.query(selection).cursor);
    }
    this.#report();
  }

  /** Takes a message of another tab. */
  receive(from: string, message: Message): void {
    if (message.type === "want") void this.#serve(from, message.selections, message.again);
    if (message.type === "bye") void this.#adopt(from);
  }

  /** Sends what is new in the queue. */
  pump(): void {
    this.#outbox.pump();
  }

  async stop(): Promise<void> {
    this.#connection.handle("stop");
    await this.#writer.idle();
  }

  /** Subscribes to what another tab shows, and sends it the state of what is new to it. */
  async #serve(tab: string, selections: Selection[], again: boolean): Promise<void> {
    const known = new Set((this.#wanted.get(tab) ?? []).map(({ name }) => name));
    await this.want(tab, selections);
    for (const selection of selections) {
      if (again || !known.has(selection.name)) this.#ports.post({ type: "rows", to: tab, query: this.#state(selection) });
    }
    this.#ports.status(this.#status);
  }

  /** Adopts the writes of a tab that is gone: it may have stored one without announcing it. */
  async #adopt(tab: string): Promise<void> {
    this.#wanted.delete(tab);
    this.#reconsider();
    const { queue } = await this.#store.open();
    this.#replica.enqueue(...queue);
    this.pump();
  }

  /** A query's state, for another tab to continue from. */
  #state(selection: Selection): QueryState {
    const query = this.#replica.query(selection);
    const { phase, error, cursor, schema, order, settled } = query;
    const state: QueryState = { name: selection.name, rows: putsOf(query), phase, settled: [...settled], count: this.#count };
    if (error) state.error = errorToJson(error);
    if (cursor !== undefined) state.cursor = cursor;
    if (schema) state.schema = schema;
    if (order) state.order = order;
    return state;
  }

  #welcome(welcome: WelcomeFrame, askedAt: number): void {
    const { now } = welcome;
    // The least by which this clock must be wrong, if it is: the server read its own between the greeting and now.
    const aheadMs = now === undefined ? 0 : Math.max(0, now - this.#clock.now()) + Math.min(0, now - askedAt);
    if (now !== undefined && this.#replica.asClient) this.#commit({ ...emptyCommit(), aheadMs });
    this.#session.welcome(welcome);
    this.#outbox.welcome(welcome);
    this.#status.features = welcome.features;
    this.#reportState(this.#connection.state, undefined);
  }

  #frame(frame: ServerFrame): void {
    switch (frame.type) {
      case "welcome":
      case "pong":
      case "authenticated":
        return;
      case "ack": {
        const mutation = this.#outbox.acked(frame.mutation);
        if (!mutation) return;
        this.#answered(mutation);
        this.#stamped(mutation, frame.stamps ?? []);
        return this.#session.ack(mutation.id, frame.mutation);
      }
      case "conflict": {
        const { type: _, ...conflict } = frame;
        return this.#commit({ ...emptyCommit(), conflicts: [conflict] });
      }
      case "reject": {
        // The next `welcome` says which number is next.
        if (frame.code === "out_of_order") return this.#connection.resync(serverError("protocol", frame.message));
        const rejected = this.#outbox.rejected(frame);
        if (!rejected) return;
        // Its number was never used for it.
        if (frame.code !== "forgotten") this.#answered(rejected.mutation);
        return this.#commit({ ...emptyCommit(), rejected: [rejected.rejection] });
      }
      default:
        this.#session.receive(frame);
        this.#outbox.pump();
        this.#report();
    }
  }

  #commit(commit: Commit): void {
    this.#count += 1;
    if (commit.queries.some(({ rows }) => rows?.cursor !== undefined)) this.#status.syncedAt = this.#clock.now();
    this.#replica.apply(commit);
    this.#ports.post({ type: "commit", count: this.#count, commit });
    this.#writer.write(this.#last ? { ...commit, last: this.#last } : commit);
  }

  /** Takes the clocks under which a mutation's writes count. */
  #stamped({ writes }: Mutation, stamps: readonly Stamp[]): void {
    const said = stamps.map(({ write, hlc }) => [(writes[write] as Write | undefined)?.hlc, hlc] as const);
    const changed = said.filter(([before]) => before !== undefined);
    if (changed.length) this.#commit({ ...emptyCommit(), stamps: Object.fromEntries(changed) });
  }

  #answered({ number, chain }: Mutation): void {
    if (number !== undefined && chain !== undefined && number > (this.#last?.number ?? 0)) this.#last = { number, chain };
  }

  /** Goes on under a new client id: this store was copied or rolled back, or another program has the id. */
  async #fork(): Promise<void> {
    if (this.#forking) return;
    this.#forking = true;
    const clientId = uuid();
    const error = new SyncError("storage", "this store was copied or rolled back: the client goes on under a new id", "wait");
    try {
      await this.#writer.idle();
      const answered = this.#replica.queue.filter(({ id }) => this.#outbox.hasAnswered(id)).map(({ id }) => id);
      await this.#store.fork(clientId, answered);
    } catch (failure) {
      // The next connection finds it out again.
      return this.#connection.resync(failure as StorageError);
    } finally {
      this.#forking = false;
    }
    this.#clientId = clientId;
    this.#lastNumber = 0;
    this.#last = undefined;
    this.#replica.unnumber();
    this.#ports.post({ type: "forked" });
    this.#ports.problem(error);
    this.#connection.rename(clientId, error);
  }

  async #number(assigned: readonly Numbering[]): Promise<void> {
    await this.#store.number(assigned);
    for (const { number } of assigned) this.#lastNumber = Math.max(this.#lastNumber, number);
    this.#replica.number(assigned);
    this.#ports.post({ type: "numbered", assigned: [...assigned] });
  }

  #isWanted(name: string): boolean {
    return [...this.#wanted.values()].some((selections) => selections.some((selection) => selection.name === name));
  }

  #reconsider(): void {
    for (const name of [...this.#selections.keys()]) {
      if (this.#isWanted(name)) continue;
      this.#selections.delete(name);
      this.#session.unwant(name);
      this.#replica.drop(name);
    }
    this.#report();
  }

  /**
   * Stores a query whole where the store has another state of it. Adding later changes to older rows
   * would lose those in between.
   */
  async #align(query: QueryRows): Promise<void> {
    const { selection, cursor, schema, order } = query;
    if (cursor === undefined || !schema || (await this.#store.cursor(selection)) === cursor) return;
    this.#selections.set(selection.name, selection);
    const rows = { reset: true, puts: putsOf(query), gone: [], cursor, schema, ...(order && { order }) };
    this.#writer.write({ ...emptyCommit(), queries: [{ name: selection.name, rows, settled: [] }] });
  }

  #reportState(state: State, error: SyncError | undefined): void {
    const { transport } = this.#connection;
    const { syncedAt, features } = this.#status;
    const status: SharedStatus = { state: this.#stateOf(state), features };
    if (transport !== undefined) status.transport = transport;
    if (error) status.error = errorToJson(error);
    if (syncedAt !== undefined) status.syncedAt = syncedAt;
    this.#status = status;
    this.#ports.status(status);
  }

  /** Reports what frames have changed. The reason of a lost connection stays until there is another. */
  #report(): void {
    if (!this.#started) return;
    const { state, syncedAt } = this.#status;
    const now = this.#stateOf(this.#connection.state);
    if (now === state && syncedAt === this.#reportedAt) return;
    this.#reportedAt = syncedAt;
    this.#reportState(this.#connection.state, undefined);
  }

  #stateOf(state: State): SharedStatus["state"] {
    switch (state) {
      case "off":
      case "offline":
        return "offline";
      case "failed":
        return "error";
      case "up":
        return this.#session.isLive ? "live" : "behind";
      default:
        return "connecting";
    }
  }
}

/** A query's rows, with what is known of each. */
function putsOf({ rows, metadata }: QueryRows): Put[] {
  return [...rows].map(([key, row]): Put => {
    const known = metadata.get(row);
    return known ? [key, row, known] : [key, row];
  });
}
