import "fake-indexeddb/auto";
import { describe, expect, test, vi } from "vitest";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import type { MutatorFunctions, MutatorTx } from "../../src/mutators.js";
import { IndexedDbStore } from "../../src/store/indexeddb.js";
import { Refusal, type ServerTx } from "../simulated/database.js";
import { Browser } from "../simulated/browser.js";
import { ENTITIES, MUTATORS, recording, rest, World, type Todo } from "../simulated/harness.js";

/** A client with mutators of its own on a simulated server. */
function client<M>(world: World, mutators: MutatorFunctions<typeof ENTITIES, M>) {
  return createSync({ url: "http://server.test", entities: ENTITIES, mutators, storage: world.store, connect: true, environment: world.environment });
}

describe("SPEC 19: mutators", () => {
  test("a call is shown at once, is sent by name in snake case, and is the server's afterwards", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "one", done: false });
    world.server.database.mutators = {
      complete_todo(tx: ServerTx, args) {
        const { id } = args as { id: string };
        tx.put("todos", { ...tx.get("todos", id), id, done: true, n: 42 });
      },
    };
    const sync = createSync({
      url: "http://server.test", entities: ENTITIES, storage: world.store, connect: true, environment: world.environment,
      mutators: {
        completeTodo(tx, args: { id: string }) {
          tx.todos.update(args.id, { done: true });
        },
      },
    });
    const view = sync.todos.live();
    await world.settle();
    const shown = recording(view);
    const { saved, result } = sync.mutate.completeTodo({ id: "1" });
    expect(view.rows).toEqual([{ id: "1", title: "one", done: true }]);
    expect([view.isPending("1"), sync.status.pending]).toEqual([true, 1]);
    expect(sync.pending[0]!.writes).toEqual([{ mutator: "complete_todo", args: { id: "1" } }]);
    await world.settle();
    expect(await saved).toBe(false); // memory alone has it
    expect(await result).toEqual({ ok: true });
    expect(world.server.sessions[0]!.received.filter(({ type }) => type === "push")).toMatchObject([{ writes: [{ mutator: "complete_todo", args: { id: "1" } }] }]);
    expect(view.rows).toEqual([{ id: "1", title: "one", done: true, n: 42 }]);
    expect([view.isPending("1"), sync.status.pending]).toEqual([false, 0]);
    expect(shown.slice(1).every(([row]) => row?.done)).toBe(true);
    await sync.close();
  });

  test("a refused call disappears, is a dead letter with its reason, and can be tried again", async () => {
    const world = new World();
    let full = true;
    world.server.database.mutators = {
      add_todo(tx, args) {
        if (full) throw new Refusal("list_full");
        tx.put("todos", args as { id: string });
      },
    };
    const sync = client(world, { addTodo: (tx, args: Todo) => tx.todos.create({ ...args }) });
    const view = sync.todos.live();
    await world.settle();
    const { result } = sync.mutate.addTodo({ id: "1", title: "one" });
    expect(view.rows).toHaveLength(1);
    await world.settle();
    expect(await result).toEqual({ ok: false, code: "refused", message: "refused: list_full", reason: "list_full" });
    expect(view.rows).toEqual([]);
    expect(sync.rejected).toMatchObject([{ code: "refused", reason: "list_full", write: 0, writes: [{ mutator: "add_todo" }] }]);
    full = false;
    sync.retry(sync.rejected[0]!.id);
    expect(view.rows).toHaveLength(1);
    await world.settle();
    expect(sync.rejected).toEqual([]);
    expect([...world.server.database.table("todos").keys()]).toEqual(["1"]);
    await sync.close();
  });

  test("a call reads the rows with all that was queued before it, in other lists, in its own transaction, and by itself", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "one", n: 1 });
    const seen: unknown[] = [];
    const sync = client(world, {
      look: (tx) => {
        seen.push([tx.todos.get("1")?.n, tx.lists.get("l")?.name]);
        tx.todos.update("1", { n: (tx.todos.get("1")?.n ?? 0) + 10 });
        seen.push(tx.todos.get("1")?.n);
      },
    });
    sync.disconnect();
    const view = sync.todos.live();
    sync.lists.live();
    sync.connect();
    await world.settle();
    sync.disconnect();
    sync.todos.update("1", { n: 2 });
    sync.mutate.look();
    expect(seen.splice(0).slice(0, 2)).toEqual([[2, undefined], 12]);
    sync.transaction(() => {
      sync.lists.create({ id: "l", name: "list" });
      sync.mutate.look();
      expect(seen.splice(0)).toEqual([[12, "list"], 22]);
      sync.mutate.look();
    });
    expect(view.rows).toEqual([{ id: "1", title: "one", n: 32 }]);
    expect(sync.pending.map(({ writes }) => writes.length)).toEqual([1, 1, 3]);
    await sync.close();
  });

  test("a call is rebased on what others write", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "one", n: 1 });
    const sync = client(world, { count: (tx, args: { by: number }) => tx.todos.update("1", { n: tx.todos.get("1")!.n! + args.by }) });
    const view = sync.todos.live();
    await world.settle();
    sync.mutate.count({ by: 5 });
    expect(view.rows[0]!.n).toBe(6);
    world.server.database.put("todos", { id: "1", title: "one", n: 100 });
    world.server.sessions[0]!.drain();
    while (world.server.sessions[0]!.deliver());
    expect(view.rows[0]!.n).toBe(105);
    await sync.close();
  });

  test("a call whose answer was lost is not counted twice when the rows are back, and is rebased again after that", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "mine-count", title: "count", n: 10 });
    const sync = world.client();
    const view = sync.todos.live();
    await world.settle();
    const shown: unknown[] = [];
    view.subscribe(() => shown.push(view.rows[0]!.n));
    sync.mutate.countUp({ n: 1 });
    await rest();
    world.server.sessions[0]!.apply();
    world.server.drop();
    sync.mutate.countUp({ n: 2 });
    await world.recover();
    expect([...new Set(shown)]).toEqual([11, 12]);
    expect(world.server.database.called).toHaveLength(2);
    sync.mutate.countUp({ n: 3 });
    world.server.database.put("todos", { id: "mine-count", title: "count", n: 50 });
    world.server.sessions[0]!.drain();
    while (world.server.sessions[0]!.deliver());
    expect(view.rows[0]!.n).toBe(51);
    await sync.close();
  });

  test("a call is not counted twice where its rows come before its answer, as over server-sent events", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "mine-count", title: "count", n: 10 });
    world.server.options.late = true;
    world.server.transport.name = "events";
    const sync = world.client();
    const view = sync.todos.live();
    await world.settle();
    const shown = recording(view);
    sync.mutate.countUp({ n: 1 });
    await rest();
    const [session] = world.server.sessions;
    session!.apply();
    session!.drain();
    session!.deliver();
    session!.deliver();
    expect(view.isPending("mine-count"), "the rows are here, and no answer").toBe(true);
    await world.settle();
    expect(view.isPending("mine-count")).toBe(false);
    expect([...new Set(shown.map(([row]) => row!.n))]).toEqual([10, 11]);
    await sync.close();
  });

  test.each(["memory", "IndexedDB"])("a call survives a reload, and a page that lacks its function sends it all the same: %s", async (kind) => {
    const world = new World();
    const name = crypto.randomUUID();
    const storage = () => (kind === "memory" ? world.store : new IndexedDbStore(name));
    const first = world.client({ storage: storage() });
    const before = first.todos.live();
    await vi.waitFor(async () => (await world.settle(), expect(before.state).toBe("live")));
    first.disconnect();
    expect(await first.mutate.markOnce({ n: 7 }).saved).toBe(kind === "IndexedDB");
    await first.close();

    const second = world.client({ connect: false, storage: storage() });
    const view = second.todos.live();
    await view.ready;
    expect(view.rows).toEqual([{ id: "marks", title: "7" }]);
    await second.close();

    const older = world.client({ mutators: {}, storage: storage(), connect: false });
    const list = older.todos.live();
    await list.ready;
    expect([list.rows, older.status.pending]).toEqual([[], 1]);
    older.connect();
    await vi.waitFor(async () => (await world.settle(), expect(older.status.pending).toBe(0)));
    expect(list.rows).toEqual([{ id: "marks", title: "7" }]);
    expect(world.server.database.called).toEqual([{ mutator: "mark_once", args: { n: 7 } }]);
    await older.close();
  });

  test("SPEC 10, 19: another tab shows a call at once, as far as it knows the function", async () => {
    const browser = new Browser();
    const { world } = browser;
    const [leader, same, older] = [browser.tab(), browser.tab(), browser.tab({ mutators: {} })];
    const views = [leader, same, older].map(({ sync }) => sync.todos.live());
    await world.settle();
    same.sync.mutate.markOnce({ n: 1 });
    await rest();
    expect(views.map(({ rows }) => rows.length)).toEqual([1, 1, 0]);
    expect([leader, same, older].map(({ sync }) => sync.status.pending)).toEqual([1, 1, 1]);
    same.sync.mutate.markOnce({ n: 2 });
    await rest();
    leader.kill();
    await world.recover();
    expect(views.slice(1).map(({ rows }) => rows)).toEqual([[{ id: "marks", title: "1,2" }], [{ id: "marks", title: "1,2" }]]);
    expect(world.server.database.called).toHaveLength(2);
    await same.close();
    await older.close();
  });

  test("a function that throws is the caller's error, and nothing is queued; within a transaction, nothing of the call", async () => {
    const world = new World();
    const sync = client(world, {
      fails: (tx) => {
        tx.todos.create({ id: "1", title: "x" });
        throw new Error("changed my mind");
      },
    });
    const view = sync.todos.live();
    await world.settle();
    expect(() => sync.mutate.fails()).toThrow("changed my mind");
    expect([sync.pending, view.rows]).toEqual([[], []]);
    sync.transaction(() => {
      sync.todos.create({ id: "2", title: "y" });
      expect(() => sync.mutate.fails()).toThrow("changed my mind");
    });
    expect(sync.pending.map(({ writes }) => writes)).toMatchObject([[{ op: "create" }]]);
    await sync.close();
  });

  test("a function that throws after a rebase shows nothing, and the server decides", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "one" });
    world.server.database.mutators = { rename: (tx) => tx.put("todos", { id: "1", title: "back again" }) };
    const sync = client(world, {
      rename: (tx) => {
        if (!tx.todos.get("1")) throw new Error("gone");
        tx.todos.update("1", { title: "new" });
      },
    });
    const view = sync.todos.live();
    await world.settle();
    const { result } = sync.mutate.rename();
    world.server.database.delete("todos", "1");
    world.server.sessions[0]!.drain();
    while (world.server.sessions[0]!.deliver());
    expect(view.rows).toEqual([]);
    await world.settle();
    expect(await result).toEqual({ ok: true });
    expect(view.rows).toEqual([{ id: "1", title: "back again" }]);
    await sync.close();
  });

  test("a function cannot wait, write beside its tx, keep it, open lists, or change what it reads", async () => {
    const world = new World();
    world.server.database.put("todos", { id: "1", title: "one" });
    let kept: MutatorTx<typeof ENTITIES> | undefined;
    const sync = client(world, {
      waits: (async () => {
        await Promise.resolve();
        throw new Error("late");
      }) as unknown as () => void,
      beside: () => void sync.todos.create({ id: "2", title: "two" }),
      nested: () => void sync.mutate.keeps(),
      lives: (tx) => void (tx.todos as unknown as { live(): void }).live(),
      keeps: (tx) => void (kept = tx),
      changes: (tx, args: { list: string[] }) => {
        args.list.push("more");
        (tx.todos.get("1") as Todo).title = "changed";
      },
    });
    const view = sync.todos.live();
    await world.settle();
    expect(() => sync.mutate.waits()).toThrow("asynchronous mutator");
    expect(() => sync.mutate.beside()).toThrow("a mutator writes to its tx");
    expect(() => sync.mutate.nested()).toThrow("a mutator writes to its tx");
    expect(() => sync.mutate.lives()).toThrow("a mutator reads with get");
    expect([sync.pending, view.rows.length]).toEqual([[], 1]);
    sync.mutate.keeps();
    for (const late of [() => kept!.todos.get("1"), () => kept!.todos.create({ title: "x" }), () => kept!.todos.delete("1")]) expect(late).toThrow("this mutator has ended");
    sync.mutate.changes({ list: [] });
    expect(view.rows[0]!.title).toBe("one");
    expect(sync.pending.at(-1)!.writes).toEqual([{ mutator: "changes", args: { list: [] } }]);
    sync.todos.create({ id: "2", title: "two" });
    expect(view.rows).toHaveLength(2);
    await sync.close();
  });

  test("arguments are JSON at the call, for the function as for the server", async () => {
    const world = new World();
    const seen: unknown[] = [];
    const sync = client(world, { take: (_tx, args: object | undefined) => void seen.push(args) });
    expect(() => sync.mutate.take({ n: Number.NaN })).toThrow("args.n is NaN, which JSON cannot hold");
    expect(() => sync.mutate.take({ list: [undefined] })).toThrow("args.list[0] is undefined");
    sync.mutate.take({ at: new Date(0), big: 10n ** 20n, note: undefined });
    expect(seen[0]).toEqual({ at: "1970-01-01T00:00:00.000Z", big: "100000000000000000000" });
    sync.mutate.take(undefined);
    expect(sync.pending.map(({ writes }) => writes)).toEqual([[{ mutator: "take", args: seen[0] }], [{ mutator: "take" }]]);
    await sync.close();
  });

  test("a create in a mutator makes up no key: until the server's row is here it has a temporary one, which stays", async () => {
    const world = new World();
    const sync = client(world, { add: (tx, args: { title: string }) => tx.todos.create({ title: args.title, n: tx.todos.get("1")?.n ?? 0 }) });
    const view = sync.todos.live();
    await world.settle();
    sync.disconnect();
    sync.mutate.add({ title: "new" });
    const [key] = [...view.snapshot.pending];
    expect([key?.startsWith("new:"), view.get(key!)]).toEqual([true, { title: "new", n: 0 }]);
    sync.todos.create({ id: "1", title: "one", n: 5 });
    expect(view.rows).toEqual([{ id: "1", title: "one", n: 5 }, { title: "new", n: 0 }].sort((a) => (a.id ? -1 : 1)));
    await sync.close();
  });

  test("a validator checks what a mutator writes", async () => {
    const world = new World();
    const schema = {
      "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ((value as Todo).title ? {} : { issues: [{ message: "no title" }] }) },
    } as const;
    const sync = createSync({
      url: "http://server.test", entities: { todos: entity<Todo>({ schema }) }, storage: world.store, environment: world.environment,
      mutators: { untitle: (tx) => tx.todos.create({ id: "1", title: "" }) },
    });
    expect(() => sync.mutate.untitle()).toThrow("no title");
    await sync.close();
  });

  test("a server without mutators is not asked: the call is a dead letter, and the next write passes", async () => {
    const world = new World();
    world.server.options.features = ["rows", "push"];
    const sync = client(world, MUTATORS);
    const call = sync.mutate.markOnce({ n: 1 });
    const write = sync.todos.create({ id: "1", title: "one" });
    await world.settle();
    expect(await call.result).toMatchObject({ ok: false, code: "unknown_mutator" });
    expect(await write.result).toEqual({ ok: true });
    expect(world.server.sessions[0]!.received.filter(({ type }) => type === "push")).toHaveLength(1);
    await sync.close();
  });

  test("types: arguments are those of the function, entities those of the client, and nothing is asynchronous", async () => {
    const world = new World();
    const sync = createSync({
      url: "http://server.test", entities: ENTITIES, storage: world.store, environment: world.environment,
      mutators: {
        named(tx, args: { id: string; title?: string }) {
          tx.todos.update(args.id, { title: args.title ?? "none" });
          // @ts-expect-error there is no such column
          tx.todos.update(args.id, { tilte: "x" });
        },
        none(tx) {
          tx.lists.delete("1");
        },
        // As in JavaScript, where nobody says what it takes.
        any(tx, args: any) {
          tx.lists.delete(args.id);
        },
      },
    });
    const plain = createSync({ url: "http://server.test", entities: ENTITIES, storage: world.store, environment: world.environment });
    const never = () => {
      sync.mutate.named({ id: "1" });
      sync.mutate.none();
      // @ts-expect-error the id is text
      sync.mutate.named({ id: 1 });
      sync.mutate.any({ id: "1" });
      // @ts-expect-error it takes something
      sync.mutate.named();
      // @ts-expect-error there is no such mutator
      sync.mutate.other();
      // @ts-expect-error this client has none
      plain.mutate.none();
      createSync({
        entities: ENTITIES,
        // @ts-expect-error a mutator must not wait
        mutators: { waits: async () => {} },
      });
    };
    expect(never).toBeTypeOf("function");
    expect("mutate" in plain).toBe(false);
    await sync.close();
    await plain.close();
  });
});
