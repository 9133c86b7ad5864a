// @vitest-environment jsdom
import { expect, test, vi } from "vitest";
import type * as create from "../../src/create.js";
import { World } from "../simulated/harness.js";

const world = new World();
vi.mock("../../src/create.js", async (original) => {
  const { createExtended } = await original<typeof create>();
  return {
    createExtended: (options: create.CreateSyncOptions<never>) =>
      createExtended({ ...options, storage: world.store, connect: true, environment: { ...world.environment } }),
  };
});

test("SPEC 15, 22: a script element that names entities with fields tells which fields of a row change, and of conflicts", async () => {
  const { database, options } = world.server;
  options.features.push("fields");
  database.tracks.rules.set("todos", { strategy: "last_write_wins", deletes: "win", columns: {} });
  database.tracks.now = () => world.clock.now();
  database.put("todos", { id: "1", title: "one", done: false });
  document.body.innerHTML =
    '<script src="/api/sync/client.js" data-sync-entities="todos lists" data-sync-fields="todos" data-sync-url="http://server.test/api/sync"></script>';
  const events: [string, unknown][] = [];
  for (const name of ["rhtmx:todos:field-changed", "rhtmx:lists:field-changed", "rhtmx:field:conflict", "rhtmx:sync:ready"]) {
    window.addEventListener(name, (event) => events.push([name, (event as CustomEvent).detail]));
  }
  await import("../../src/client.js");
  await vi.waitFor(() => expect(window.rhtmx?.sync).toBeDefined());
  await world.settle();
  expect(events).toMatchObject([["rhtmx:sync:ready", { state: "live" }]]);
  database.put("todos", { id: "1", title: "uno", done: true });
  database.put("todos", { id: "2", title: "two", done: false });
  database.put("lists", { id: "1", name: "list" });
  await world.settle();
  expect(events.splice(1)).toEqual([["rhtmx:todos:field-changed", { key: "1", fields: ["title", "done"] }]]);
  // What is shown at once is a change, too; then the server has a newer title.
  window.rhtmx!.sync!.disconnect();
  window.rhtmx!.sync!.entity("todos").update("1", { title: "mine" });
  world.clock.pass(1000);
  database.put("todos", { id: "1", title: "theirs", done: true });
  window.rhtmx!.sync!.connect();
  await world.settle();
  expect(events.splice(1)).toMatchObject([
    ["rhtmx:todos:field-changed", { key: "1", fields: ["title"] }],
    ["rhtmx:todos:field-changed", { key: "1", fields: ["title"] }],
    ["rhtmx:field:conflict", { entity: "todos", key: "1", field: "title", lost: { value: "mine" }, kept: { value: "theirs" } }],
  ]);
  await window.rhtmx?.sync?.close();
});
