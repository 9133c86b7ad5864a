import "fake-indexeddb/auto";
import { deleteDB, openDB } from "idb";
import { afterEach, describe, expect, test, vi } from "vitest";
import { StorageError } from "../../src/errors.js";
import type { Write } from "../../src/protocol/generated.js";
import { emptyCommit, type Commit, type RowsCommit } from "../../src/replica/commit.js";
import type { Mutation } from "../../src/replica/mutation.js";
import { selectionOf } from "../../src/replica/selection.js";
import { FallbackStore, type FallbackPorts } from "../../src/store/fallback_store.js";
import { IndexedDbStore, VERSION } from "../../src/store/indexeddb.js";
import { MemoryStore } from "../../src/store/memory.js";
import { mergeCommits } from "../../src/store/merge.js";
import type { Clock } from "../../src/connection/clock.js";
import type { Store } from "../../src/store/store.js";
import type { TabChannel } from "../../src/tabs/message.js";
import { ManualClock, rest, World } from "../simulated/harness.js";

const TODOS = selectionOf("todos");
const FILTERED = selectionOf("todos", { where: "a = 1" });
const SCHEMA = { key: ["id"], columns: { id: "text" } };
const mutation = (id: string): Mutation => ({ id, madeAt: 1, writes: [{ entity: "todos", op: "delete", key: id }] });
const rows = (change: Partial<RowsCommit>): RowsCommit => ({ reset: false, puts: [], gone: [], cursor: "c", ...change });
const commit = (name: string, change: Partial<RowsCommit>, rest: Partial<Commit> = {}): Commit =>
  ({ ...emptyCommit(), queries: [{ name, rows: rows(change), settled: [] }], ...rest });

const PORTS: FallbackPorts = { queue: () => [], failed: () => {}, replaced: () => {} };

let names = 0;
const open: Store[] = [];
afterEach(() => open.splice(0).forEach((store) => store.close?.()));

describe.each<[string, () => { store: Store; again: () => Store }]>([
  ["memory", () => {
    const store = new MemoryStore();
    return { store, again: () => store };
  }],
  ["indexeddb", () => {
    const name = `store-${++names}`;
    return { store: new IndexedDbStore(name), again: () => new IndexedDbStore(name) };
  }],
])("SPEC 2: the %s store", (_kind, make) => {
  test("keeps the client's id, the queue in order, numbers and dead letters", async () => {
    const { store, again } = make();
    open.push(store);
    const { clientId } = await store.open();
    for (const id of ["b", "a", "c"]) await store.enqueue(mutation(id));
    await store.number([{ id: "b", number: 1 }, { id: "a", number: 2 }]);
    const rejection = { ...mutation("b"), code: "invalid" as const, message: "no" };
    await store.commit({ ...emptyCommit(), rejected: [rejection] });
    const reopened = again();
    open.push(reopened);
    expect(await reopened.open()).toEqual({
      clientId, lastNumber: 2, rejected: [rejection],
      queue: [{ ...mutation("a"), number: 2 }, mutation("c")],
    });
    await reopened.dismiss(["b"]);
    expect((await reopened.open()).rejected).toEqual([]);
  });

  test("keeps what is known of rows beside their values, and the rules of a merge, also when it was slow", async () => {
    const { store, again } = make();
    open.push(store);
    await store.open();
    const [older, newer] = ["2026-11-20T07:00:00.000Z-0000-a", "2026-11-20T07:00:00.000Z-0001-a"] as const;
    const schema = { ...SCHEMA, rules: { strategy: "keep_both", deletes: "win", columns: {} } };
    await store.commit(commit("todos", { reset: true, puts: [["1", { id: "1" }, { base: older }], ["2", { id: "2" }, { born: older }]], schema }));
    const lost = { title: [{ value: "x", hlc: older }] };
    const steps = [
      commit("todos", { puts: [["1", { id: "1" }, { base: older, clocks: { title: older } }]], cursor: "c1" }),
      commit("todos", { puts: [["1", { id: "1" }, { base: older, clocks: { title: newer }, lost }], ["2", { id: "2" }]], cursor: "c2" }),
    ];
    await store.commit(mergeCommits(steps));
    const reopened = again();
    open.push(reopened);
    const stored = await reopened.rows(TODOS);
    expect(stored).toMatchObject({ cursor: "c2", schema });
    expect(stored!.rows.sort()).toEqual([["1", { id: "1" }, { base: older, clocks: { title: newer }, lost }], ["2", { id: "2" }]]);
  });

  test("moves rows, cursor and queue together, each query by itself", async () => {
    const { store } = make();
    open.push(store);
    await store.open();
    await store.enqueue(mutation("m"));
    expect(await store.rows(TODOS)).toBeUndefined();
    await store.commit(commit("todos", { reset: true, puts: [["2", { id: "2" }], ["1", { id: "1" }]], cursor: "c1", schema: SCHEMA }));
    await store.commit(commit(FILTERED.name, { reset: true, puts: [["1", { id: "1", a: 1 }]], cursor: "f1", schema: SCHEMA }));
    await store.commit(commit("todos", { puts: [["3", { id: "3" }]], gone: ["1", "none"], cursor: "c2" }, { answered: ["m"] }));
    const stored = await store.rows(TODOS);
    expect(stored).toMatchObject({ cursor: "c2", schema: SCHEMA });
    expect(new Map(stored!.rows.map(([key, row]) => [key, row]))).toEqual(new Map([["2", { id: "2" }], ["3", { id: "3" }]]));
    expect(await store.rows(FILTERED)).toEqual({ rows: [["1", { id: "1", a: 1 }]], cursor: "f1", schema: SCHEMA });
    expect((await store.open()).queue).toEqual([]);
    // An emptied table is known to be empty; a withdrawn one is unknown.
    await store.commit(commit("todos", { reset: true, cursor: "c3" }));
    expect(await store.rows(TODOS)).toEqual({ rows: [], cursor: "c3", schema: SCHEMA });
    const { cursor: _, ...withdrawn } = rows({ reset: true });
    await store.commit({ ...emptyCommit(), queries: [{ name: "todos", rows: withdrawn, settled: [] }] });
    expect(await store.rows(TODOS)).toBeUndefined();
    expect(await store.cursor(FILTERED)).toBe("f1");
  });

  test("keeps the chain, and begins without numbers under another client id", async () => {
    const { store, again } = make();
    open.push(store);
    await store.open();
    for (const id of ["a", "b", "c"]) await store.enqueue(mutation(id));
    const chain = "ab".repeat(16);
    await store.number([{ id: "a", number: 1, chain: "cd".repeat(16) }, { id: "b", number: 2, chain }]);
    await store.commit({ ...emptyCommit(), last: { number: 1, chain } });
    expect(await again().open()).toMatchObject({ lastNumber: 2, last: { number: 1, chain }, queue: [{ id: "a" }, { id: "b", number: 2, chain }, { id: "c" }] });
    await store.fork("another", ["a"]);
    const reopened = again();
    open.push(reopened);
    expect(await reopened.open()).toEqual({ clientId: "another", lastNumber: 0, queue: [mutation("b"), mutation("c")], rejected: [] });
    await reopened.number([{ id: "b", number: 1, chain }]);
    expect(await reopened.open()).toMatchObject({ lastNumber: 1, queue: [{ id: "b", number: 1, chain }, { id: "c" }] });
  });

  test("takes no changes for rows that it does not have", async () => {
    const { store } = make();
    open.push(store);
    await store.open();
    await store.commit(commit("todos", { reset: true, puts: [["1", { id: "1" }]], cursor: "c1", schema: SCHEMA }));
    await store.free();
    await store.commit(commit("todos", { puts: [["2", { id: "2" }]], cursor: "c2", schema: SCHEMA }));
    expect(await store.rows(TODOS)).toBeUndefined();
  });
});

describe("SPEC 8: a store that fails", () => {
  /** A store in which operations fail as often as the test says. */
  function failing(failures: Partial<Record<keyof Store, number>>) {
    const memory = new MemoryStore();
    const store = new Proxy(memory, {
      get(target, name: keyof MemoryStore) {
        const member = target[name] as unknown;
        if (typeof member !== "function") return member;
        return (...args: unknown[]) => {
          const left = failures[name as keyof Store] ?? 0;
          if (left > 0) {
            failures[name as keyof Store] = left - 1;
            return Promise.reject(new StorageError("full"));
          }
          return (member as (...args: unknown[]) => unknown).apply(target, args);
        };
      },
    });
    const reported: string[] = [];
    const clock = new ManualClock();
    const fallback = new FallbackStore(store, clock, { ...PORTS, queue: () => [mutation("open")], failed: (error) => reported.push(error.message) });
    return { memory, fallback, reported };
  }

  test("gives up rows before a write", async () => {
    const { memory, fallback, reported } = failing({ enqueue: 1 });
    await fallback.open();
    await fallback.commit(commit("todos", { reset: true, puts: [["1", { id: "1" }]], cursor: "c1", schema: SCHEMA }));
    await fallback.enqueue(mutation("m"));
    expect(await memory.rows(TODOS)).toBeUndefined();
    expect((await memory.open()).queue).toEqual([mutation("m")]);
    expect(reported).toEqual(["full"]);
  });

  test("throws when even that does not help", async () => {
    const { fallback } = failing({ enqueue: 2 });
    await fallback.open();
    await expect(fallback.enqueue(mutation("m"))).rejects.toThrow(StorageError);
  });

  test("keeps answers when it cannot keep rows", async () => {
    const { memory, fallback, reported } = failing({ commit: 1 });
    await fallback.open();
    await fallback.enqueue(mutation("m"));
    await fallback.commit(commit("todos", { reset: true, cursor: "c1", schema: SCHEMA }, { answered: ["m"] }));
    expect((await memory.open()).queue).toEqual([]);
    expect(await memory.rows(TODOS)).toBeUndefined();
    expect(reported).toEqual(["full"]);
  });

  test("never adds later changes to rows that lack earlier ones", async () => {
    const failures = { commit: 0 };
    const { memory, fallback } = failing(failures);
    await fallback.open();
    await fallback.commit(commit("todos", { reset: true, puts: [["1", { id: "1" }]], cursor: "c1", schema: SCHEMA }));
    failures.commit = 1;
    await fallback.commit(commit("todos", { puts: [["2", { id: "2" }]], cursor: "c2" }));
    await fallback.commit(commit("todos", { puts: [["3", { id: "3" }]], cursor: "c3" }));
    expect(await memory.rows(TODOS)).toMatchObject({ cursor: "c1", rows: [["1", { id: "1" }]] });
    await fallback.commit({ ...emptyCommit(), queries: [{ name: "todos", rows: { reset: true, puts: [], gone: [] }, settled: [] }] });
    expect(await memory.rows(TODOS)).toBeUndefined();
  });

  test("does not let a stored mutation be sent under a number that is not stored", async () => {
    const { fallback } = failing({ number: 4 });
    await fallback.open();
    await fallback.enqueue(mutation("m"));
    await expect(fallback.number([{ id: "m", number: 1 }])).rejects.toThrow(StorageError);
    // A mutation that only this page has cannot come back with another number.
    await fallback.number([{ id: "elsewhere", number: 2 }]);
  });

  test("is replaced by memory, with what is open, when it cannot be opened", async () => {
    const { fallback, reported } = failing({ open: 1 });
    const stored = await fallback.open();
    expect(stored.queue).toEqual([mutation("open")]);
    expect(fallback.state).toBe("memory");
    expect(reported).toEqual(["full"]);
  });

  test("on IndexedDB: when a newer page takes it away, memory continues with the same client id and numbers", async () => {
    const name = `store-${++names}`;
    const reported: string[] = [];
    const fallback = new FallbackStore(new IndexedDbStore(name), new ManualClock(), { ...PORTS, queue: () => [mutation("m")], failed: (error) => reported.push(error.message) });
    const { clientId } = await fallback.open();
    await fallback.enqueue(mutation("m"));
    await fallback.number([{ id: "m", number: 7 }]);
    const newer = await openDB(name, VERSION + 1);
    await expect.poll(() => fallback.state).toBe("memory");
    expect(await fallback.open()).toEqual({ clientId, lastNumber: 7, queue: [mutation("m")], rejected: [] });
    expect(reported).toHaveLength(1);
    newer.close();
    await expect(new IndexedDbStore(name).open()).rejects.toMatchObject({ remedy: "reload" });
  });
});

describe("SPEC 8: a store that comes back", () => {
  /** A page on IndexedDB, with a clock that the test moves. */
  function page(name: string) {
    const world = new World(new IndexedDbStore(name));
    const sync = world.client();
    open.push({ close: () => void sync.close() } as unknown as Store);
    return { world, sync };
  }
  /** IndexedDB takes its time; the clock of the page stands still meanwhile. */
  const settled = async (holds: () => unknown) => expect.poll(holds, { interval: 5, timeout: 5_000 }).toBeTruthy();
  const deleted = (name: string) => deleteDB(name);
  /** Lets the first attempt to open the store again fail: until then no number is assigned. */
  const refuseOnce = async (...clocks: ManualClock[]) => {
    await rest();
    const { open } = indexedDB;
    indexedDB.open = () => {
      throw new DOMException("denied", "SecurityError");
    };
    for (const clock of clocks) clock.pass(2_000);
    await rest();
    indexedDB.open = open;
  };

  test("that is deleted under the page: writes are said to be unsaved, and saved when it can be opened again", async () => {
    const name = `store-${++names}`;
    const { world, sync } = page(name);
    await sync.opened;
    expect(await sync.todos.create({ id: "a", title: "a" }).saved).toBe(true);
    await deleted(name);
    await settled(() => sync.status.storage === "memory");
    const written = sync.todos.create({ id: "b", title: "b" });
    expect(await written.saved).toBe(false);
    expect(sync.status.unsaved).toBe(2);
    world.clock.pass(2_000);
    await settled(() => sync.status.storage === "indexeddb");
    expect(sync.status.unsaved).toBe(0);
    expect(await sync.todos.create({ id: "c", title: "c" }).saved).toBe(true);
    const { queue } = await new IndexedDbStore(name).open();
    expect(queue.map(({ writes }) => (writes[0] as Write).values!["id"])).toEqual(["a", "b", "c"]);
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    expect([...world.server.database.table("todos").keys()]).toEqual(["a", "b", "c"]);
    expect([...world.server.database.applied.values()]).toEqual([1, 1, 1]);
  });

  test("keeps its client id and its numbers, and gets the rows", async () => {
    const name = `store-${++names}`;
    const { world, sync } = page(name);
    const view = sync.todos.live();
    world.server.database.put("todos", { id: "1", title: "one" });
    await sync.opened;
    await settled(async () => (await world.settle(), view.state === "live"));
    const { clientId } = await new IndexedDbStore(name).open();
    await deleted(name);
    await settled(() => sync.status.storage === "memory");
    world.server.database.put("todos", { id: "2", title: "two" });
    sync.todos.create({ id: "3", title: "three" });
    await refuseOnce(world.clock);
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    world.clock.pass(4_000);
    await settled(() => sync.status.storage === "indexeddb");
    const again = new IndexedDbStore(name);
    await settled(async () => (await again.rows(TODOS))?.rows.length === 3);
    expect(await again.open()).toMatchObject({ clientId, lastNumber: 1, queue: [] });
  });

  test("that the browser has closed: what it holds is brought up to date, and no write is made twice", async () => {
    const name = `store-${++names}`;
    const opening = indexedDB.open.bind(indexedDB);
    const databases: IDBDatabase[] = [];
    vi.spyOn(indexedDB, "open").mockImplementation((...args) => {
      const request = opening(...args);
      request.addEventListener("success", () => databases.push(request.result));
      return request;
    });
    const { world, sync } = page(name);
    const view = sync.todos.live();
    world.server.database.put("todos", { id: "1", title: "one" });
    await settled(async () => (await world.settle(), view.state === "live"));
    sync.disconnect();
    expect(await sync.todos.create({ id: "2", title: "two" }).saved).toBe(true);
    databases[0]!.onclose!(new Event("close"));
    expect(sync.status).toMatchObject({ storage: "memory", unsaved: 1 });
    // Answered while only memory is there, so that the store still has it without a number.
    sync.connect();
    await refuseOnce(world.clock);
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    world.server.database.delete("todos", "1");
    expect(await sync.todos.create({ id: "3", title: "three" }).saved).toBe(false);
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    world.clock.pass(4_000);
    await settled(() => sync.status.storage === "indexeddb");
    vi.restoreAllMocks();
    const again = new IndexedDbStore(name);
    await settled(async () => (await again.open()).queue.length === 0);
    await settled(async () => (await again.rows(TODOS))?.rows.length === 2);
    expect(await again.open()).toMatchObject({ lastNumber: 2, last: { number: 2 }, queue: [] });
    expect([...world.server.database.applied.values()]).toEqual([1, 1]);
    // Changes go on from there.
    world.server.database.put("todos", { id: "4", title: "four" });
    await settled(async () => (await world.settle(), (await again.rows(TODOS))?.rows.length === 3));
  });

  test("that comes back at once: a mutation that it may hold without a number is not sent before", async () => {
    const name = `store-${++names}`;
    const { world, sync } = page(name);
    await settled(async () => (await world.settle(), sync.status.state === "live"));
    sync.disconnect();
    expect(await sync.todos.create({ id: "a", title: "a" }).saved).toBe(true);
    await deleted(name);
    await settled(() => sync.status.storage === "memory");
    sync.connect();
    for (let i = 0; i < 5; i++) await world.settle();
    expect(world.server.database.applied.size).toBe(0);
    world.clock.pass(2_000);
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    expect(await new IndexedDbStore(name).open()).toMatchObject({ lastNumber: 1 });
  });

  test("that is being deleted by another tab and does not answer: memory after seconds, and the store when it answers", async () => {
    const name = `store-${++names}`;
    // Does not give way to the deletion, as a tab of another application.
    const holder = await openDB(name, VERSION);
    const deleting = deleted(name);
    const { world, sync } = page(name);
    const view = sync.todos.live();
    world.server.database.put("todos", { id: "1", title: "one" });
    await world.settle();
    expect([sync.status.state, view.state]).toEqual(["connecting", "loading"]);
    world.clock.pass(5_000);
    await world.settle();
    expect(sync.status).toMatchObject({ state: "live", storage: "memory" });
    expect(view.rows).toEqual([{ id: "1", title: "one" }]);
    sync.disconnect();
    const written = sync.todos.create({ id: "2", title: "two" });
    expect(await written.saved).toBe(false);
    holder.close();
    await deleting;
    world.clock.pass(2_000);
    await settled(() => sync.status.storage === "indexeddb");
    expect(sync.status.unsaved).toBe(0);
    expect((await new IndexedDbStore(name).open()).queue).toMatchObject([{ writes: [{ values: { id: "2" } }] }]);
    sync.connect();
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    expect(world.server.database.applied.size).toBe(1);
    expect(view.rows).toHaveLength(2);
  });

  test("to two tabs: a write of the one that does not lead, answered meanwhile, does not come back", async () => {
    const name = `store-${++names}`;
    const world = new World();
    let led = false;
    const tab = (clock: Clock) =>
      world.client({
        storage: new IndexedDbStore(name),
        environment: {
          clock,
          channel: (of) => new BroadcastChannel(of) as TabChannel,
          election: (_name, elected) => {
            if (!led) elected();
            led = true;
            return () => {};
          },
        },
      });
    const leader = tab(world.clock);
    await settled(async () => (await world.settle(), leader.status.state === "live"));
    const later = new ManualClock();
    const follower = tab(later);
    open.push(...[leader, follower].map((sync) => ({ close: () => void sync.close() }) as unknown as Store));
    await settled(() => follower.status.state === "live");
    await deleted(name);
    await settled(() => [leader, follower].every(({ status }) => status.storage === "memory"));
    const written = follower.todos.create({ id: "a", title: "a" });
    expect(await written.saved).toBe(false);
    await refuseOnce(world.clock, later);
    await settled(async () => (await world.settle(), follower.status.pending === 0));
    for (const [clock, sync] of [[world.clock, leader], [later, follower]] as const) {
      clock.pass(4_000);
      await settled(() => sync.status.storage === "indexeddb");
    }
    expect(await new IndexedDbStore(name).open()).toMatchObject({ lastNumber: 1, queue: [] });
    expect([...world.server.database.applied.values()]).toEqual([1]);
  });

  test("that is refused: memory at once, and the store when it is allowed", async () => {
    const name = `store-${++names}`;
    const opens = vi.spyOn(indexedDB, "open").mockImplementation(() => {
      throw new DOMException("denied", "SecurityError");
    });
    const { world, sync } = page(name);
    await sync.opened;
    expect(await sync.todos.create({ id: "a", title: "a" }).saved).toBe(false);
    expect(sync.status).toMatchObject({ storage: "memory", unsaved: 1 });
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    sync.disconnect();
    await world.settle();
    expect(await sync.todos.create({ id: "b", title: "b" }).saved).toBe(false);
    for (const ms of [2_000, 4_000]) {
      world.clock.pass(ms);
      await rest();
    }
    expect(sync.status.storage).toBe("memory");
    opens.mockRestore();
    world.clock.pass(8_000);
    await settled(() => sync.status.storage === "indexeddb");
    expect(sync.status.unsaved).toBe(0);
    expect(await sync.todos.create({ id: "c", title: "c" }).saved).toBe(true);
    sync.connect();
    await settled(async () => (await world.settle(), sync.status.pending === 0));
    expect([...world.server.database.table("todos").keys()]).toEqual(["a", "b", "c"]);
    expect([...world.server.database.applied.values()]).toEqual([1, 1, 1]);
  });

  test("whose open request never answers at all: memory after seconds", async () => {
    const opens = vi.spyOn(indexedDB, "open").mockImplementation(() => ({}) as IDBOpenDBRequest);
    const { world, sync } = page(`store-${++names}`);
    const problems: string[] = [];
    sync.on("problem", ({ message }) => problems.push(message));
    const written = sync.todos.create({ id: "a", title: "a" });
    await rest();
    world.clock.pass(5_000);
    expect(await written.saved).toBe(false);
    await world.settle();
    expect(await written.result).toEqual({ ok: true });
    expect(sync.status).toMatchObject({ state: "live", storage: "memory" });
    expect(problems).toEqual(["the store does not answer"]);
    opens.mockRestore();
  });

  test("of a newer page is left alone", async () => {
    const name = `store-${++names}`;
    const { world, sync } = page(name);
    await sync.opened;
    const newer = await openDB(name, VERSION + 1);
    await settled(() => sync.status.storage === "memory");
    expect(await sync.todos.create({ id: "a", title: "a" }).saved).toBe(false);
    world.clock.pass(2_000);
    await rest();
    world.clock.pass(600_000);
    expect(sync.status).toMatchObject({ storage: "memory", unsaved: 1 });
    newer.close();
  });
});

test("SPEC 8: a write that only memory has is not saved", async () => {
  const sync = new World().client();
  expect(await sync.todos.create({ id: "a", title: "a" }).saved).toBe(false);
  expect(sync.status).toMatchObject({ storage: "memory", unsaved: 1 });
  await sync.close();
});

test("SPEC 12: a store from before the first release is dropped, not misread", async () => {
  const name = `store-${++names}`;
  const older = await openDB(name, VERSION - 1, {
    upgrade(database) {
      database.createObjectStore("meta");
      database.createObjectStore("queue", { autoIncrement: true });
    },
  });
  await older.add("queue", { id: "m", made_at: 1 });
  older.close();
  const store = new IndexedDbStore(name);
  open.push(store);
  await store.enqueue(mutation("n"));
  expect((await store.open()).queue).toEqual([mutation("n")]);
});

test("SPEC 2: several commits as one leave the same rows", () => {
  const a = commit("todos", { reset: true, puts: [["1", { v: 1 }], ["2", { v: 1 }]], cursor: "c1", schema: SCHEMA }, { answered: ["m"] });
  const b = commit("todos", { puts: [["1", { v: 2 }]], gone: ["2"], cursor: "c2" });
  const c = commit("todos", { puts: [["2", { v: 3 }]], cursor: "c3" });
  expect(mergeCommits([a, b, c])).toEqual({
    acked: [], answered: ["m"], rejected: [],
    queries: [{ name: "todos", settled: [], rows: { reset: true, puts: [["2", { v: 3 }], ["1", { v: 2 }]], gone: [], cursor: "c3", schema: SCHEMA } }],
  });
  expect(mergeCommits([b, a]).queries[0]!.rows).toEqual(a.queries[0]!.rows);
});
