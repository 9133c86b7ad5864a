/** Carries out the table of states: opens transports, greets, notices silence, retries. */

import { serverError, SyncError } from "../errors.js";
import type { ErrorFrame, WelcomeFrame } from "../protocol/frames.js";
import { CLOSE, type ClientFrame, type ErrorCode, PROTOCOL_VERSION, type ServerFrame } from "../protocol/generated.js";
import { pause, PAUSE_MAX_MS, PAUSE_MIN_MS, RATE_LIMITED_MS } from "./backoff.js";
import type { Clock } from "./clock.js";
import { TABLE, type Action, type Event, type State } from "./states.js";
import type { Link, Transport } from "./transport.js";

/** How long a transport may take to open, and then the welcome to come. */
const GREETING_MS = 15_000;
/** How long the answer to a probe may take. */
const PROBE_MS = 5_000;
/** After so many heartbeats without a frame the server counts as gone. */
const MISSED_HEARTBEATS_MAX = 2;
/**
 * After so many attempts with the first transport the others get one each, at once: if they get through
 * just after the first has failed, the transport is at fault and not the network.
 */
const ATTEMPTS_OF_THE_FIRST = 2;

/** Supplies the token for each `hello`. */
export type TokenSource = () => string | undefined | Promise<string | undefined>;

export interface ConnectionPorts {
  /** @param askedAt when this client greeted, by its clock. */
  welcome(welcome: WelcomeFrame, askedAt: number): void;
  frame(frame: ServerFrame): void;
  lost(): void;
  /** Which push an error is about, that names no subscription: one that was answered so becomes a dead letter. */
  blame(code: ErrorCode, message: string, mutation: number | undefined): "none" | "found" | "unsure";
  /** The state has changed; the error says why, if there is one. */
  state(state: State, error: SyncError | undefined): void;
  problem(error: SyncError): void;
  /** Every frame in either direction, for display. */
  traffic(direction: "sent" | "received", frame: ClientFrame | ServerFrame): void;
}

export interface ConnectionOptions {
  /** In the order in which they are tried. */
  transports: readonly Transport[];
  clientId: string;
  token: TokenSource | undefined;
  clock: Clock;
}

/** The close code of a connection that broke without one. */
const NO_CODE = 1006;

const REFUSALS: { [close: number]: ErrorCode } = {
  [CLOSE.protocol]: "protocol",
  [CLOSE.unauthenticated]: "unauthenticated",
  [CLOSE.forbidden]: "forbidden",
  [CLOSE.too_large]: "too_large",
};

export class Connection {
  #state: State = "off";
  #link: Link | undefined;
  #transport: Transport | undefined;
  #timer: (() => void) | undefined;
  #beat: (() => void) | undefined;
  #clientId: string;
  #attempt = 0;
  #pauseMinMs = PAUSE_MIN_MS;
  /** How long the server has asked to wait. */
  #waitMs = 0;
  /** How often the server has ended the connection with an error since it last answered a mutation. */
  #setbacks = 0;
  #missedHeartbeats = 0;
  /** A token was rejected; a fresh one is tried once before that counts. */
  #tokenRefused = false;
  #greetedAt = 0;
  #error: SyncError | undefined;
  /** Why there was no connection, since there was one. */
  readonly #reasons = new Set<string>();
  readonly #ports: ConnectionPorts;
  readonly #options: ConnectionOptions;

  constructor(options: ConnectionOptions, ports: ConnectionPorts) {
    this.#options = options;
    this.#clientId = options.clientId;
    this.#ports = ports;
  }

  get state(): State {
    return this.#state;
  }

  /** The name of the transport that was opened last. */
  get transport(): string | undefined {
    return this.#transport?.name;
  }

  send(frame: ClientFrame): void {
    if (!this.#link) return;
    this.#ports.traffic("sent", frame);
    this.#link.send(frame);
  }

  /** Sends a fresh token on the open connection, or starts again after a refusal. */
  async authenticate(): Promise<void> {
    const token = await this.#token();
    if (this.#state === "up" && token !== undefined) this.send({ type: "auth", token });
    else if (this.#state === "failed") this.handle("start");
  }

  /** Reconnects as another client. */
  rename(clientId: string, why: SyncError): void {
    this.#clientId = clientId;
    this.resync(why);
  }

  /** Reconnects, because only a new `welcome` can say where the client stands. */
  resync(error: SyncError): void {
    this.#error = error;
    this.handle("lost");
  }

  handle(event: Event): void {
    const [action, next] = TABLE[this.#state][event];
    if (action === "ignore") return;
    const wasUp = this.#state === "up" && next !== "up";
    this.#state = next;
    this.#act(action);
    if (wasUp) this.#ports.lost();
    this.#ports.state(next, this.#error);
  }

  #act(action: Action): void {
    switch (action) {
      case "open":
        this.#drop();
        return this.#open();
      case "greet":
        return void this.#greet();
      case "up":
        this.#attempt = 0;
        this.#pauseMinMs = PAUSE_MIN_MS;
        this.#waitMs = 0;
        this.#tokenRefused = false;
        this.#error = undefined;
        this.#reasons.clear();
        this.#cancelTimer();
        return;
      case "retry":
        this.#drop();
        this.#attempt += 1;
        return this.#after(Math.max(this.#waitMs, this.#turn() > 0 ? 0 : this.#pause()), "timer");
      case "rest":
        this.#drop();
        return this.#after(PAUSE_MAX_MS, "timer");
      case "drop":
        this.#error = undefined;
        this.#attempt = this.#setbacks = 0;
        return this.#drop();
      case "giveUp":
        return this.#drop();
      case "probe":
        return this.#probe();
      case "ignore":
        return;
    }
  }

  /** The transport to try now. */
  #turn(): number {
    const others = this.#options.transports.length - 1;
    return Math.max(0, (this.#attempt % (ATTEMPTS_OF_THE_FIRST + others)) - ATTEMPTS_OF_THE_FIRST + 1);
  }

  #pause(): number {
    // A mutation that fails each time is not sent again at once just because the server can be reached.
    return pause(Math.max(this.#attempt, this.#setbacks) - 1, this.#options.clock, this.#pauseMinMs);
  }

  #open(): void {
    this.#after(GREETING_MS, "timer");
    let link: Link | undefined;
    // A transport that was dropped is ignored.
    const current = <A extends unknown[]>(act: (...args: A) => void) => (...args: A) => {
      if (link === undefined || this.#link === link) act(...args);
    };
    this.#transport = this.#options.transports[this.#turn()]!;
    try {
      link = this.#transport.open({
        opened: current(() => this.handle("opened")),
        received: current(() => (this.#missedHeartbeats = 0)),
        frame: current((frame) => this.#receive(frame)),
        problem: current((error) => this.#ports.problem(error)),
        closed: current((code, reason) => this.#closed(code, reason)),
      });
    } catch (cause) {
      // Such as a page whose policy forbids the address, or a runtime without WebSockets.
      link = { send() {}, close() {} };
      queueMicrotask(current(() => this.#closed(NO_CODE, String(cause))));
    }
    this.#link = link;
  }

  async #greet(): Promise<void> {
    const link = this.#link;
    const token = await this.#token();
    if (this.#link !== link) return;
    const hello: ClientFrame = { type: "hello", protocol: PROTOCOL_VERSION, client_id: this.#clientId };
    if (token !== undefined) hello.token = token;
    this.#greetedAt = this.#options.clock.now();
    this.send(hello);
  }

  /** An application that cannot get a token is asked again on the next attempt. */
  async #token(): Promise<string | undefined> {
    try {
      return await this.#options.token?.();
    } catch (cause) {
      const error = new SyncError("unauthenticated", "the token callback failed", "signIn", { cause });
      this.#ports.problem(error);
      return undefined;
    }
  }

  #receive(frame: ServerFrame): void {
    this.#missedHeartbeats = 0;
    this.#ports.traffic("received", frame);
    if (frame.type === "welcome") return this.#welcomed(frame);
    if (frame.type === "pong") return;
    if (frame.type === "authenticated") this.#tokenRefused = false;
    if (frame.type === "ack" || frame.type === "reject") this.#setbacks = 0;
    if (frame.type === "error" && this.#isOurs(frame)) return;
    if (this.#state === "up") this.#ports.frame(frame);
  }

  #welcomed(welcome: WelcomeFrame): void {
    if (welcome.protocol !== PROTOCOL_VERSION) {
      return this.#refuse("protocol", `the server speaks protocol ${welcome.protocol}`);
    }
    this.handle("welcomed");
    if (this.#state !== "up") return;
    this.#listen(welcome.heartbeat_ms);
    this.#ports.welcome(welcome, this.#greetedAt);
  }

  /** Handles errors that are about the connection or a push, not about a subscription. */
  #isOurs({ code, message, fatal, id, mutation, retry_after_ms }: ErrorFrame): boolean {
    const error = serverError(code, message);
    this.#waitMs = retry_after_ms ?? 0;
    if (fatal || code === "internal") this.#setbacks += 1;
    if (fatal) {
      this.#error = error;
      return true; // the close that follows decides
    }
    if (id !== undefined && code !== "rate_limited" && code !== "internal") return false;
    switch (code) {
      case "unauthenticated":
        if (this.#tokenRefused || !this.#options.token) this.#refuse(code, message);
        else void this.authenticate();
        this.#tokenRefused = true;
        return true;
      case "rate_limited":
      case "internal":
        if (code === "rate_limited") this.#pauseMinMs = RATE_LIMITED_MS;
        this.resync(error);
        return true;
      case "protocol":
      case "too_large":
      case "unknown_entity": {
        const blamed = this.#ports.blame(code, message, mutation);
        if (blamed === "unsure") this.resync(error);
        return blamed !== "none";
      }
      default:
        return false;
    }
  }

  #closed(code: number, reason: string): void {
    const refusal = REFUSALS[code];
    if (code === CLOSE.rate_limited) this.#pauseMinMs = RATE_LIMITED_MS;
    if (refusal === "unauthenticated" && this.#options.token && !this.#tokenRefused) {
      this.#tokenRefused = true;
      return this.handle("lost");
    }
    if (refusal === "too_large" || refusal === "protocol") {
      const message = this.#error?.message || reason || refusal;
      // One push is at fault. The next connection does without it, or finds it.
      if (this.#state === "up" && this.#ports.blame(refusal, message, undefined) !== "none") return this.handle("lost");
    }
    if (refusal) return this.#refuse(refusal, this.#error?.message ?? reason);
    if (code === NO_CODE && reason) this.#unreachable(reason);
    this.handle("lost");
  }

  /** Says why there is no connection, once: attempts follow each other. */
  #unreachable(reason: string): void {
    this.#error = serverError("unavailable", reason);
    if (!this.#reasons.has(reason)) this.#ports.problem(this.#error);
    this.#reasons.add(reason);
  }

  #refuse(code: ErrorCode, message: string): void {
    this.#error = serverError(code, message);
    this.#ports.problem(this.#error);
    this.handle("refused");
  }

  /** Browsers hide the pings of WebSockets, so `ping` frames find a dead connection. */
  #listen(intervalMs: number): void {
    if (!(intervalMs > 0)) return;
    this.#missedHeartbeats = 0;
    const beat = () => {
      // Counted, not timed: timers of a background tab are late.
      if (this.#missedHeartbeats++ >= MISSED_HEARTBEATS_MAX) return this.handle("silent");
      this.send({ type: "ping" });
      this.#beat = this.#options.clock.after(intervalMs, beat);
    };
    this.#beat = this.#options.clock.after(intervalMs, beat);
  }

  /** Tests the connection after a sleep or a change of network. */
  #probe(): void {
    this.#missedHeartbeats = 1;
    this.send({ type: "ping" });
    this.#cancelTimer();
    this.#timer = this.#options.clock.after(PROBE_MS, () => {
      if (this.#missedHeartbeats > 0) this.handle("silent");
    });
  }

  #after(ms: number, event: Event): void {
    this.#cancelTimer();
    this.#timer = this.#options.clock.after(ms, () => this.handle(event));
  }

  #cancelTimer(): void {
    this.#timer?.();
    this.#timer = undefined;
  }

  #drop(): void {
    this.#cancelTimer();
    this.#beat?.();
    const link = this.#link;
    this.#link = undefined;
    link?.close();
  }
}
