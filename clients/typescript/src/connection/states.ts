/**
 * The life of the connection, as a table of every state and event.
 *
 *   off ──start──> opening ──opened──> greeting ──welcomed──> up
 *                     ^                   │ lost               │ lost, silent
 *                     └────timer──── waiting <─────────────────┘
 *
 * `off`: not wanted. `offline`: the browser reports that there is no network. `failed`: the server
 * refuses the connection, and another attempt would not help.
 */

export const STATES = ["off", "opening", "greeting", "up", "waiting", "offline", "failed"] as const;
export type State = (typeof STATES)[number];

export const EVENTS = [
  "start", "stop", "opened", "welcomed", "lost", "refused", "silent", "timer", "wentOffline", "wake",
] as const;
export type Event = (typeof EVENTS)[number];

/**
 * What to do: `open` a transport, `greet` the server, go `up`, `drop` the transport, `retry` (drop it
 * and try again later), `rest` (drop it and try again when the network is back or after the longest
 * pause), `giveUp` (drop it and wait for the application), `probe` (ask whether the server is still
 * there), `ignore`.
 */
export type Action = "open" | "greet" | "up" | "drop" | "retry" | "rest" | "giveUp" | "probe" | "ignore";

const ignore = (state: State) => ["ignore", state] as const;
const opening = ["open", "opening"] as const;
const waiting = ["retry", "waiting"] as const;
const offline = ["rest", "offline"] as const;
const failed = ["giveUp", "failed"] as const;
const off = ["drop", "off"] as const;

export const TABLE: Record<State, Record<Event, readonly [Action, State]>> = {
  off: {
    start: opening,
    stop: ignore("off"),
    opened: ignore("off"),
    welcomed: ignore("off"),
    lost: ignore("off"),
    refused: ignore("off"),
    silent: ignore("off"),
    timer: ignore("off"),
    wentOffline: ignore("off"),
    wake: ignore("off"),
  },
  opening: {
    start: ignore("opening"),
    stop: off,
    opened: ["greet", "greeting"],
    welcomed: waiting, // a welcome before the hello: not a server of this protocol
    lost: waiting,
    refused: failed,
    silent: waiting,
    timer: waiting, // the transport took too long
    wentOffline: offline,
    wake: ignore("opening"),
  },
  greeting: {
    start: ignore("greeting"),
    stop: off,
    opened: ignore("greeting"),
    welcomed: ["up", "up"],
    lost: waiting,
    refused: failed,
    silent: waiting,
    timer: waiting, // no welcome in time
    wentOffline: offline,
    wake: ignore("greeting"),
  },
  up: {
    start: ignore("up"),
    stop: off,
    opened: ignore("up"),
    welcomed: waiting, // a second welcome: start again
    lost: waiting,
    refused: failed,
    silent: waiting,
    timer: ["probe", "up"],
    wentOffline: ["probe", "up"], // browsers err; a probe decides
    wake: ["probe", "up"],
  },
  waiting: {
    start: opening,
    stop: off,
    opened: ignore("waiting"),
    welcomed: ignore("waiting"),
    lost: ignore("waiting"),
    refused: ignore("waiting"),
    silent: ignore("waiting"),
    timer: opening,
    wentOffline: offline,
    wake: opening,
  },
  offline: {
    start: opening,
    stop: off,
    opened: ignore("offline"),
    welcomed: ignore("offline"),
    lost: ignore("offline"),
    refused: ignore("offline"),
    silent: ignore("offline"),
    timer: opening,
    wentOffline: ignore("offline"),
    wake: opening,
  },
  failed: {
    start: opening,
    stop: off,
    opened: ignore("failed"),
    welcomed: ignore("failed"),
    lost: ignore("failed"),
    refused: ignore("failed"),
    silent: ignore("failed"),
    timer: ignore("failed"),
    wentOffline: ignore("failed"),
    wake: ignore("failed"),
  },
};
