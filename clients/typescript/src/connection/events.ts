/**
 * Frames over server-sent events and POST, where WebSockets do not get through.
 *
 * Each subscription has its own stream and cursor, so lists move one by one and not at the same
 * instant. The server does not say here which `cursor` shows a mutation: the change with its id does,
 * or, where that was overwritten at once, a short wait.
 */

import { LAST_MUTATION_UNKNOWN, type AckFrame, type ErrorFrame, type PushFrame, type RejectFrame, type SubscribeFrame, type WelcomeFrame } from "../protocol/frames.js";
import { CLOSE, PROTOCOL_VERSION, type ClientFrame, type Conflict, type ErrorCode, type ServerFrame, type SubscriptionId, type Write } from "../protocol/generated.js";
import { isCall } from "../replica/mutation.js";
import { readFrame } from "./read.js";
import type { Clock } from "./clock.js";
import { eventData } from "./event_stream.js";
import type { Link, Transport, TransportHandlers } from "./transport.js";

/** The server's interval, which streams do not send. */
const HEARTBEAT_MS = 30_000;
/** How long an ack waits for its change. */
const ACK_HELD_MS = 2_000;
/** Browsers open six connections to a server over HTTP/1.1; one is left for writes. */
const STREAMS_MAX = 5;
/** How much of an answer that is no success is reported, in characters. */
const REASON_MAX = 200;

interface Stream {
  id: SubscriptionId;
  request: AbortController;
  /** Undefined before `subscribed`. */
  cursor: string | undefined;
  /** Changes have arrived that no `cursor` has made visible. */
  dirty: boolean;
}

export function serverSentEvents(url: URL, clock: Clock): Transport {
  // Learnt from a reject; the next connection continues from there.
  const memory = { lastMutation: LAST_MUTATION_UNKNOWN };
  return { name: "events", open: (handlers) => new EventsLink(url, clock, handlers, memory) };
}

class EventsLink implements Link {
  readonly #prefix: string;
  readonly #clock: Clock;
  readonly #memory: { lastMutation: number };
  #handlers: TransportHandlers | undefined;
  #clientId = "";
  #token: string | undefined;
  readonly #streams = new Map<SubscriptionId, Stream>();
  readonly #ended = new AbortController();
  #pushing: Promise<void> = Promise.resolve();
  /** Acks that wait for their changes, each with what cancels the wait. */
  readonly #acks = new Map<number, { ack: AckFrame; cancel: () => void }>();
  /** This client's newest mutation whose change has arrived. */
  #seen = 0;

  constructor(url: URL, clock: Clock, handlers: TransportHandlers, memory: { lastMutation: number }) {
    this.#prefix = url.href.replace(/\/$/, "");
    this.#clock = clock;
    this.#handlers = handlers;
    this.#memory = memory;
    queueMicrotask(() => this.#handlers?.opened());
  }

  send(frame: ClientFrame): void {
    switch (frame.type) {
      case "hello":
        this.#clientId = frame.client_id;
        this.#token = frame.token;
        return void this.#hello();
      case "auth":
        this.#token = frame.token;
        return;
      case "subscribe":
        return void this.#subscribe(frame);
      case "unsubscribe":
        this.#streams.get(frame.id)?.request.abort();
        this.#streams.delete(frame.id);
        return;
      case "push":
        this.#pushing = this.#pushing.then(() => this.#push(frame));
        return;
      case "ping": // the streams have heartbeats of their own
        return;
    }
  }

  close(): void {
    this.#handlers = undefined;
    this.#ended.abort();
    for (const { request } of this.#streams.values()) request.abort();
    for (const { cancel } of this.#acks.values()) cancel();
  }

  async #hello(): Promise<void> {
    const answer = await this.#request("/status", {}, () => this.#unreachable());
    if (!answer) return;
    if (!answer.ok) {
      const said = (await answer.text().catch(() => "")).slice(0, REASON_MAX);
      return this.#closed(CLOSE_OF[answer.status] ?? 1006, `${this.#prefix}/status answers ${answer.status} ${said}`.trim());
    }
    const { features = [] } = (await answer.json().catch(() => ({}))) as { features?: string[] };
    const limits = { frame_bytes_max: 1_048_576, subscriptions_max: STREAMS_MAX, writes_max: 1000 };
    const { lastMutation } = this.#memory;
    this.#memory.lastMutation = LAST_MUTATION_UNKNOWN;
    const welcome: WelcomeFrame = {
      type: "welcome", protocol: PROTOCOL_VERSION, session_id: "", epoch: "", last_mutation: lastMutation,
      heartbeat_ms: HEARTBEAT_MS, limits, features,
    };
    this.#frame(welcome);
  }

  async #subscribe({ id, entity, where, params, columns, order, limit, mode, cursor }: SubscribeFrame): Promise<void> {
    if (this.#streams.size >= STREAMS_MAX && this.#prefix.startsWith("http:")) {
      return this.#refuse(id, "too_many_subscriptions", `at most ${STREAMS_MAX} lists without WebSockets`);
    }
    const stream: Stream = { id, request: new AbortController(), cursor: undefined, dirty: false };
    this.#streams.set(id, stream);
    const query = new URLSearchParams({ entity });
    if (where !== undefined) query.set("where", where);
    if (params) query.set("params", JSON.stringify(params));
    if (order) query.set("order", JSON.stringify(order));
    if (limit !== undefined) query.set("limit", `${limit}`);
    if (mode !== undefined) query.set("mode", mode);
    if (columns) query.set("columns", columns.join(","));
    if (cursor !== undefined) query.set("cursor", cursor);
    const answer = await this.#request(`/events?${query}`, { signal: stream.request.signal });
    if (!answer) return;
    if (!answer.ok || !answer.body) return this.#refused(id, answer);
    try {
      for await (const data of eventData(answer.body, () => this.#handlers?.received())) {
        const frame = readFrame(data);
        if (frame) this.#streamed(stream, frame);
      }
    } catch {
      // The stream broke, or sent what is no frame: either way it is over.
    }
    if (this.#streams.get(id) === stream) this.#closed(1006);
  }

  /** A stream names its subscription by the entity; here it gets the id under which it was requested. */
  #streamed(stream: Stream, frame: ServerFrame): void {
    const { id } = stream;
    switch (frame.type) {
      case "subscribed":
        stream.cursor = frame.cursor;
        return this.#frame({ ...frame, id, shape: `${id}` });
      case "changes":
        stream.dirty = true;
        for (const change of frame.changes) {
          if ("client_id" in change && change.client_id === this.#clientId) {
            this.#seen = Math.max(this.#seen, change.mutation ?? 0);
          }
        }
        if (frame.id !== undefined) return this.#frame({ ...frame, id });
        return this.#frame({ ...frame, shape: `${id}` });
      case "cursor":
        for (const mutation of this.#acks.keys()) if (mutation <= this.#seen) this.#release(mutation);
        stream.cursor = frame.cursor;
        stream.dirty = false;
        return this.#moved(stream);
      case "snapshot":
      case "refetch":
        return this.#frame({ ...frame, id });
      case "error":
        return this.#frame(frame.fatal ? frame : { ...frame, id });
      default:
        return this.#frame(frame);
    }
  }

  async #push({ mutation, writes }: PushFrame): Promise<void> {
    if (!this.#handlers) return;
    // A mutation of calls alone names no entity.
    const entity = encodeURIComponent(writes.find((step): step is Write => !isCall(step))?.entity ?? "mutators");
    const body = JSON.stringify({ client_id: this.#clientId, mutation, writes });
    const answer = await this.#request(`/${entity}`, { method: "POST", body });
    const said = (await answer?.json().catch(() => undefined)) as ServerFrame | undefined;
    if (!this.#handlers || !answer) return;
    this.#handlers.received();
    if (said?.type === "ack") return this.#acked(mutation, said);
    if (said?.type === "reject") return this.#rejected(said);
    const refusal = REFUSALS_OF_PUSHES[answer.status];
    // Only this server says it with a code; before it stands a proxy, which may say 404 for a moment.
    const code = (said as { code?: string } | undefined)?.code ?? (answer.status === 413 ? "too_large" : undefined);
    if (!refusal || code !== refusal) return this.#turnedAway(answer.status, (said ?? {}) as Refusal);
    const message = (said as { message?: string } | undefined)?.message ?? `the server answered ${answer.status}`;
    this.#frame({ type: "error", code: refusal, message, fatal: false, mutation } as ErrorFrame);
  }

  #acked(mutation: number, { stamps, conflicts = [] }: AckOfPost): void {
    for (const conflict of conflicts) this.#frame({ type: "conflict", ...conflict });
    const cancel = this.#clock.after(ACK_HELD_MS, () => this.#settle(mutation));
    this.#acks.set(mutation, { ack: { type: "ack", mutation, ...(stamps && { stamps }) }, cancel });
    if (mutation <= this.#seen) this.#settle(mutation);
  }

  /** The change is here, or was overwritten: streams without open changes contain it. */
  #settle(mutation: number): void {
    this.#release(mutation);
    for (const stream of this.#streams.values()) if (!stream.dirty) this.#moved(stream);
  }

  #release(mutation: number): void {
    const acked = this.#acks.get(mutation);
    if (!acked) return;
    acked.cancel();
    this.#acks.delete(mutation);
    this.#frame(acked.ack);
  }

  #moved({ id, cursor }: Stream): void {
    if (cursor !== undefined) this.#frame({ type: "cursor", cursor, id } as ServerFrame);
  }

  #rejected(frame: RejectFrame): void {
    if (frame.expected !== undefined) this.#memory.lastMutation = frame.expected - 1;
    this.#frame(frame);
  }

  async #refused(id: SubscriptionId, answer: Response): Promise<void> {
    const said = (await answer.json().catch(() => ({}))) as Refusal;
    if (answer.status === 400 || answer.status === 404 || said.code === "too_large") {
      this.#streams.delete(id);
      return this.#refuse(id, said.code ?? "protocol", said.message ?? "");
    }
    this.#turnedAway(answer.status, said);
  }

  /** The answer ends the connection, and may say when to come back. */
  #turnedAway(status: number, { code, message = "", retry_after_ms }: Refusal): void {
    if (code && retry_after_ms) this.#frame({ type: "error", code, message, fatal: true, retry_after_ms });
    this.#closed(CLOSE_OF[status] ?? 1006);
  }

  #refuse(id: SubscriptionId, code: ErrorCode, message: string): void {
    this.#frame({ type: "error", code, message, id, fatal: false });
  }

  /** Why no request gets through. */
  async #unreachable(): Promise<string> {
    const origin = globalThis.location?.origin;
    const nothing = `nothing answers at ${this.#prefix}`;
    if (origin === undefined || new URL(this.#prefix).origin === origin) return nothing;
    // Says only whether there is a server: its answer stays unread.
    const there = await fetch(`${this.#prefix}/status`, { mode: "no-cors", signal: this.#ended.signal }).catch(() => undefined);
    return there ? `the server at ${this.#prefix} does not admit pages of ${origin}: serve both from one origin, or add it to allowed_origins` : nothing;
  }

  /** Undefined when the answer is no longer needed. */
  async #request(path: string, request: RequestInit, why = async () => ""): Promise<Response | undefined> {
    const headers: Record<string, string> = request.body ? { "content-type": "application/json" } : {};
    if (this.#token !== undefined) headers["authorization"] = `Bearer ${this.#token}`;
    try {
      const answer = await fetch(this.#prefix + path, { signal: this.#ended.signal, ...request, headers });
      return this.#handlers && answer;
    } catch {
      if (!request.signal?.aborted) this.#closed(1006, await why());
      return undefined;
    }
  }

  #frame(frame: ServerFrame): void {
    this.#handlers?.frame(frame);
  }

  #closed(code: number, reason = ""): void {
    const handlers = this.#handlers;
    this.close();
    handlers?.closed(code, reason);
  }
}

/** The ack that answers a POST has what comes before it elsewhere. */
type AckOfPost = AckFrame & { conflicts?: Conflict[] };

/** What an answer that is an error says. */
interface Refusal {
  code?: ErrorCode;
  message?: string;
  retry_after_ms?: number;
}

/** Answers to a POST that the same POST would get again. */
const REFUSALS_OF_PUSHES: { [status: number]: ErrorCode } = { 400: "protocol", 404: "unknown_entity", 413: "too_large" };

const CLOSE_OF: { [status: number]: number } = {
  401: CLOSE.unauthenticated,
  403: CLOSE.forbidden,
  413: CLOSE.too_large,
  429: CLOSE.rate_limited,
};
