// @vitest-environment jsdom
import { act, StrictMode, useState } from "react";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fields, type FieldsEntity } from "../../src/fields.js";
import { useConflicts, useLive, useRow, useStatus } from "../../src/react.js";
import { rest, World, type Client, type Todo } from "../simulated/harness.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

let world: World;
let sync: Client;
let root: Root;
let host: HTMLElement;
beforeEach(() => {
  world = new World();
  for (const id of ["1", "2"]) world.server.database.put("todos", { id, title: `title ${id}`, list: "a" });
  sync = world.client();
  host = document.createElement("div");
  root = createRoot(host);
});
afterEach(async () => {
  await act(async () => root.unmount());
  await sync.close();
});

const settle = () => act(() => world.settle());
const byTitle = (a: Todo, b: Todo) => (a.title < b.title ? 1 : -1);

function List({ seen }: { seen?: (rows: readonly Todo[]) => void }) {
  const { rows, state } = useLive(sync.todos, { order: byTitle });
  seen?.(rows);
  return <ul data-state={state}>{rows.map((row) => <li key={row.id}>{row.title}</li>)}</ul>;
}

test("SPEC 14: a list follows the server and the user's writes, in StrictMode, sharing one subscription", async () => {
  await act(async () => root.render(<StrictMode><List /><List /></StrictMode>));
  expect(host.querySelector("ul")?.dataset["state"]).toBe("loading");
  await settle();
  expect([...host.querySelectorAll("ul:first-child li")].map((item) => item.textContent)).toEqual(["title 2", "title 1"]);
  await act(async () => void sync.todos.update("1", { title: "z first" }));
  expect(host.querySelectorAll("ul")[1]?.textContent).toBe("z firsttitle 2");
  await settle();
  expect(host.textContent).toBe("z firsttitle 2z firsttitle 2");
  const subscribed = world.server.sessions[0]!.received.filter(({ type }) => type === "subscribe");
  expect(subscribed).toHaveLength(1);
});

test("SPEC 14: a change elsewhere draws nothing again, and an unchanged row is the same object", async () => {
  const seen: (readonly Todo[])[] = [];
  await act(async () => root.render(<List seen={(rows) => seen.push(rows)} />));
  await settle();
  const drawn = seen.length;
  const [second] = seen.at(-1)!;
  world.server.database.put("lists", { id: "l", name: "other" });
  await settle();
  expect(seen).toHaveLength(drawn);
  world.server.database.put("todos", { id: "1", title: "changed", list: "a" });
  await settle();
  expect(seen.at(-1)!.find(({ id }) => id === "2")).toBe(second);
});

test("SPEC 14: the list ends some time after it has been unmounted", async () => {
  function Toggle() {
    const [open, setOpen] = useState(true);
    return <><button onClick={() => setOpen(!open)} />{open && <List />}</>;
  }
  await act(async () => root.render(<Toggle />));
  await settle();
  const click = () => act(async () => host.querySelector("button")!.click());
  await click();
  await click();
  world.clock.pass(60_000);
  await settle();
  expect(world.server.sessions[0]!.subscriptions.size).toBe(1);
  await click();
  world.clock.pass(60_000);
  await settle();
  expect(world.server.sessions[0]!.subscriptions.size).toBe(0);
});

test("SPEC 14: a row by its key, and the status", async () => {
  function Row({ id }: { id: string }) {
    const row = useRow(sync.todos, id);
    const { state, pending } = useStatus(sync);
    return <p>{`${row?.title ?? "none"} ${state} ${pending}`}</p>;
  }
  // The simulated server filters by one column.
  await act(async () => root.render(<Row id="2" />));
  await settle();
  expect(host.textContent).toBe("title 2 live 0");
  await act(async () => {
    sync.todos.update("2", { title: "new" });
    await rest();
  });
  expect(host.textContent).toBe("new live 1");
  await settle();
  expect(host.textContent).toBe("new live 0");
  await act(async () => root.render(<Row id="9" />));
  await settle();
  expect(host.textContent).toBe("none live 0");
});

test("SPEC 14: on a server it renders as loading and opens nothing", async () => {
  expect(renderToString(<List />)).toBe('<ul data-state="loading"></ul>');
  await world.settle();
  expect(world.server.sessions[0]!.received.some(({ type }) => type === "subscribe")).toBe(false);
});

test("SPEC 14, 22: the conflicts of an entity, until they are dismissed", async () => {
  const merging = world.client({ fields: fields(["todos"]) as never, storage: "memory" });
  const todos = merging.todos as FieldsEntity<Todo>;
  const Conflicts = () => <p>{useConflicts(todos).map(({ id, lost }) => <b key={id}>{String(lost.value)}</b>)}</p>;
  expect(renderToString(<Conflicts />)).toBe("<p></p>");
  await act(async () => root.render(<Conflicts />));
  await settle();
  const clock = "2026-11-20T07:00:00.000Z-0000-node";
  world.server.sessions.at(-1)!.frames.push({
    type: "conflict", entity: "todos", key: "1", field: "title", lost: { value: "lost", hlc: clock }, strategy: "last_write_wins",
  });
  await settle();
  expect(host.textContent).toBe("lost");
  await act(async () => todos.conflicts.dismiss(todos.conflicts.rows[0]!));
  expect(host.textContent).toBe("");
  await merging.close();
});
