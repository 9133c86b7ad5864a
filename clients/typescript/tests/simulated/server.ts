/**
 * A server that keeps the rules of the protocol and nothing else. The test decides when a read ends, the
 * stream moves, a frame arrives or a connection breaks.
 */

import type { Link, TransportHandlers } from "../../src/connection/transport.js";
import type { PushFrame, SubscribeFrame } from "../../src/protocol/frames.js";
import type { ClientFrame, SubscriptionId } from "../../src/protocol/generated.js";
import type { Row } from "../../src/protocol/json.js";
import { readFrame } from "../../src/connection/read.js";
import { Database, type Answer, type Shape } from "./database.js";

interface Subscription {
  id: SubscriptionId;
  shape: Shape;
  name: string;
  /** The position up to which rows and changes have been sent. */
  readTo: number;
  live: boolean;
}

export class Session {
  readonly frames: object[] = [];
  readonly received: ClientFrame[] = [];
  readonly subscriptions = new Map<SubscriptionId, Subscription>();
  #pushes: PushFrame[] = [];
  #answers: Answer[] = [];
  #clientId = "";
  #beat = false;
  /** How far the stream has been sent. */
  position = 0;
  open = true;

  constructor(
    readonly database: Database,
    readonly handlers: TransportHandlers,
    readonly closed: () => void,
    readonly options: ServerOptions,
  ) {}

  receive(frame: ClientFrame): void {
    this.received.push(structuredClone(frame));
    switch (frame.type) {
      case "hello":
        return this.#welcome(frame.client_id);
      case "subscribe":
        return this.#subscribe(frame);
      case "unsubscribe":
        this.subscriptions.delete(frame.id);
        return;
      case "push": {
        const refusal = this.options.refuses(frame);
        if (refusal === "protocol") this.frames.push({ type: "error", code: "protocol", message: "not a push frame", fatal: false });
        else if (refusal === "too_large") this.frames.push({ type: "close", code: 4413 });
        else this.#pushes.push(frame);
        return;
      }
      case "ping":
        this.frames.push({ type: "pong" });
        // The cursor of a quiet client moves, too, once in a heartbeat.
        this.#beat = true;
        return;
    }
  }

  /** Applies the next mutation. */
  apply(): void {
    const push = this.#pushes.shift();
    if (push) this.#answers.push(this.database.push(this.#clientId, push));
    while (this.#answers[0]?.type === "reject") this.frames.push(this.#answers.shift()!);
  }

  /** Ends the reads of joining subscriptions; the stream continues from there. */
  join(): void {
    for (const subscription of this.subscriptions.values()) if (!subscription.live) this.#join(subscription);
  }

  /** Sends what has been committed, and the cursor at which it is visible. */
  drain(): void {
    const to = this.database.position;
    let sent = false;
    for (const [name, subscription] of this.#liveShapes()) {
      const { repeats } = this.options;
      const from = repeats ? Math.min(this.position, subscription.readTo) : subscription.readTo;
      const changes = this.database.changes(subscription.shape, from, repeats);
      if (changes.length) this.frames.push({ type: "changes", shape: name, changes, ...this.#order(subscription) });
      sent ||= changes.length > 0;
    }
    const moved = to > this.position;
    this.position = to;
    for (const subscription of this.subscriptions.values()) if (subscription.live) subscription.readTo = to;
    // Over server-sent events, rows do not wait for the answer.
    if (this.options.late && (sent || moved)) this.frames.push({ type: "cursor", cursor: this.#cursor() });
    while (this.#answers[0]) {
      const answer = this.#answers[0];
      if (answer.type === "ack" && answer.position > to) break;
      this.#answers.shift();
      if (answer.type === "ack") this.frames.push(...ackOf(answer));
      else this.frames.push(answer);
      sent = true;
    }
    if (sent || moved || this.#beat) this.frames.push({ type: "cursor", cursor: this.#cursor() });
    this.#beat = false;
  }

  /** Makes all subscriptions of an entity take their rows again. */
  refetch(entity: string, reason: string): void {
    for (const subscription of this.subscriptions.values()) {
      if (subscription.shape.entity !== entity || !subscription.live) continue;
      this.frames.push({ type: "refetch", id: subscription.id, reason });
      this.#snapshot(subscription);
    }
  }

  /** Delivers the next frame to the client. */
  deliver(): boolean {
    const frame = this.frames.shift();
    if (!frame || !this.open) return false;
    if ("type" in frame && frame.type === "close") {
      this.drop(4413);
      return true;
    }
    const read = readFrame(JSON.stringify(frame));
    if (read) this.handlers.frame(read);
    return true;
  }

  drop(code = 1006): void {
    if (!this.open) return;
    this.open = false;
    this.closed();
    this.handlers.closed(code, "");
  }

  #welcome(clientId: string): void {
    this.#clientId = clientId;
    this.position = this.database.position;
    const client = this.database.clients.get(clientId);
    this.frames.push({
      type: "welcome", protocol: 1, session_id: "s", epoch: String(this.database.epoch),
      last_mutation: client?.last ?? 0, ...(client && { last_chain: client.chains[client.last] }), heartbeat_ms: 30_000,
      limits: this.options.limits, features: this.options.features,
      ...(this.options.features.includes("fields") && { now: this.database.tracks.now() }),
    });
  }

  #subscribe({ id, entity, where, params, order, limit, mode, cursor }: SubscribeFrame): void {
    const code = this.options.error(entity, where);
    if (code) return void this.frames.push({ type: "error", code, message: code, id, fatal: false });
    const column = /^"?(\w+)"? = \$1$/.exec(where ?? "")?.[1];
    const shape: Shape = column ? { entity, where: { column, value: params?.[0] ?? null } } : { entity };
    if (mode === "fields") shape.mode = mode;
    if (limit !== undefined) shape.window = { order: order ?? [], limit };
    const name = JSON.stringify(shape);
    const subscription: Subscription = { id, shape, name, readTo: this.database.position, live: false };
    this.subscriptions.set(id, subscription);
    const from = cursor === undefined ? undefined : this.#positionOf(cursor);
    if (cursor !== undefined && from === undefined) {
      this.frames.push({ type: "refetch", id, reason: "expired" });
    }
    if (from === undefined) return this.#snapshot(subscription);
    const changes = this.database.changes(shape, from);
    if (changes.length) this.frames.push({ type: "changes", id, changes, ...this.#order(subscription) });
  }

  #snapshot(subscription: Subscription): void {
    subscription.live = false;
    subscription.readTo = this.database.position;
    const rows = [...this.database.rows(subscription.shape)].map(([key, row]) => ({ key, row, ...this.#known(subscription.shape, key, row) }));
    do {
      const page = rows.splice(0, this.options.page);
      this.frames.push({ type: "snapshot", id: subscription.id, rows: page, more: rows.length > 0 });
    } while (rows.length);
  }

  #join(subscription: Subscription): void {
    const shared = [...this.subscriptions.values()].some(({ live, name }) => live && name === subscription.name);
    if (shared) {
      const changes = this.database.changes(subscription.shape, subscription.readTo, true);
      if (changes.length) this.frames.push({ type: "changes", id: subscription.id, changes, ...this.#order(subscription) });
      subscription.readTo = this.database.position;
    }
    subscription.live = true;
    this.frames.push({
      type: "subscribed", id: subscription.id, shape: subscription.name,
      cursor: `${this.database.epoch}:${subscription.readTo}`,
      schema: { key: ["id"], columns: { id: "text" } },
      ...(subscription.shape.mode && { rules: this.database.tracks.rules.get(subscription.shape.entity) }),
    });
  }

  #known({ entity, mode }: Shape, key: string, row: Row): object {
    return mode ? this.database.tracks.known(entity, key, row) : {};
  }

  #order({ shape }: Subscription): object {
    const order = this.database.order(shape);
    return order ? { order } : {};
  }

  /** Each live shape once, with its subscription that is furthest behind. */
  #liveShapes(): Map<string, Subscription> {
    const shapes = new Map<string, Subscription>();
    for (const subscription of this.subscriptions.values()) {
      if (!subscription.live) continue;
      const known = shapes.get(subscription.name);
      if (!known || subscription.readTo < known.readTo) shapes.set(subscription.name, subscription);
    }
    return shapes;
  }

  #cursor(): string {
    return `${this.database.epoch}:${this.position}`;
  }

  #positionOf(cursor: string): number | undefined {
    const [epoch, position] = cursor.split(":").map(Number);
    return epoch === this.database.epoch && position! >= this.database.floor ? position : undefined;
  }
}

/** An ack, with what comes before it. */
function ackOf({ mutation, stamps, conflicts }: Extract<Answer, { type: "ack" }>): object[] {
  const ack = { type: "ack", mutation, ...(stamps.length && { stamps }) };
  return [...conflicts.map((conflict) => ({ type: "conflict", ...conflict })), ack];
}

export interface ServerOptions {
  /** Rows in a page of a snapshot. */
  page: number;
  /** Sends changes more often than needed, also of rows that came and went. */
  repeats: boolean;
  /** Answers after the rows that contain their mutations. */
  late: boolean;
  limits: { frame_bytes_max: number; subscriptions_max: number; writes_max: number };
  /** The features in `welcome`. */
  features: string[];
  /** Pushes that the server does not understand, or that it closes the connection for. */
  refuses: (push: PushFrame) => "protocol" | "too_large" | undefined;
  /** The code of the error that a subscription gets. */
  error: (entity: string, where: string | undefined) => string | undefined;
}

export class SimulatedServer {
  readonly sessions: Session[] = [];
  /** Whether connections succeed. */
  reachable = true;
  readonly options: ServerOptions = {
    page: 2,
    repeats: false,
    late: false,
    limits: { frame_bytes_max: 1_000_000, subscriptions_max: 100, writes_max: 1000 },
    features: ["rows", "push", "mutators"],
    refuses: () => undefined,
    error: () => undefined,
  };

  constructor(readonly database = new Database()) {}

  readonly transport = {
    name: "simulated",
    open: (handlers: TransportHandlers): Link => {
      const session = new Session(this.database, handlers, () => this.#forget(session), this.options);
      if (this.reachable) {
        this.sessions.push(session);
        queueMicrotask(() => session.open && handlers.opened());
      } else {
        queueMicrotask(() => session.drop());
      }
      return {
        send: (frame) => session.open && session.receive(frame),
        close: () => {
          session.open = false;
          this.#forget(session);
        },
      };
    },
  };

  /** One step of everything, for every session; true while frames were delivered. */
  step(): boolean {
    let busy = false;
    for (const session of [...this.sessions]) {
      session.apply();
      session.join();
      session.drain();
      while (session.deliver()) busy = true;
    }
    return busy;
  }

  drop(code?: number): void {
    for (const session of [...this.sessions]) session.drop(code);
  }

  #forget(session: Session): void {
    const at = this.sessions.indexOf(session);
    if (at >= 0) this.sessions.splice(at, 1);
  }
}
