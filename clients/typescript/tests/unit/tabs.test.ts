import { expect, test } from "vitest";
import { StorageError } from "../../src/errors.js";
import { Browser } from "../simulated/browser.js";
import { recording, rest } from "../simulated/harness.js";

test("SPEC 10: two tabs share one connection, see each other's writes at once, and both follow the server", async () => {
  const browser = new Browser();
  const { world } = browser;
  world.server.database.put("todos", { id: "1", title: "one" });
  const [a, b] = [browser.tab(), browser.tab()];
  const [inA, inB] = [a.sync.todos.live(), b.sync.todos.live()];
  await world.settle();
  expect([a.sync.status.leader, b.sync.status.leader]).toEqual([true, false]);
  expect(world.server.sessions).toHaveLength(1);
  expect(inB.rows).toEqual([{ id: "1", title: "one" }]);
  expect([a.sync.status.state, b.sync.status.state]).toEqual(["live", "live"]);
  b.sync.todos.create({ id: "2", title: "two" });
  await rest();
  expect(inA.rows).toHaveLength(2);
  expect(a.sync.status.pending).toBe(1);
  await world.settle();
  expect([...world.server.database.table("todos").keys()]).toEqual(["1", "2"]);
  expect([a.sync.status.pending, b.sync.status.pending]).toEqual([0, 0]);
  world.server.database.put("todos", { id: "3", title: "three" });
  await world.settle();
  expect(inB.rows).toEqual(inA.rows);
  expect(inB.rows).toHaveLength(3);
  await a.close();
  await b.close();
});

test("SPEC 10: a list that only a follower shows is subscribed to, and ends with it", async () => {
  const browser = new Browser();
  const { world } = browser;
  world.server.database.put("todos", { id: "1", title: "one", list: "a" });
  const [a, b] = [browser.tab(), browser.tab()];
  await world.settle();
  const list = b.sync.todos.live({ where: "list = $1", params: ["a"] });
  await world.settle();
  expect(list.rows).toHaveLength(1);
  expect(list.state).toBe("live");
  expect(world.server.sessions[0]!.subscriptions.size).toBe(1);
  await b.close();
  await world.settle();
  expect(world.server.sessions[0]!.subscriptions.size).toBe(0);
  await a.close();
});

test.each(["closed", "killed"])("SPEC 10: when the leader is %s another tab takes over, and nothing is lost, repeated or seen to go back", async (how) => {
  const browser = new Browser();
  const { world } = browser;
  for (const id of ["1", "2", "3"]) world.server.database.put("todos", { id, title: id });
  const [a, b] = [browser.tab(), browser.tab()];
  a.sync.todos.live();
  const view = b.sync.todos.live();
  await world.settle();
  const shown = recording(view);
  // The server has applied it, and the answer is on its way when the leader ends.
  b.sync.todos.update("1", { title: "uno" });
  await rest();
  world.server.sessions[0]!.apply();
  b.sync.todos.create({ id: "4", title: "four" });
  if (how === "closed") await a.close();
  else a.kill();
  b.sync.todos.update("4", { title: "quattro" });
  await world.recover();
  expect(b.sync.status).toMatchObject({ leader: true, state: "live", pending: 0 });
  expect(view.rows).toEqual([...world.server.database.table("todos").values()]);
  expect(view.rows.map(({ title }) => title)).toEqual(["uno", "2", "3", "quattro"]);
  expect([...world.server.database.applied.values()]).toEqual([1, 1, 1]);
  for (const rows of shown.slice(1)) expect(rows[0]!.title).toBe("uno");
  await b.close();
});

test("SPEC 10: a leader that dies between sending a step to the tabs and storing it leaves a sound store", async () => {
  const browser = new Browser();
  const { world } = browser;
  const { database } = world.server;
  database.put("todos", { id: "1", title: "one" });
  const [a, b] = [browser.tab(), browser.tab()];
  a.sync.todos.live();
  const view = b.sync.todos.live();
  await world.settle();
  a.store.pause();
  database.put("todos", { id: "2", title: "came" });
  database.put("todos", { id: "3", title: "came, too" });
  await world.settle();
  expect(view.rows).toHaveLength(3);
  a.kill();
  // A resume from the stored cursor would not mention this row, one from the shown cursor not the other.
  database.delete("todos", "2");
  await world.recover();
  const expected = [{ id: "1", title: "one" }, { id: "3", title: "came, too" }];
  expect(view.rows).toEqual(expected);
  await b.close();
  const c = browser.tab();
  const again = c.sync.todos.live();
  await again.ready;
  expect(again.rows).toEqual(expected);
  await c.close();
});

test("SPEC 5, 10: a mutation is not sent again when the dead leader stored its answer without announcing it", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b] = [browser.tab(), browser.tab()];
  const view = b.sync.todos.live();
  await world.settle();
  browser.delivers = (to) => to !== b;
  b.sync.todos.create({ id: "1", title: "one" });
  await world.settle();
  expect((await browser.disk.open()).queue).toEqual([]);
  a.kill();
  await world.recover();
  expect(world.server.database.effects).toHaveLength(1);
  expect(b.sync.rejected).toEqual([]);
  expect(b.sync.status.pending).toBe(0);
  expect(view.rows).toEqual([{ id: "1", title: "one" }]);
  await b.close();
});

test("SPEC 1, 10: a follower that is still reading its store never shows a step without the rows before it", async () => {
  const browser = new Browser();
  const { world } = browser;
  for (const id of ["1", "2"]) world.server.database.put("todos", { id, title: id });
  const [a, b] = [browser.tab(), browser.tab()];
  a.sync.todos.live();
  await world.settle();
  browser.delivers = (_to, { message }) => message.type !== "rows";
  b.store.pause();
  const view = b.sync.todos.live();
  const shown = recording(view);
  world.server.database.put("todos", { id: "3", title: "3" });
  await world.settle();
  browser.delivers = () => true;
  b.store.resume();
  await world.settle();
  world.server.database.put("todos", { id: "4", title: "4" });
  await world.settle();
  for (const rows of shown) expect([0, 2, 3, 4]).toContain(rows.length);
  expect(shown.some((rows) => rows.length === 1)).toBe(false);
  await a.close();
  await b.close();
});

test("SPEC 10: a follower that missed a step asks for everything again", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b] = [browser.tab(), browser.tab()];
  const view = b.sync.todos.live();
  await world.settle();
  browser.delivers = (_to, { message }) => message.type !== "commit";
  world.server.database.put("todos", { id: "1", title: "missed" });
  await world.settle();
  browser.delivers = () => true;
  world.server.database.put("todos", { id: "2", title: "received" });
  await world.settle();
  expect(view.rows.map(({ title }) => title)).toEqual(["missed", "received"]);
  await a.close();
  await b.close();
});

test("SPEC 10: all tabs share dead letters and the offline switch", async () => {
  const browser = new Browser();
  const { world } = browser;
  world.server.database.rejects = () => "never";
  const [a, b] = [browser.tab(), browser.tab()];
  await world.settle();
  const { result } = b.sync.todos.create({ id: "1", title: "x" });
  await world.settle();
  expect(await result).toMatchObject({ ok: false, message: "never" });
  expect([a.sync.rejected.length, b.sync.rejected.length]).toEqual([1, 1]);
  a.sync.dismiss(a.sync.rejected[0]!.id);
  await rest();
  expect([a.sync.rejected.length, b.sync.rejected.length]).toEqual([0, 0]);
  b.sync.disconnect();
  await world.settle();
  expect([a.sync.status.state, b.sync.status.state]).toEqual(["offline", "offline"]);
  b.sync.connect();
  await world.settle();
  expect([a.sync.status.state, b.sync.status.state]).toEqual(["live", "live"]);
  await a.close();
  await b.close();
});

test("SPEC 10: a client that is disconnected stays so when another tab takes over", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b, c] = [browser.tab(), browser.tab(), browser.tab()];
  await world.settle();
  a.sync.disconnect();
  await world.settle();
  await a.close();
  await world.recover();
  expect(b.sync.status).toMatchObject({ leader: true, state: "offline" });
  expect(world.server.sessions).toHaveLength(0);
  c.sync.connect();
  await world.settle();
  expect(b.sync.status.state).toBe("live");
  await b.close();
  await c.close();
});

test("SPEC 10: a client that wants a connection is never offline, neither when it loads nor when a tab takes over", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b] = [browser.tab(), browser.tab()];
  const states: string[] = [];
  b.sync.on("status", ({ state }) => states.push(state));
  a.sync.todos.live();
  b.sync.todos.live();
  await world.settle();
  a.kill();
  await world.recover();
  expect(b.sync.status).toMatchObject({ leader: true, state: "live" });
  expect(new Set(states)).toEqual(new Set(["connecting", "behind", "live"]));
  await b.close();
});

test("SPEC 10: every tab has the leader's status, also one that joins late or takes over", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b] = [browser.tab(), browser.tab()];
  b.sync.todos.live();
  await world.settle();
  const known = { features: ["rows", "push", "mutators"], lastSynced: new Date(0) };
  expect(b.sync.status).toMatchObject({ leader: false, transport: "simulated", ...known });
  world.server.reachable = false;
  a.kill();
  await world.recover();
  expect(b.sync.status).toMatchObject({ leader: true, state: "connecting", ...known });
  b.sync.disconnect();
  await b.close();
  const [c, d] = [browser.tab(), browser.tab()];
  c.sync.disconnect();
  await world.settle();
  const late = browser.tab();
  late.sync.todos.live();
  await world.settle();
  expect([c, d, late].map(({ sync }) => sync.status.state)).toEqual(["offline", "offline", "offline"]);
  await Promise.all([c, d, late].map((tab) => tab.close()));
});

test("SPEC 5, 10: a write that a closing tab stored is sent, whether it was announced or not", async () => {
  const browser = new Browser();
  const { world } = browser;
  const { database } = world.server;
  const [a, b, c] = [browser.tab(), browser.tab(), browser.tab()];
  await world.settle();
  // The disk is busy, so the write is stored while the tab closes.
  b.store.pause();
  b.sync.todos.create({ id: "busy", title: "x" });
  const closing = b.close();
  await rest();
  b.store.resume();
  await closing;
  await world.settle();
  expect([...database.table("todos").keys()]).toEqual(["busy"]);
  browser.delivers = (_to, { message }) => message.type !== "queued";
  c.sync.todos.create({ id: "unannounced", title: "y" });
  await world.settle();
  expect(database.table("todos").has("unannounced")).toBe(false);
  await c.close();
  await world.settle();
  expect(database.table("todos").has("unannounced")).toBe(true);
  await a.close();
});

test("SPEC 5, 8, 10: a write that no store has room for is sent once, also when the leader dies meanwhile", async () => {
  const browser = new Browser();
  const { world } = browser;
  const [a, b] = [browser.tab(), browser.tab()];
  await world.settle();
  b.store.enqueue = () => Promise.reject(new StorageError("full"));
  const { saved } = b.sync.todos.create({ id: "1", title: "x" });
  expect(await saved).toBe(false);
  expect(b.sync.status).toMatchObject({ storage: "full", unsaved: 1, pending: 1 });
  await rest();
  world.server.sessions[0]!.apply();
  a.kill();
  await world.recover();
  expect(world.server.database.effects).toHaveLength(1);
  expect(b.sync.rejected).toEqual([]);
  expect(b.sync.status.pending).toBe(0);
  await b.close();
});
