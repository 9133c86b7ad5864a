import { describe, expect, test } from "vitest";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import { comparing } from "../../src/replica/order.js";
import type { OrderBy } from "../../src/replica/selection.js";
import { World } from "../simulated/harness.js";

interface Post {
  id: string;
  title: string;
  at: number | null;
}

function setUp() {
  const world = new World();
  const sync = createSync({
    url: "http://server.test/api/sync", entities: { posts: entity<Post>() }, storage: world.store, connect: true,
    environment: world.environment,
  });
  const put = (id: string, at: number | null, title = `post ${id}`) => world.server.database.put("posts", { id, title, at });
  return { world, sync, put };
}

const ids = (view: { rows: readonly { id: string }[] }) => view.rows.map(({ id }) => id).join(" ");

describe("SPEC 20: windows", () => {
  test("a list with a limit has the first rows in its order, whoever comes and goes", async () => {
    const { world, sync, put } = setUp();
    for (const [id, at] of [["a", 1], ["b", 2], ["c", 3], ["d", 4]] as const) put(id, at);
    const newest = sync.posts.live({ orderBy: [["at", "desc"]], limit: 2 });
    await world.settle();
    expect([ids(newest), newest.hasMore]).toEqual(["d c", true]);
    put("e", 5);
    await world.settle();
    expect(ids(newest)).toBe("e d");
    world.server.database.delete("posts", "e");
    world.server.database.delete("posts", "d");
    await world.settle();
    expect(ids(newest)).toBe("c b");
    put("a", null);
    await world.settle();
    expect(ids(newest)).toBe("a c");
    await sync.close();
  });

  test("texts are in the server's order, which the client does not know", async () => {
    const { world, sync, put } = setUp();
    for (const [id, title] of [["1", "b"], ["2", "C"], ["3", "ä"], ["4", "a"], ["5", "B"]] as const) put(id, 1, title);
    const view = sync.posts.live({ orderBy: [["title", "asc"]], limit: 4 });
    await world.settle();
    const titles = () => view.rows.map(({ title }) => title).join(" ");
    expect(titles()).toBe("a ä b B");
    put("6", 1, "A");
    await world.settle();
    expect(titles()).toBe("a A ä b");
    put("3", 1, "Z");
    await world.settle();
    expect(titles()).toBe("a A b B");
    // What the user writes has a place at once, and its own when the server says it.
    sync.posts.update("4", { title: "Ba" });
    expect(titles()).toContain("Ba");
    await world.settle();
    expect(titles()).toBe("A b B Ba");
    await sync.close();
  });

  test("a write of the user is shown at its place, within the limit", async () => {
    const { world, sync, put } = setUp();
    for (const [id, at] of [["a", 1], ["b", 2], ["c", 3]] as const) put(id, at);
    const newest = sync.posts.live({ orderBy: [["at", "desc"]], limit: 2 });
    await world.settle();
    sync.posts.create({ id: "new", title: "x", at: 9 });
    expect(ids(newest)).toBe("new c");
    sync.posts.create({ id: "old", title: "x", at: 0 });
    expect(ids(newest)).toBe("new c");
    sync.posts.update("c", { at: 10 });
    expect(ids(newest)).toBe("c new");
    sync.posts.delete("c");
    expect(ids(newest)).toBe("new b");
    await world.settle();
    expect(ids(newest)).toBe("new b");
    await sync.close();
  });

  test("more rows are shown when they are there, and the old ones until then", async () => {
    const { world, sync, put } = setUp();
    for (let at = 0; at < 7; at++) put(`${at}`, at);
    const view = sync.posts.live({ orderBy: [["at", "desc"]], limit: 2 });
    await world.settle();
    let seen = 0;
    view.subscribe(() => seen++);
    const more = view.loadMore();
    expect([ids(view), view.state]).toEqual(["6 5", "live"]);
    await world.settle();
    expect([await more, ids(view), view.hasMore, seen > 0]).toEqual([true, "6 5 4 3", true, true]);
    const again = view.loadMore(10);
    await world.settle();
    expect([await again, ids(view), view.hasMore]).toEqual([true, "6 5 4 3 2 1 0", false]);
    put("9", 9);
    await world.settle();
    expect(ids(view)).toBe("9 6 5 4 3 2 1 0");
    // Another one of the same length has its rows at once.
    const other = sync.posts.live({ orderBy: [["at", "desc"]], limit: 2 });
    await world.settle();
    expect([await other.loadMore(12), ids(other)]).toEqual([true, ids(view)]);
    view.close();
    expect(await view.loadMore()).toBe(false);
    expect(await sync.posts.live().loadMore()).toBe(false);
    await sync.close();
  });

  test("what the server refuses leaves the list as it was", async () => {
    const { world, sync, put } = setUp();
    put("a", 1);
    const view = sync.posts.live({ orderBy: [["at", "desc"]], limit: 2 });
    await world.settle();
    world.server.options.error = () => "too_large";
    const more = view.loadMore(5000);
    await world.settle();
    expect([await more, ids(view), view.state]).toEqual([false, "a", "live"]);
    await sync.close();
  });

  test("a list stays as it was without a network, after a reload, in the server's order", async () => {
    const { world, sync, put } = setUp();
    for (const [id, title] of [["1", "b"], ["2", "C"], ["3", "ä"]] as const) put(id, 1, title);
    const options = { orderBy: [["title", "asc"]], limit: 3 } as const;
    sync.posts.live(options);
    await world.settle();
    await sync.close();
    const again = createSync({
      url: "http://server.test/api/sync", entities: { posts: entity<Post>() }, storage: world.store, connect: false,
      environment: world.environment,
    });
    const view = again.posts.live(options);
    await view.ready;
    expect([ids(view), view.state]).toEqual(["3 1 2", "stale"]);
    await again.close();
  });

  test("without a limit the rows are sorted here", async () => {
    const { world, sync, put } = setUp();
    for (const [id, at] of [["a", 1], ["b", 3], ["c", null], ["d", 3]] as const) put(id, at);
    const view = sync.posts.live({ orderBy: [["at", "desc"]] });
    await world.settle();
    expect([ids(view), view.hasMore]).toEqual(["c d b a", false]);
    await sync.close();
  });

  test("values are compared as the server compares them", () => {
    const types: { [column: string]: string } = { big: "int8", day: "timestamptz", n: "numeric" };
    const sorted = (orderBy: OrderBy, rows: { [column: string]: string | number | boolean | null }[]) =>
      rows.sort(comparing(orderBy, ["id"], (column) => types[column])).map(({ id }) => id).join(" ");
    expect(sorted([["big", "asc"]], [{ id: 1, big: "9223372036854775807" }, { id: 2, big: 5 }, { id: 3, big: null }, { id: 4, big: "-9007199254740993" }]))
      .toBe("4 2 1 3");
    expect(sorted([["day", "desc"]], [
      { id: 1, day: "2026-01-01T00:00:00+00:00" }, { id: 2, day: "2026-01-01T00:00:00.5+00:00" }, { id: 3, day: "2026-01-01T00:00:00.55+00:00" },
    ])).toBe("3 2 1");
    expect(sorted([["done", "desc"], ["n", "asc"]], [{ id: 1, done: true, n: 10 }, { id: 2, done: true, n: 9 }, { id: 3, done: false, n: 1 }])).toBe("2 1 3");
    // The key decides in the direction of the last column.
    expect(sorted([["done", "desc"]], [{ id: 1, done: true }, { id: 10, done: true }, { id: 9, done: true }])).toBe("10 9 1");
  });
});
