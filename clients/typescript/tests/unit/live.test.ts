import { expect, test } from "vitest";
import { World, recording, rest } from "../simulated/harness.js";

test("a list fills at once, follows the server, and never shows half a snapshot", async () => {
  const world = new World();
  for (const id of ["1", "2", "3"]) world.server.database.put("todos", { id, title: id });
  const sync = world.client();
  const view = sync.todos.live();
  const shown = recording(view);
  expect(view.state).toBe("loading");
  await world.settle();
  expect(view.state).toBe("live");
  expect(shown.map((rows) => rows.length)).toEqual([0, 3]);
  world.server.database.put("todos", { id: "2", title: "two" });
  world.server.database.delete("todos", "1");
  await world.settle();
  expect(view.rows).toEqual([{ id: "2", title: "two" }, { id: "3", title: "3" }]);
  expect(sync.status.state).toBe("live");
  await sync.close();
});

test("a write is shown at once, stays through ack and cursor, and is the server's afterwards", async () => {
  const world = new World();
  const sync = world.client();
  const view = sync.todos.live();
  await world.settle();
  const shown = recording(view);
  const { key, result, saved } = sync.todos.create({ title: "milk" });
  expect(view.rows).toEqual([{ id: key, title: "milk" }]);
  expect(view.isPending(key)).toBe(true);
  expect(sync.status.pending).toBe(1);
  await world.settle();
  expect(await saved).toBe(false); // memory alone has it
  expect(await result).toEqual({ ok: true });
  expect(view.isPending(key)).toBe(false);
  expect(sync.status.pending).toBe(0);
  expect(world.server.database.table("todos").get(key)).toEqual({ id: key, title: "milk" });
  // It was always there, once.
  expect(shown.slice(1).every((rows) => rows.length === 1)).toBe(true);
  await sync.close();
});

test("a rejected write disappears, is kept as a dead letter, and lets the next one pass", async () => {
  const world = new World();
  world.server.database.rejects = ({ values }) => (values?.["title"] === "bad" ? "no bad titles" : undefined);
  const sync = world.client();
  const view = sync.todos.live();
  await world.settle();
  const bad = sync.todos.create({ id: "1", title: "bad" });
  const good = sync.todos.create({ id: "2", title: "good" });
  expect(view.rows).toHaveLength(2);
  await world.settle();
  expect(await bad.result).toEqual({ ok: false, code: "constraint", message: "no bad titles" });
  expect(await good.result).toEqual({ ok: true });
  expect(view.rows).toEqual([{ id: "2", title: "good" }]);
  expect(sync.rejected).toMatchObject([{ code: "constraint", writes: [{ op: "create", values: { title: "bad" } }] }]);
  world.server.database.rejects = () => undefined;
  sync.retry(sync.rejected[0]!.id);
  await world.settle();
  expect(sync.rejected).toEqual([]);
  expect(view.rows).toHaveLength(2);
  await sync.close();
});

test("offline writes survive a reload, are shown before the network answers, and reach the server once and in order", async () => {
  const world = new World();
  world.server.database.put("todos", { id: "1", title: "one" });
  const first = world.client();
  first.todos.live();
  await world.settle();
  first.disconnect();
  first.todos.update("1", { title: "uno" });
  first.todos.create({ id: "2", title: "dos" });
  first.todos.update("2", { title: "two" });
  await rest();
  await first.close();

  const second = world.client({ connect: false });
  const view = second.todos.live();
  await view.ready;
  expect(view.rows).toEqual([{ id: "1", title: "uno" }, { id: "2", title: "two" }]);
  expect(view.state).toBe("stale");
  expect(second.status).toMatchObject({ state: "offline", pending: 3 });
  second.connect();
  await world.settle();
  expect([...world.server.database.table("todos").values()]).toEqual(view.rows);
  expect(second.status).toMatchObject({ state: "live", pending: 0 });
  expect([...world.server.database.applied.values()]).toEqual([1, 1, 1]);
  await second.close();
});

test("SPEC 12, 13: the status says why there is no connection, also while views come and go", async () => {
  const world = new World();
  const sync = world.client();
  await world.settle();
  expect(sync.status.state).toBe("live");
  world.server.drop(4403);
  await rest();
  sync.todos.live();
  await rest();
  expect(sync.status).toMatchObject({ state: "error", error: { code: "forbidden", remedy: "signIn" } });
  sync.connect();
  await world.settle();
  expect(sync.status).toMatchObject({ state: "live", error: undefined });
  await sync.close();
});

test("SPEC 12: an error of one list is that list's alone, and the next connection requests it again", async () => {
  const world = new World();
  world.server.options.error = (entity) => (entity === "lists" ? "bad_filter" : undefined);
  const sync = world.client();
  const [todos, lists] = [sync.todos.live(), sync.lists.live()];
  await world.settle();
  expect([todos.state, lists.state]).toEqual(["live", "error"]);
  expect(lists.error).toMatchObject({ code: "bad_filter", remedy: "correct" });
  await lists.ready;
  world.server.options.error = () => undefined;
  world.server.drop();
  await world.recover();
  expect([todos.state, lists.state, lists.error]).toEqual(["live", "live", undefined]);
  await sync.close();
});

test("the status has the server's features after the first connection, also while there is none", async () => {
  const world = new World();
  const sync = world.client();
  const reported: (readonly string[])[] = [];
  sync.on("status", ({ features }) => reported.push(features));
  expect(sync.status.features).toEqual([]);
  await world.settle();
  expect(sync.status).toMatchObject({ state: "live", features: ["rows", "push", "mutators"] });
  world.server.drop();
  expect(sync.status).toMatchObject({ state: "connecting", features: ["rows", "push", "mutators"] });
  world.server.options.features = ["rows"];
  await world.recover();
  expect(sync.status).toMatchObject({ state: "live", features: ["rows"] });
  expect(reported.at(-1)).toEqual(["rows"]);
  await sync.close();
});
