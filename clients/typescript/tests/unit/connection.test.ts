import { describe, expect, test } from "vitest";
import { pause, PAUSE_MAX_MS } from "../../src/connection/backoff.js";
import { Connection, type TokenSource } from "../../src/connection/connection.js";
import type { Transport, TransportHandlers } from "../../src/connection/transport.js";
import type { WelcomeFrame } from "../../src/protocol/frames.js";
import type { ClientFrame } from "../../src/protocol/generated.js";
import { ManualClock, rest } from "../simulated/harness.js";

const WELCOME: WelcomeFrame = {
  type: "welcome", protocol: 1, session_id: "s", epoch: "e", last_mutation: 0, heartbeat_ms: 10_000,
  limits: { frame_bytes_max: 1000, subscriptions_max: 10, writes_max: 10 }, features: [],
};

function setup(token?: TokenSource, names = ["websocket"]) {
  const clock = new ManualClock();
  const opened: { name: string; handlers: TransportHandlers; sent: ClientFrame[]; closed: boolean }[] = [];
  const transports = names.map((name): Transport => ({
    name,
    open: (handlers) => {
      const link = { name, handlers, sent: [] as ClientFrame[], closed: false };
      opened.push(link);
      return { send: (frame) => link.sent.push(frame), close: () => (link.closed = true) };
    },
  }));
  const states: string[] = [];
  const errors: (string | undefined)[] = [];
  const problems: string[] = [];
  const frames: string[] = [];
  const connection = new Connection({ transports, clientId: "c", token, clock }, {
    welcome: () => frames.push("welcome"),
    frame: ({ type }) => frames.push(type),
    lost: () => frames.push("lost"),
    state: (state, error) => {
      states.push(state);
      errors.push(error?.code);
    },
    blame: () => "none",
    problem: ({ message }) => problems.push(message),
    traffic: () => {},
  });
  const last = () => opened.at(-1)!;
  const up = async () => {
    last().handlers.opened();
    await rest();
    last().handlers.frame(WELCOME);
  };
  return { clock, connection, opened, states, errors, problems, frames, last, up };
}

describe("SPEC 13: the connection", () => {
  test("greets first, passes frames on, and reports when it is lost", async () => {
    const { connection, last, up, frames, states } = setup();
    connection.handle("start");
    await up();
    expect(last().sent).toEqual([{ type: "hello", protocol: 1, client_id: "c" }]);
    last().handlers.frame({ type: "cursor", cursor: "x" });
    last().handlers.closed(1006, "");
    expect(frames).toEqual(["welcome", "cursor", "lost"]);
    expect(states).toEqual(["opening", "greeting", "up", "waiting"]);
  });

  test("waits as long as the server asks, also before another way", async () => {
    const { clock, connection, opened, last } = setup(undefined, ["websocket", "events"]);
    connection.handle("start");
    for (const waitMs of [7000, 45_000, 1]) {
      for (let attempt = 0; attempt < 3; attempt++) {
        const from = clock.now();
        last().handlers.opened();
        await rest();
        last().handlers.frame({ type: "error", code: "rate_limited", message: "", fatal: true, retry_after_ms: waitMs });
        last().handlers.closed(4429, "");
        const count = opened.length;
        while (opened.length === count) clock.pass(50);
        expect(clock.now() - from).toBeGreaterThanOrEqual(waitMs);
      }
    }
  });

  test("comes back after growing pauses, never longer than the longest, and at once when woken", async () => {
    const { clock, connection, opened, last, up } = setup();
    connection.handle("start");
    const pauses: number[] = [];
    for (let i = 0; i < 10; i++) {
      const from = clock.now();
      last().handlers.closed(1006, "");
      const count = opened.length;
      while (opened.length === count) clock.pass(50);
      pauses.push(clock.now() - from);
    }
    expect([...pauses].sort((a, b) => a - b)).toEqual(pauses);
    expect(pauses[0]).toBeLessThan(300);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(PAUSE_MAX_MS);
    last().handlers.closed(1006, "");
    const count = opened.length;
    connection.handle("wake");
    expect(opened).toHaveLength(count + 1);
    await up();
    last().handlers.closed(1001, "");
    clock.pass(300); // a welcome makes the pauses short again
    expect(opened).toHaveLength(count + 2);
  });

  test("half of each pause is random", () => {
    const clock = (random: number) => ({ ...new ManualClock(), random: () => random, now: () => 0, after: () => () => {} });
    expect(pause(3, clock(0))).toBe(1000);
    expect(pause(3, clock(1))).toBe(2000);
  });

  test("two heartbeats of silence end it; any frame keeps it", async () => {
    const { clock, connection, last, up, states } = setup();
    connection.handle("start");
    await up();
    clock.pass(10_000);
    expect(last().sent.at(-1)).toEqual({ type: "ping" });
    last().handlers.frame({ type: "pong" });
    clock.pass(20_000);
    expect(states.at(-1)).toBe("up");
    clock.pass(10_000);
    expect(states.at(-1)).toBe("waiting");
  });

  test("a probe finds a dead connection within seconds after a sleep", async () => {
    const { clock, connection, last, up, states } = setup();
    connection.handle("start");
    await up();
    connection.handle("wake");
    last().handlers.frame({ type: "pong" });
    clock.pass(6_000);
    expect(states.at(-1)).toBe("up");
    connection.handle("wake");
    clock.pass(5_000);
    expect(states.at(-1)).toBe("waiting");
  });

  test.each([[4400, "protocol"], [4403, "forbidden"], [4413, "too_large"], [4401, "unauthenticated"]] as const)(
    "close %d is an error, and is not tried again",
    async (code, error) => {
      const { clock, connection, opened, last, up, states, errors } = setup();
      connection.handle("start");
      await up();
      last().handlers.closed(code, "why");
      clock.pass(100_000);
      expect(states.at(-1)).toBe("failed");
      expect(errors.at(-1)).toBe(error);
      expect(opened).toHaveLength(1);
      connection.handle("start");
      expect(opened).toHaveLength(2);
    },
  );

  test("a server of another version is an error, not a loop", async () => {
    const { connection, last, states, errors } = setup();
    connection.handle("start");
    last().handlers.opened();
    await rest();
    last().handlers.frame({ ...WELCOME, protocol: 2 });
    expect([states.at(-1), errors.at(-1)]).toEqual(["failed", "protocol"]);
  });

  test("a rejected token is asked for again once, then it is an error", async () => {
    let n = 0;
    const { clock, connection, last, states } = setup(() => `token-${++n}`);
    connection.handle("start");
    for (const expected of ["token-1", "token-2"]) {
      last().handlers.opened();
      await rest();
      expect(last().sent[0]).toMatchObject({ type: "hello", token: expected });
      last().handlers.frame({ type: "error", code: "unauthenticated", message: "expired", fatal: true });
      last().handlers.closed(4401, "");
      clock.pass(1_000);
    }
    expect(states.at(-1)).toBe("failed");
  });

  test("a token that expires is renewed on the open connection; a failing callback does no harm", async () => {
    let supply: () => string = () => "first";
    const { connection, last, up } = setup(() => supply());
    connection.handle("start");
    await up();
    supply = () => "second";
    last().handlers.frame({ type: "error", code: "unauthenticated", message: "expired", fatal: false });
    await rest();
    expect(last().sent.at(-1)).toEqual({ type: "auth", token: "second" });
    last().handlers.frame({ type: "authenticated", user: "ann" });
    supply = () => "third";
    last().handlers.frame({ type: "error", code: "unauthenticated", message: "expired again", fatal: false });
    await rest();
    expect(last().sent.at(-1)).toEqual({ type: "auth", token: "third" });
    supply = () => {
      throw new Error("no network");
    };
    await connection.authenticate();
    expect(last().sent.at(-1)).toEqual({ type: "auth", token: "third" });
    expect(connection.state).toBe("up");
  });

  test("a fresh token that is rejected, too, is an error, not a loop", async () => {
    const { connection, last, up, states, errors } = setup(() => "stale");
    connection.handle("start");
    await up();
    for (let i = 0; i < 2; i++) {
      last().handlers.frame({ type: "error", code: "unauthenticated", message: "expired", fatal: false });
      await rest();
    }
    expect(last().sent.filter(({ type }) => type === "auth")).toHaveLength(1);
    expect([states.at(-1), errors.at(-1)]).toEqual(["failed", "unauthenticated"]);
  });

  test("the second transport is tried at once when the first has failed twice", () => {
    const { clock, connection, opened, last } = setup(undefined, ["websocket", "events"]);
    connection.handle("start");
    const pauses: boolean[] = [];
    for (let i = 0; i < 6; i++) {
      const count = opened.length;
      last().handlers.closed(1006, "");
      clock.pass(0);
      pauses.push(opened.length === count);
      while (opened.length === count) clock.pass(50);
    }
    expect(pauses).toEqual([true, false, true, true, false, true]);
    expect(opened.map(({ name }) => name)).toEqual(["websocket", "websocket", "events", "websocket", "websocket", "events", "websocket"]);
  });

  test("a transport that was dropped is ignored", async () => {
    const { connection, opened, up, frames } = setup();
    connection.handle("start");
    await up();
    const old = opened[0]!;
    connection.handle("stop");
    old.handlers.frame({ type: "cursor", cursor: "late" });
    old.handlers.closed(1006, "");
    expect(old.closed).toBe(true);
    expect(frames).toEqual(["welcome", "lost"]);
    expect(connection.state).toBe("off");
    connection.handle("start");
    await up();
    old.handlers.frame({ type: "cursor", cursor: "later still" });
    old.handlers.closed(4400, "");
    expect(frames).toEqual(["welcome", "lost", "welcome"]);
    expect(connection.state).toBe("up");
  });
});

test("SPEC 13: a server that ends each connection with an error is tried again ever later, until it answers a mutation", async () => {
  const { clock, connection, last, opened, up } = setup();
  connection.handle("start");
  /** The pause after a connection that the server ended so. */
  const pauseAfter = async (answers: boolean) => {
    await up();
    if (answers) last().handlers.frame({ type: "ack", mutation: 1 });
    last().handlers.frame({ type: "error", code: "internal", message: "the server failed; push again", fatal: true });
    last().handlers.closed(1001, "");
    const before = opened.length;
    let ms = 0;
    for (; opened.length === before; ms += 50) clock.pass(50);
    return ms;
  };
  const pauses = [];
  for (let i = 0; i < 9; i++) pauses.push(await pauseAfter(false));
  expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
  expect(pauses.at(-1)).toBeGreaterThan(20_000);
  expect(await pauseAfter(true)).toBe(pauses[0]);
});

describe("SPEC 17: no connection has a reason", () => {
  test("a transport that cannot be made is one that does not get through, and says why", async () => {
    const clock = new ManualClock();
    const problems: string[] = [];
    const states: string[] = [];
    const broken: Transport = {
      name: "broken",
      open: () => {
        throw new ReferenceError("WebSocket is not defined");
      },
    };
    const ports = {
      welcome() {}, frame() {}, lost() {}, traffic() {}, blame: () => "none" as const,
      state: (state: string) => void states.push(state), problem: ({ message }: Error) => void problems.push(message),
    };
    const connection = new Connection({ transports: [broken], clientId: "c", token: undefined, clock }, ports);
    connection.handle("start");
    await rest();
    expect(states).toEqual(["opening", "waiting"]);
    expect(problems).toEqual(["ReferenceError: WebSocket is not defined"]);
  });

  test("the reason is reported once, and stays until there is a connection", async () => {
    const { clock, connection, errors, last, problems, up } = setup();
    connection.handle("start");
    for (let attempt = 0; attempt < 3; attempt++) {
      last().handlers.closed(1006, "nothing answers");
      expect(errors.at(-1)).toBe("unavailable");
      clock.pass(60_000);
    }
    expect(problems).toEqual(["nothing answers"]);
    await up();
    expect(errors.at(-1)).toBeUndefined();
  });
});
