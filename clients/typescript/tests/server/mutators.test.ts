/** Calls of a real server's mutators, over each transport. Needs `RHTMX_SYNC_BIN`, and `multi_user` beside it. */

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { WebSocket as NodeWebSocket } from "ws";
import { systemClock } from "../../src/connection/clock.js";
import { serverSentEvents } from "../../src/connection/events.js";
import type { Transport } from "../../src/connection/transport.js";
import { webSocket } from "../../src/connection/websocket.js";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import { recording } from "../simulated/harness.js";
import { has, ServerProcess } from "./process.js";

interface Todo {
  id: string;
  owner: string;
  title: string;
  done: boolean;
  shared: boolean;
}

describe.skipIf(!has("multi_user"))("mutators of the real server", () => {
  let app: ServerProcess;
  /** By the name of the host, which is another one for each user. */
  const cookies = new Map<string, string>();
  const open: { close(): Promise<void> }[] = [];

  beforeAll(async () => {
    app = await ServerProcess.example("multi_user");
    cookies.set("127.0.0.1", await app.signIn("ann")).set("localhost", await app.signIn("ben"));
    const { fetch } = globalThis;
    vi.stubGlobal("fetch", (url: string, request: RequestInit) =>
      fetch(url, { ...request, headers: { ...(request.headers as object), cookie: cookies.get(new URL(url).hostname)! } }));
    vi.stubGlobal("WebSocket", class extends NodeWebSocket {
      constructor(url: URL, protocol: string) {
        super(url, protocol, { headers: { cookie: cookies.get(url.hostname)! } });
      }
    });
  }, 30_000);
  afterEach(async () => {
    await Promise.all(open.splice(0).map((sync) => sync.close()));
    app.sql("DELETE FROM todos;");
  });
  afterAll(async () => {
    vi.unstubAllGlobals();
    await app?.stop();
  });

  function client(host: string, transport: (url: URL) => Transport) {
    const url = new URL(`http://${host}:${app.port}/api/sync`);
    const sync = createSync({
      url, entities: { todos: entity<Todo>() }, storage: "memory", connect: true, environment: { transports: [transport(url)] },
      mutators: {
        completeTodo(tx, args: { id: string; done: boolean }) {
          tx.todos.update(args.id, { done: args.done });
        },
        /** The server has no such mutator. */
        forgetTodo(tx, args: { id: string }) {
          tx.todos.delete(args.id);
        },
      },
    });
    open.push(sync);
    return { sync, view: sync.todos.live() };
  }

  const shown = <R>(view: { rows: readonly R[] }, rows: object[]) => vi.waitFor(() => expect(view.rows).toMatchObject(rows), 5_000);

  const transports: [string, (url: URL) => Transport][] = [
    ["websocket", webSocket],
    ["events", (url) => serverSentEvents(url, systemClock)],
  ];

  test.each(transports)("SPEC 19: %s: a call is shown at once, does what the client could not, and nothing flickers", async (_name, transport) => {
    const [ann, ben] = [client("127.0.0.1", transport), client("localhost", transport)];
    expect(await ann.sync.todos.create({ id: "1", owner: "ann", title: "shared", done: false, shared: true }).result).toEqual({ ok: true });
    await shown(ben.view, [{ id: "1", done: false }]);
    const seen = recording(ben.view);
    const { result } = ben.sync.mutate.completeTodo({ id: "1", done: true });
    expect(ben.view.rows).toMatchObject([{ done: true }]);
    expect(await result).toEqual({ ok: true });
    await shown(ann.view, [{ id: "1", owner: "ann", done: true }]);
    await vi.waitFor(() => expect(ben.sync.pending).toEqual([]));
    expect(seen.slice(1).every(([todo]) => todo?.done)).toBe(true);
    expect(ben.sync.status.features).toContain("mutators");
    expect(app.sql("SELECT count(*) FROM todos WHERE done;").trim()).toBe("1");
  });

  test.each(transports)("SPEC 19: %s: a refusal says why, takes back what is beside the call, and lets the next one pass", async (_name, transport) => {
    const { sync, view } = client("127.0.0.1", transport);
    await vi.waitFor(() => expect(view.state).toBe("live"));
    const mine = { owner: "ann", done: false, shared: false };
    const refused = sync.transaction(() => {
      sync.todos.create({ id: "1", title: "beside", ...mine });
      sync.mutate.completeTodo({ id: "absent", done: true });
    });
    const unknown = sync.mutate.forgetTodo({ id: "1" });
    const passes = sync.transaction(() => {
      sync.todos.create({ id: "2", title: "passes", ...mine });
      sync.mutate.completeTodo({ id: "2", done: true });
    });
    expect(view.rows).toMatchObject([{ id: "2", done: true }]);
    expect(await refused.result).toEqual({
      ok: false, code: "refused", reason: "not_shared", message: "nobody shares this todo with you any more",
    });
    expect(await unknown.result).toMatchObject({ ok: false, code: "unknown_mutator" });
    expect(await passes.result).toEqual({ ok: true });
    await shown(view, [{ id: "2", done: true }]);
    expect(sync.rejected).toMatchObject([{ code: "refused", reason: "not_shared", write: 1 }, { code: "unknown_mutator" }]);
    expect(app.sql("SELECT id FROM todos WHERE done;").trim()).toBe("2");
  });

  test.each(transports)("SPEC 19: %s: calls made offline are sent in order, once, and are rebased on what others did meanwhile", async (_name, transport) => {
    const [ann, ben] = [client("127.0.0.1", transport), client("localhost", transport)];
    for (const id of ["1", "2"]) ann.sync.todos.create({ id, owner: "ann", title: id, done: false, shared: true });
    await shown(ben.view, [{ id: "1" }, { id: "2" }]);
    ben.sync.disconnect();
    const results = ["1", "2"].map((id) => ben.sync.mutate.completeTodo({ id, done: true }).result);
    expect(ben.view.rows).toMatchObject([{ done: true }, { done: true }]);
    const renamed = ann.sync.todos.update("1", { title: "renamed" });
    const hidden = ann.sync.todos.update("2", { shared: false });
    expect(await Promise.all([renamed.result, hidden.result])).toEqual([{ ok: true }, { ok: true }]);
    ben.sync.connect();
    expect(await Promise.all(results)).toMatchObject([{ ok: true }, { ok: false, code: "refused", reason: "not_shared" }]);
    await shown(ben.view, [{ id: "1", title: "renamed", done: true }]);
    expect(ben.view.rows).toHaveLength(1);
    await shown(ann.view, [{ id: "1", title: "renamed", done: true }, { id: "2", done: false }]);
  });
});
