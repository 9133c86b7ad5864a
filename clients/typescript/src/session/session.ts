/**
 * What the frames of a connection mean for the replica: frames in, commits and frames out. It knows no
 * socket, no time and no store, so that its rules can be tested by themselves.
 *
 * Invariants (SPEC.md has the whole list):
 * - rows move only at `subscribed` and `cursor`, all live queries together;
 * - a query's rows and its cursor move in the same commit;
 * - a mutation's optimistic effects are dropped by the commit that brings the real ones.
 */

import { FrameError, serverError, errorToJson, type SyncError } from "../errors.js";
import type { ChangesFrame, ErrorFrame, SubscribeFrame, WelcomeFrame } from "../protocol/frames.js";
import type { ClientFrame, ServerFrame, SubscriptionId } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import { emptyCommit, type Commit, type QueryCommit, type Schema } from "../replica/commit.js";
import type { Selection } from "../replica/selection.js";
import { Acks } from "./acks.js";
import { PHASES, type PhaseEvent } from "./phases.js";
import { Subscription } from "./subscription.js";

export interface SessionPorts {
  send(frame: ClientFrame): void;
  commit(commit: Commit): void;
  /** The rows of a query as the last commit has left them. */
  rows(name: string): ReadonlyMap<RowKey, Row>;
  /** The server sent something unusable; the rows are sound all the same. */
  problem(error: SyncError): void;
}

/** Where policies decide what may be read (`~`), a cursor is good only for the shape for which it was received. */
function resumePoint(cursor: string, shape: string | undefined): string {
  const isGuarded = shape?.slice(shape.lastIndexOf(".") + 1).startsWith("~");
  return isGuarded ? `${cursor}.${shape}` : cursor;
}

/** A frame as a transport delivers it. One with a stream per subscription adds the id to a `cursor`. */
export type SessionFrame = Exclude<ServerFrame, { type: "welcome" | "pong" | "authenticated" | "ack" | "reject" | "conflict" }> &
  { id?: SubscriptionId };

export class Session {
  readonly #ports: SessionPorts;
  #open = false;
  #nextId = 1;
  #wanted = new Map<string, { selection: Selection; cursor: string | undefined }>();
  #subscriptions = new Map<SubscriptionId, Subscription>();
  #acks = new Acks();
  #welcomedAt = 0;
  #lastMutation = 0;
  #hasFields = false;

  constructor(ports: SessionPorts) {
    this.#ports = ports;
  }

  /** Subscribes on a new connection to everything wanted, from the cursor of its rows. */
  welcome(welcome: WelcomeFrame): void {
    this.#open = true;
    this.#lastMutation = welcome.last_mutation;
    this.#hasFields = welcome.features.includes("fields");
    this.#welcomedAt = this.#acks.count;
    for (const { selection } of this.#wanted.values()) this.#subscribe(selection);
    this.#settle([]);
  }

  /** Forgets the connection and everything that was held back. */
  lost(): void {
    this.#open = false;
    const live = [...this.#subscriptions.values()].filter((subscription) => subscription.isLive);
    this.#subscriptions.clear();
    const queries = live.map(({ selection }): QueryCommit => ({ name: selection.name, phase: "stale", settled: [] }));
    if (queries.length) this.#ports.commit({ ...emptyCommit(), queries });
  }

  /** Subscribes to rows, from `cursor` if there are some already. */
  want(selection: Selection, cursor: string | undefined): void {
    if (this.#wanted.has(selection.name)) return;
    this.#wanted.set(selection.name, { selection, cursor });
    if (this.#open) this.#subscribe(selection);
  }

  /** Unsubscribes. */
  unwant(name: string): void {
    this.#wanted.delete(name);
    const subscription = this.#find(name);
    if (!subscription) return;
    this.#forget(subscription);
    this.#settle([{ name, phase: "stale", settled: [] }]);
  }

  /** Whether rows are on their way, so that a push has to wait: its ack would come before them. */
  get isJoining(): boolean {
    return [...this.#subscriptions.values()].some((subscription) => subscription.isJoining);
  }

  /** Whether everything wanted is as current as the server can make it. */
  get isLive(): boolean {
    return this.#open && !this.isJoining;
  }

  receive(frame: SessionFrame): void {
    switch (frame.type) {
      case "cursor":
        return this.#cursor(frame.cursor, frame.id);
      case "changes":
        if (frame.id !== undefined) return this.#addressed(frame.id, "changesById", frame);
        return this.#changes(frame);
      case "error":
        return this.#error(frame);
      default:
        return this.#addressed(frame.id, frame.type, frame);
    }
  }

  /** Takes the ack of a mutation. */
  ack(id: string, number: number): void {
    const repeated = number <= this.#lastMutation;
    if (repeated) this.#acks.addContained(id, this.#welcomedAt);
    else this.#acks.add(id);
    this.#ports.commit({ ...emptyCommit(), acked: [id] });
    // A repeated answer needs no `cursor`: its effects are here already.
    if (repeated) {
      const queries = this.#live().map((live): QueryCommit => ({ name: live.selection.name, settled: [id] }));
      this.#settle(queries);
    }
  }

  #subscribe(selection: Selection): void {
    const cursor = this.#wanted.get(selection.name)?.cursor;
    const subscription = new Subscription(this.#nextId++, selection, this.#acks.count, cursor !== undefined);
    this.#subscriptions.set(subscription.id, subscription);
    const { name: _, mode, ...wanted } = selection;
    const frame: SubscribeFrame = { type: "subscribe", id: subscription.id, ...wanted };
    // A server without fields sends the rows alone.
    if (mode !== undefined && this.#hasFields) frame.mode = mode;
    if (cursor !== undefined) frame.cursor = cursor;
    this.#ports.send(frame);
  }

  #forget(subscription: Subscription): void {
    this.#subscriptions.delete(subscription.id);
    if (subscription.phase !== "failed") this.#ports.send({ type: "unsubscribe", id: subscription.id });
  }

  #changes(frame: ChangesFrame): void {
    for (const subscription of this.#live()) {
      if (subscription.shape === frame.shape) this.#step(subscription, "changesByShape", frame);
    }
  }

  /** Ignores frames for a subscription that has ended: they were on their way. */
  #addressed(id: SubscriptionId, event: PhaseEvent, frame: SessionFrame): void {
    const subscription = this.#subscriptions.get(id);
    if (subscription) this.#step(subscription, event, frame);
  }

  #step(subscription: Subscription, event: PhaseEvent, frame: SessionFrame): void {
    const [action, next] = PHASES[subscription.phase][event];
    switch (action) {
      case "ignore":
        return;
      case "violation":
        return this.#again(subscription, `unexpected ${frame.type}`);
      case "hold":
        subscription.unavailable = false;
        if (frame.type === "snapshot") subscription.held.snapshot(frame.rows);
        else if (frame.type === "changes" && !subscription.held.take(frame.changes, frame.order)) {
          return this.#again(subscription, "a change of an unknown kind");
        }
        break;
      case "join":
        if (frame.type === "subscribed") {
          const { shape, cursor, schema, rules } = frame;
          this.#join(subscription, shape, cursor, rules === undefined ? schema : { ...schema, rules });
        }
        return;
      case "restart":
        subscription.restart(this.#acks.count);
        subscription.phase = next;
        return this.#restarted(subscription, frame);
      case "fail":
        subscription.phase = next;
        return this.#fail(subscription, frame);
      case "commit":
        return;
    }
    subscription.phase = next;
  }

  #join(subscription: Subscription, shape: string, cursor: string, schema: Schema): void {
    subscription.phase = "live";
    subscription.shape = shape;
    subscription.unavailable = false;
    this.#settle([this.#release(subscription, cursor, subscription.askedAt, schema)]);
  }

  #cursor(cursor: string, id?: SubscriptionId): void {
    const moved = [...this.#subscriptions.values()].filter(
      (subscription) =>
        PHASES[subscription.phase].cursor[0] === "commit" && (id === undefined || subscription.id === id),
    );
    this.#settle(moved.map((live) => this.#release(live, cursor, this.#acks.count)));
  }

  #release(subscription: Subscription, cursor: string, covers: number, schema?: Schema): QueryCommit {
    const resume = resumePoint(cursor, subscription.shape);
    const settled = this.#acks.between(subscription.covers, covers);
    subscription.covers = Math.max(subscription.covers, covers);
    const wanted = this.#wanted.get(subscription.selection.name);
    if (wanted) wanted.cursor = resume;
    return subscription.release(resume, settled, this.#ports.rows(subscription.selection.name), schema);
  }

  /** Commits, and drops the mutations that the rows of every query contain by now. */
  #settle(queries: QueryCommit[]): void {
    const waiting = [...this.#subscriptions.values()].filter(({ phase }) => phase !== "failed");
    const everywhere = waiting.reduce((least, { covers }) => Math.min(least, covers), this.#acks.count);
    const answered = this.#acks.isEmpty ? [] : this.#acks.takeCoveredBy(everywhere);
    if (queries.length || answered.length) this.#ports.commit({ ...emptyCommit(), queries, answered });
  }

  /**
   * The old rows stay, marked stale, until the new ones are complete. Only rows that the user may no
   * longer see are dropped at once.
   */
  #restarted(subscription: Subscription, frame: SessionFrame): void {
    const { name } = subscription.selection;
    const wanted = this.#wanted.get(name);
    if (wanted) wanted.cursor = undefined;
    const commit: QueryCommit = { name, phase: "stale", settled: [] };
    if (frame.type === "refetch" && frame.reason === "permission") {
      commit.phase = "loading";
      commit.rows = { reset: true, puts: [], gone: [] };
    }
    this.#ports.commit({ ...emptyCommit(), queries: [commit] });
  }

  /** Subscribes again under a new id, because what came cannot be relied on. */
  #again(subscription: Subscription, why: string): void {
    this.#ports.problem(new FrameError(why));
    this.#forget(subscription);
    this.#restarted(subscription, { type: "cursor", cursor: "" });
    this.#subscribe(subscription.selection);
  }

  #error(frame: ErrorFrame): void {
    const error = serverError(frame.code, frame.message);
    const subscription = frame.id === undefined ? undefined : this.#subscriptions.get(frame.id);
    if (!subscription) return this.#ports.problem(error);
    // The server keeps trying by itself.
    if (frame.code === "unavailable") {
      subscription.unavailable = true;
      return this.#ports.problem(error);
    }
    this.#step(subscription, "error", frame);
  }

  /** Ends a subscription. Its rows stay, unless the user may not see them. */
  #fail({ selection: { name } }: Subscription, frame: SessionFrame): void {
    if (frame.type !== "error") return;
    const error = serverError(frame.code, frame.message);
    this.#ports.problem(error);
    const failed: QueryCommit = { name, phase: "error", error: errorToJson(error), settled: [] };
    if (frame.code === "forbidden" || frame.code === "unknown_entity") {
      failed.rows = { reset: true, puts: [], gone: [] };
      const wanted = this.#wanted.get(name);
      if (wanted) wanted.cursor = undefined;
    }
    this.#settle([failed]);
  }

  #find(name: string): Subscription | undefined {
    return [...this.#subscriptions.values()].find(({ selection }) => selection.name === name);
  }

  #live(): Subscription[] {
    return [...this.#subscriptions.values()].filter((subscription) => subscription.isLive);
  }
}
