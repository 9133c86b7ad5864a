import { describe, expect, test } from "vitest";
import { createSync } from "../../src/create.js";
import { entity, type StandardSchema } from "../../src/entity.js";
import { InvalidWriteError } from "../../src/errors.js";
import type { Todo } from "../simulated/harness.js";
import { rest, World } from "../simulated/harness.js";

describe("SPEC 9: what a view shows", () => {
  test("rows are in the order of the options, else by key, numbers by value", async () => {
    const world = new World();
    for (const id of ["10", "9", "b", "a", "1"]) world.server.database.put("todos", { id, title: `${100 - id.length}${id}` });
    const sync = world.client();
    const byKey = sync.todos.live();
    const byTitle = sync.todos.live({ order: (a, b) => (a.title < b.title ? -1 : 1) });
    await world.settle();
    expect(byKey.rows.map(({ id }) => id)).toEqual(["1", "9", "10", "a", "b"]);
    expect(byTitle.rows.map(({ id }) => id)).toEqual(["10", "1", "9", "a", "b"]);
    await sync.close();
  });

  test("a row that the user changes moves between filtered lists at once", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "x", list: "a" });
    const sync = world.client();
    const [a, b] = ["a", "b"].map((list) => sync.todos.live({ where: "list = $1", params: [list] }));
    await world.settle();
    sync.todos.update("1", { list: "b" });
    expect([a!.rows.length, b!.rows]).toEqual([0, [{ id: "1", title: "x", list: "b" }]]);
    await world.settle();
    expect([a!.rows.length, b!.rows]).toEqual([0, [{ id: "1", title: "x", list: "b" }]]);
    await sync.close();
  });

  test("a row that only the server can place stays where it was until the server does", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "x", list: "a" });
    const sync = world.client();
    const view = sync.todos.live({ where: "list = lower($1)", params: ["A"] });
    await world.settle();
    sync.todos.update("1", { title: "y" });
    sync.todos.create({ id: "2", title: "new" });
    expect(view.rows.map(({ title }) => title)).toEqual(["y"]);
    await sync.close();
  });

  test("whether a row is in a subquery's answer the server says; what stands beside the subquery holds at once", async () => {
    const world = new World();
    for (const id of ["1", "2", "3"]) world.server.database.put("todos", { id, title: id, list: "a", done: false });
    const sync = world.client();
    const view = sync.todos.live({ where: "NOT done AND list IN (SELECT m.list_id FROM members m WHERE m.name = $1)", params: ["ann"] });
    await world.settle();
    const shown = () => view.rows.map(({ title }) => title);
    sync.todos.create({ id: "4", title: "new", list: "a", done: false });
    sync.todos.update("1", { title: "renamed" });
    sync.todos.update("2", { list: "b" });
    sync.todos.update("3", { done: true });
    expect(shown()).toEqual(["renamed", "2"]);
    await world.settle();
    expect(shown()).toContain("new");
    await sync.close();
  });

  test("a list of some columns is never taken for the whole row", async () => {
    const world = new World();
    const sync = world.client();
    const whole = sync.todos.live();
    const some = sync.todos.live({ columns: ["title"] });
    await world.settle();
    sync.todos.create({ id: "1", title: "x", list: "a" });
    expect(whole.rows).toEqual([{ id: "1", title: "x", list: "a" }]);
    expect(some.rows).toEqual([{ id: "1", title: "x" }]);
    expect(sync.todos.get("1")).toEqual({ id: "1", title: "x", list: "a" });
    await sync.close();
  });

  test("a transaction is one mutation and one step; one that throws is nothing", async () => {
    const world = new World();
    const sync = world.client();
    const view = sync.todos.live();
    await world.settle();
    let steps = 0;
    view.subscribe(() => (steps += 1));
    const { result } = sync.transaction(() => {
      sync.todos.create({ id: "1", title: "x" });
      sync.lists.create({ id: "l", name: "y" });
    });
    expect(steps).toBe(1);
    expect(() =>
      sync.transaction(() => {
        sync.todos.create({ id: "2", title: "z" });
        throw new Error("changed my mind");
      }),
    ).toThrow("changed my mind");
    await world.settle();
    expect(await result).toEqual({ ok: true });
    expect(view.rows.map(({ id }) => id)).toEqual(["1"]);
    expect(world.server.sessions[0]!.received.filter(({ type }) => type === "push")).toHaveLength(1);
    await sync.close();
  });

  test("all views take in a step before any listener is called", async () => {
    const world = new World();
    const sync = world.client();
    const [todos, lists] = [sync.todos.live(), sync.lists.live()];
    await world.settle();
    const seen: number[][] = [];
    for (const view of [todos, lists]) view.subscribe(() => seen.push([todos.rows.length, lists.rows.length]));
    sync.transaction(() => {
      sync.todos.create({ id: "1", title: "x" });
      sync.lists.create({ id: "l", name: "y" });
    });
    expect(seen).toEqual([[1, 1], [1, 1]]);
    await sync.close();
  });

  test("a row that did not change is the same object, through other writes and through a refetch", async () => {
    const world = new World();
    for (const id of ["1", "2", "3"]) world.server.database.put("todos", { id, title: id });
    const sync = world.client();
    const view = sync.todos.live();
    await world.settle();
    const [, , third] = view.rows;
    sync.todos.update("1", { title: "one" });
    const [first] = view.rows;
    sync.todos.update("2", { title: "two" });
    expect(view.rows[0]).toBe(first);
    expect(view.rows[2]).toBe(third);
    await world.settle();
    const before = view.rows;
    let calls = 0;
    view.subscribe(() => (calls += 1));
    world.server.sessions[0]!.refetch("todos", "schema");
    await world.settle();
    expect(view.rows).toBe(before);
    expect(calls).toBe(2); // stale, and live again
    await sync.close();
  });

  test("a list that is closed and soon opened again is subscribed once", async () => {
    const world = new World();
    const sync = world.client();
    sync.todos.live().close();
    const again = sync.todos.live();
    await world.settle();
    world.clock.pass(10_000);
    await world.settle();
    expect(again.state).toBe("live");
    again.close();
    world.clock.pass(10_000);
    await rest();
    expect(world.server.sessions[0]!.received.map(({ type }) => type).filter((type) => type !== "ping")).toEqual(["hello", "subscribe", "unsubscribe"]);
    await sync.close();
  });
});

describe("SPEC 12: a validator", () => {
  const schema: StandardSchema<Todo> = {
    "~standard": {
      version: 1, vendor: "test",
      validate: (value) => {
        const { title } = value as Partial<Todo>;
        return typeof title === "string" && title.length < 5 ? {} : { issues: [{ message: "title is short text", path: ["title"] }] };
      },
    },
  };

  test("rejects a write before it is kept, and shows invalid rows of the server apart", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "fine" });
    world.server.database.put("todos", { id: "2", title: "much too long" });
    const sync = createSync({
      url: "http://server.test", entities: { todos: entity<Todo>({ schema }) }, storage: world.store, connect: true, environment: world.environment,
    });
    const view = sync.todos.live();
    await world.settle();
    expect(view.rows.map(({ id }) => id)).toEqual(["1"]);
    expect(view.snapshot.invalid).toMatchObject([{ key: "2", issues: [{ message: "title is short text", path: ["title"] }] }]);
    expect(() => sync.todos.create({ title: "much too long" })).toThrow(InvalidWriteError);
    expect(() => sync.todos.update("1", { title: "much too long" })).toThrow(InvalidWriteError);
    expect(sync.status.pending).toBe(0);
    sync.todos.update("2", { title: "ok" });
    expect(view.rows).toHaveLength(2);
    expect(view.snapshot.invalid).toEqual([]);
    await sync.close();
  });
});
