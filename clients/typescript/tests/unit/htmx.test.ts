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

test("SPEC 15: a script element opens what it names, and dispatches every change and state", async () => {
  document.body.innerHTML = '<script src="/api/sync/client.js" data-sync-entities="todos, lists" data-sync-url="http://server.test/api/sync"></script>';
  const changes: [string, number][] = [];
  const states: string[] = [];
  for (const name of ["todos", "lists"]) {
    document.body.addEventListener(`rhtmx:${name}:changed`, (event) =>
      changes.push([name, (event as CustomEvent<{ rows: unknown[] }>).detail.rows.length]));
  }
  window.addEventListener("rhtmx:connection:state", (event) => states.push((event as CustomEvent<{ state: string }>).detail.state));
  await import("../../src/client.js");
  await world.settle();
  world.server.database.put("todos", { id: "1", title: "one" });
  await world.settle();
  expect(changes).toContainEqual(["todos", 1]);
  expect(changes.filter(([name]) => name === "lists").every(([, rows]) => rows === 0)).toBe(true);
  expect(states[0]).toBe("connecting");
  expect(states.at(-1)).toBe("live");
  expect(window.rhtmx?.views?.["todos"]?.rows).toEqual([{ id: "1", title: "one" }]);
  await window.rhtmx?.sync?.close();
});
