import "fake-indexeddb/auto";
import { describe, expect, test } from "vitest";
import { createSync } from "../../src/create.js";
import { entity, type StandardSchema } from "../../src/entity.js";
import { InvalidWriteError } from "../../src/errors.js";
import { fields } from "../../src/fields.js";
import { clockAfter, compareClocks, millisOf, nodeOf, nodeOfClient, type Clock, type Rules } from "../../src/fields/index.js";
import { ClockStore } from "../../src/merging/clock_store.js";
import { Stamps } from "../../src/merging/stamps.js";
import type { ClientFrame, Conflict, Write } from "../../src/protocol/generated.js";
import { IndexedDbStore } from "../../src/store/indexeddb.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { Browser, type BrowserTab } from "../simulated/browser.js";
import { recording, rest, World } from "../simulated/harness.js";

interface Item {
  id: string;
  title: string;
  date: string;
  likes: number;
  tags: string[];
}

const T = Date.parse("2026-11-20T07:00:00Z");
const RULES: Rules = { strategy: "last_write_wins", deletes: "win", columns: { likes: { merge: "counter" }, tags: { merge: "set" } } };
const ROW = { id: "1", title: "title", date: "monday", likes: 1, tags: ["a"] };

class MergingWorld extends World {
  constructor(store: Store = new MemoryStore(), rules = RULES) {
    super(store);
    const { database, options } = this.server;
    options.features.push("fields");
    database.tracks.rules.set("items", rules);
    database.tracks.now = () => T + this.clock.now();
    database.put("items", { ...ROW });
  }

  device(store = this.store, schema?: StandardSchema<Item>, wrongByMs = 0) {
    const { after, now, random } = this.clock;
    const clock = { after: after.bind(this.clock), random, now: () => T + now.call(this.clock) + wrongByMs };
    const sync = createSync({
      url: "http://server.test/api/sync", entities: { items: entity<Item>(schema && { schema }), others: entity() }, fields: fields(["items"]),
      storage: store, connect: true, environment: { ...this.environment, clock, election: (_name, elected) => (elected(), () => {}) },
    });
    const sent: ClientFrame[] = [];
    sync.on("frame", ({ direction, frame }) => direction === "sent" && sent.push(structuredClone(frame) as ClientFrame));
    return { sync, view: sync.items.live(), sent };
  }

  get session() {
    return this.server.sessions[0]!;
  }

  /** Answers what was pushed, and keeps the answer back. */
  answer(): void {
    this.session.apply();
    this.session.drain();
  }
}

function writesIn(sent: readonly ClientFrame[]): Write[] {
  return sent.flatMap((frame) => (frame.type === "push" ? (frame.writes as Write[]) : []));
}

async function nodeIn(store: Store): Promise<string> {
  return nodeOfClient((await store.open()).clientId);
}

describe("SPEC 22: rows that merge", () => {
  test("are asked for with their clocks, where the server has fields; others never", async () => {
    const world = new MergingWorld();
    const { sync, sent } = world.device();
    sync.others.live();
    await world.settle();
    expect(sent.filter(({ type }) => type === "subscribe")).toMatchObject([{ entity: "items", mode: "fields" }, { entity: "others" }]);
    expect(sent.some((frame) => frame.type === "subscribe" && frame.entity === "others" && "mode" in frame)).toBe(false);
    await sync.close();
    world.server.options.features = ["rows", "push"];
    const older = world.device(new MemoryStore());
    await world.settle();
    expect(older.sent.some((frame) => "mode" in frame)).toBe(false);
    older.sync.items.update("1", { title: "plain" });
    expect(older.view.get("1")?.title).toBe("plain");
    await world.settle();
    expect(world.server.database.table("items").get("1")?.["title"]).toBe("plain");
    await older.sync.close();
  });

  test("a patch changes what it names, and what is known of the row; a row that stays is not drawn again", async () => {
    const world = new MergingWorld();
    const { sync, view } = world.device();
    await world.settle();
    const [before] = view.rows;
    world.server.database.put("items", { ...ROW, date: "friday" });
    await world.settle();
    expect(view.rows).toEqual([{ ...ROW, date: "friday" }]);
    expect(view.rows[0]).not.toBe(before);
    world.clock.pass(1000);
    // Of an older write only the clock of another column is new.
    const seen = recording(view);
    world.session.frames.push(
      { type: "changes", shape: JSON.stringify({ entity: "items", mode: "fields" }), changes: [
        { op: "patch", key: "1", values: {}, clocks: { title: clockAfter(undefined, T + 500, "another") } },
        { op: "patch", key: "none", values: { title: "nothing" } },
      ] },
      { type: "cursor", cursor: "1:9" },
    );
    await world.settle();
    expect(seen).toHaveLength(1);
    sync.items.update("1", { title: "mine" });
    expect(view.get("1")?.title).toBe("mine");
    await sync.close();
  });

  test("a write has the clock of this client's node, and what its author saw; one to an unseen row has none", async () => {
    const world = new MergingWorld();
    const { sync, sent } = world.device();
    await world.settle();
    world.server.database.put("items", { ...ROW, date: "friday" });
    await world.settle();
    const seen = world.server.database.tracks.rows.get('["items","1"]')!.newest!;
    sync.items.update("1", { title: "mine" });
    sync.items.update("unseen", { title: "blind" });
    const { key } = sync.items.create({ title: "new", date: "monday", likes: 0, tags: [] });
    sync.items.update(key, { title: "renamed" });
    sync.items.delete("1");
    await world.settle();
    const [mine, blind, created, renamed, deleted] = writesIn(sent);
    expect(nodeOf(mine!.hlc as Clock)).toBe(await nodeIn(world.store));
    expect(mine).toMatchObject({ seen });
    expect(mine).not.toHaveProperty("born");
    expect(compareClocks(mine!.hlc as Clock, seen)).toBeGreaterThan(0);
    for (const unseen of [blind, renamed]) expect(unseen).not.toHaveProperty("hlc");
    expect(created).toHaveProperty("hlc");
    expect(created).not.toHaveProperty("seen");
    expect(compareClocks(deleted!.hlc as Clock, mine!.hlc as Clock)).toBeGreaterThan(0);
    expect(sync.rejected.map(({ code }) => code)).toEqual(["not_found"]);
    // The row that was created is the server's by now, with its birth.
    sync.items.update(key, { date: "sunday" });
    await world.settle();
    expect(writesIn(sent).at(-1)).toMatchObject({ born: created!.hlc, values: { date: "sunday" } });
    expect(world.server.database.table("items").get(key)).toMatchObject({ title: "renamed", date: "sunday" });
    await sync.close();
  });

  test("increments and edits of sets are shown at once; what fits no counter is refused; a validator sees the result", async () => {
    const world = new MergingWorld();
    const rows: Item[] = [];
    const schema: StandardSchema<Item> = { "~standard": { version: 1, vendor: "test", validate: (row) => {
      rows.push(row as Item);
      return (row as Item).likes > 5 ? { issues: [{ message: "too many" }] } : {};
    } } };
    const { sync, view } = world.device(world.store, schema);
    await world.settle();
    sync.items.update("1", { likes: { add: 2 }, tags: { add: ["b"], remove: ["a"] } });
    expect(rows.at(-1)).toEqual({ ...ROW, likes: 3, tags: ["b"] });
    sync.items.update("1", { likes: { add: 1 } });
    expect(view.get("1")).toMatchObject({ likes: 4, tags: ["b"] });
    expect(() => sync.items.update("1", { likes: { add: 2 } })).toThrow("too many");
    expect(() => sync.items.update("1", { likes: { add: "much" } })).toThrow(InvalidWriteError);
    // @ts-expect-error Rows of others do not merge.
    const others = () => sync.others.conflicts;
    // @ts-expect-error A text is no counter.
    const text = () => sync.items.update("1", { title: { add: 1 } });
    expect([others, text]).toHaveLength(2);
    await world.settle();
    expect(view.rows).toEqual([{ ...ROW, likes: 4, tags: ["b"] }]);
    await sync.close();
  });

  test("a mutator reads the merged row, with increments that are pending, and its writes are shown above all", async () => {
    const world = new MergingWorld();
    world.server.database.mutators["title_likes"] = (tx) => tx.put("items", { ...tx.get("items", "1")!, title: "3 likes" });
    const sync = createSync({
      url: "http://server.test/api/sync", entities: { items: entity<Item>() }, fields: fields(["items"]), storage: "memory", connect: true,
      environment: world.environment,
      mutators: {
        titleLikes: (tx) => tx.items.update("1", { title: `${tx.items.get("1")?.likes} likes` }),
      },
    });
    const view = sync.items.live();
    await world.settle();
    sync.items.update("1", { likes: { add: 2 } });
    sync.mutate.titleLikes();
    expect(view.rows).toEqual([{ ...ROW, likes: 3, title: "3 likes" }]);
    await world.settle();
    expect(view.rows).toEqual([{ ...ROW, likes: 3, title: "3 likes" }]);
    expect(sync.status.pending).toBe(0);
    await sync.close();
  });

  test("a value that will lose is not shown, and a deletion is not undone by an older edit", async () => {
    const world = new MergingWorld();
    const { sync, view } = world.device();
    await world.settle();
    sync.disconnect();
    sync.items.update("1", { title: "older", date: "sunday" });
    world.clock.pass(1000);
    world.server.database.put("items", { ...ROW, title: "newer" });
    const shown = recording(view);
    sync.connect();
    for (;;) {
      await rest();
      world.session.join();
      if (!world.session.deliver()) break;
    }
    // The write has not been answered yet.
    expect(sync.pending).toHaveLength(1);
    expect(view.rows).toEqual([{ ...ROW, title: "newer", date: "sunday" }]);
    expect(shown.every(([row]) => row?.date === "sunday")).toBe(true);
    world.server.database.delete("items", "1");
    await world.settle();
    expect(view.rows).toEqual([]);
    await sync.close();
  });

  test("the clock under which the server counts a write decides until the rows are here", async () => {
    const world = new MergingWorld();
    const { sync, view } = world.device();
    await world.settle();
    // The server's time has been set back since it was told.
    world.server.database.tracks.now = () => T - 60_000;
    sync.items.update("1", { title: "mine" });
    const theirs = clockAfter(undefined, T - 30_000, "another");
    await rest();
    world.session.frames.push(
      { type: "changes", shape: JSON.stringify({ entity: "items", mode: "fields" }), changes: [
        { op: "patch", key: "1", values: { title: "theirs" }, clocks: { title: theirs } },
      ] },
      { type: "cursor", cursor: "1:3" },
    );
    while (world.session.deliver());
    expect(view.get("1")?.title).toBe("mine");
    world.session.frames.push({ type: "ack", mutation: 1, stamps: [{ write: 0, hlc: clockAfter(undefined, T - 60_000, "any") }] });
    world.session.deliver();
    // The rows do not contain the write yet.
    expect(sync.pending).toEqual([]);
    expect(view.get("1")?.title).toBe("theirs");
    await sync.close();
  });

  test("a device whose time is wrong stamps by the server's, also after a reload without a network", async () => {
    for (const wrongByMs of [-86_400_000, 86_400_000]) {
      const name = `wrong${wrongByMs}`;
      const world = new MergingWorld(new IndexedDbStore(name));
      const first = world.device(world.store, undefined, wrongByMs);
      await world.until(() => first.view.state === "live");
      await first.sync.close();
      world.server.reachable = false;
      const again = world.device(new IndexedDbStore(name), undefined, wrongByMs);
      await again.view.ready;
      const { saved } = again.sync.items.update("1", { title: "offline" });
      expect(again.view.get("1")?.title).toBe("offline");
      expect(await saved).toBe(true);
      const [write] = again.sync.pending[0]!.writes as Write[];
      expect(millisOf(write!.hlc as Clock)).toBe(T);
      expect(nodeOf(write!.hlc as Clock)).toBe(await nodeIn(new IndexedDbStore(name)));
      await again.sync.close();
    }
  });
});

describe("SPEC 22: stores and tabs", () => {
  test("a tab that does not lead has what is known of rows, and its writes come after those of the other", async () => {
    const browser = new Browser();
    const { database, options } = browser.world.server;
    options.features.push("fields");
    database.tracks.rules.set("todos", RULES);
    database.tracks.now = () => browser.world.clock.now();
    database.put("todos", { id: "1", title: "one", done: false });
    const tabs = [0, 1].map(() => browser.tab({ fields: fields(["todos"]) as never }));
    const views = tabs.map(({ sync }) => sync.todos.live());
    await browser.world.settle();
    database.put("todos", { id: "1", title: "uno", done: false });
    await browser.world.settle();
    const [leader, follower] = tabs as [BrowserTab, BrowserTab];
    expect(follower.sync.status.leader).toBe(false);
    leader.sync.todos.update("1", { title: "leader" });
    await rest();
    follower.sync.todos.update("1", { title: "follower" });
    const seen = database.tracks.rows.get('["todos","1"]')!.newest;
    for (const view of views) await browser.world.until(() => view.get("1")?.title === "follower");
    await browser.world.settle();
    const [first, second] = writesIn(browser.world.server.sessions[0]!.received);
    expect(first).toMatchObject({ values: { title: "leader" }, seen });
    expect(second).toMatchObject({ values: { title: "follower" }, seen });
    expect(compareClocks(second!.hlc as Clock, first!.hlc as Clock)).toBeGreaterThan(0);
    await browser.world.settle();
    expect(database.table("todos").get("1")?.["title"]).toBe("follower");
    for (const { sync } of tabs) expect([sync.status.pending, sync.rejected]).toEqual([0, []]);
    // One that is opened later takes the leader's rows.
    const late = browser.tab({ fields: fields(["todos"]) as never });
    const view = late.sync.todos.live();
    await browser.world.until(() => view.state === "live");
    late.sync.todos.update("1", { title: "late" });
    expect(late.sync.pending[0]!.writes[0]).toMatchObject({ seen: second!.hlc });
    await browser.world.settle();
    await late.close();
    for (const tab of tabs) await tab.close();
  });

  test("what a copied store has queued goes on under another id, with clocks of that one's node", async () => {
    const world = new MergingWorld();
    const first = world.device();
    await world.settle();
    first.sync.disconnect();
    first.sync.items.update("1", { title: "first" });
    first.sync.items.update("1", { date: "friday" });
    await rest();
    const { clientId, queue } = await world.store.open();
    const copy = new MemoryStore(clientId);
    for (const mutation of queue) await copy.enqueue({ ...mutation, id: `copy of ${mutation.id}`, writes: [{ ...(mutation.writes[0] as Write), values: { tags: { add: [mutation.id] } } }] });
    first.sync.connect();
    await world.settle();
    const second = world.device(copy);
    const problems: string[] = [];
    second.sync.on("problem", ({ message }) => problems.push(message));
    await world.recover();
    await world.recover();
    expect(problems).toEqual(["this store was copied or rolled back: the client goes on under a new id"]);
    expect(second.sync.rejected).toEqual([]);
    expect((await copy.open()).clientId).not.toBe(clientId);
    const nodes = writesIn(second.sent).map(({ hlc }) => nodeOf(hlc as Clock));
    expect(nodes.slice(-2)).toEqual([await nodeIn(copy), await nodeIn(copy)]);
    const row = world.server.database.table("items").get("1")!;
    expect(row).toMatchObject({ title: "first", date: "friday" });
    expect(new Set(row["tags"] as string[])).toEqual(new Set(["a", ...queue.map(({ id }) => id)]));
    for (const { sync } of [first, second]) await sync.close();
  });

  test("a rejected write that is tried again is made again", async () => {
    const world = new MergingWorld();
    const { database } = world.server;
    const { sync, sent } = world.device();
    await world.settle();
    database.rejects = () => "not now";
    sync.items.update("1", { title: "again" });
    await world.settle();
    expect(sync.rejected).toHaveLength(1);
    database.rejects = () => undefined;
    world.clock.pass(5000);
    sync.retry(sync.rejected[0]!.id);
    await world.settle();
    const clocks = writesIn(sent).map(({ hlc }) => millisOf(hlc as Clock));
    expect(clocks).toEqual([T, T + 5000]);
    expect(sync.rejected).toEqual([]);
    expect(database.table("items").get("1")?.["title"]).toBe("again");
    await sync.close();
  });
});

describe("SPEC 22: clocks", () => {
  test("of two tabs that write at once follow each other, as they are stored", async () => {
    const tabs = [0, 1].map(() => {
      const store = new IndexedDbStore("two-tabs");
      const stamps = new Stamps(() => T);
      new ClockStore(store).stampWith((...write) => stamps.settle(...write));
      return { store, stamps };
    });
    await tabs[0]!.store.open();
    const write = async ({ store, stamps }: (typeof tabs)[number], id: string) => {
      await store.enqueue({ id, madeAt: 0, writes: [{ entity: "t", op: "update", key: "1", values: {}, hlc: stamps.next(undefined, []) }] });
    };
    await Promise.all(["a", "b", "c", "d", "e", "f"].map((id, index) => write(tabs[index % 2]!, id)));
    const { queue, clientId } = await tabs[1]!.store.open();
    const clocks = queue.map(({ writes }) => (writes[0] as Write).hlc as Clock);
    expect(clocks).toHaveLength(6);
    expect([...clocks].sort(compareClocks)).toEqual(clocks);
    expect(new Set(clocks).size).toBe(6);
    for (const clock of clocks) expect(nodeOf(clock)).toBe(nodeOfClient(clientId));
    for (const { store } of tabs) store.close();
  });

  test("of a copied store are spelled for its new id, at the same moment", () => {
    const stamps = new Stamps(() => T);
    const [before, after] = ["67e55044-10b1-426f-9247-bb680e5fe0c8", "00000000-10b1-426f-9247-bb680e5fe0c8"];
    stamps.restore(before, undefined, undefined);
    const hlc = stamps.next(undefined, []);
    const writes: Write[] = [{ entity: "t", op: "update", key: "1", hlc, seen: hlc }, { entity: "t", op: "delete", key: "2" }];
    expect(stamps.asClient(writes, before)).toBe(writes);
    const copied = stamps.asClient(writes, after) as Write[];
    expect(nodeOf(copied[0]!.hlc as Clock)).toBe(nodeOfClient(after));
    expect(copied[0]!.hlc!.slice(0, 30)).toBe(hlc.slice(0, 30));
    expect(copied[0]!.seen).toBe(hlc);
    expect(copied[1]).toBe(writes[1]);
  });

  test("that a wrong time has made do not count once the server has said its time", () => {
    let time = T + 86_400_000;
    const stamps = new Stamps(() => time);
    stamps.restore("67e55044-10b1-426f-9247-bb680e5fe0c8", undefined, undefined);
    const wrong = stamps.next(undefined, []);
    stamps.correct(-86_400_000);
    expect(millisOf(stamps.next(undefined, [{ entity: "t", op: "delete", hlc: wrong }]))).toBe(T);
    // The server will count the first as made when it receives it.
    expect(millisOf(stamps.effective(wrong, undefined))).toBe(T);
    time += 1000;
    const seen = clockAfter(undefined, T + 5000, "another");
    expect(compareClocks(stamps.next(seen, []), seen)).toBeGreaterThan(0);
  });
});

describe("SPEC 22: conflicts", () => {
  const conflict = (hlc: string, more: Partial<Conflict> = {}): Conflict => ({
    entity: "items", key: "1", field: "title", kept: { value: "kept", hlc: "2026-11-20T07:00:00.000Z-0009-b" }, lost: { value: "lost", hlc },
    strategy: "last_write_wins", ...more,
  });
  const CLOCKS = [0, 1].map((counter) => `2026-11-20T07:00:00.000Z-000${counter}-a`) as [string, string];

  test("are listed, once each, until they are dismissed or resolved, also after a reload", async () => {
    const world = new MergingWorld(new IndexedDbStore("conflicts"));
    const { sync, view } = world.device();
    await world.until(() => view.state === "live");
    const lists: string[][] = [];
    sync.items.conflicts.subscribe(({ rows }) => lists.push(rows.map(({ lost }) => lost.hlc)));
    for (const frame of [conflict(CLOCKS[1]), conflict(CLOCKS[0], { mutation: 7, write: 0 }), conflict(CLOCKS[0], { mutation: 7, write: 0 })]) {
      world.session.frames.push({ type: "conflict", ...frame });
    }
    await world.settle();
    expect(lists).toEqual([[CLOCKS[1]], [CLOCKS[0], CLOCKS[1]]]);
    await sync.close();
    const again = world.device(new IndexedDbStore("conflicts"));
    const { conflicts } = again.sync.items;
    await world.until(() => again.view.state === "live" && conflicts.rows.length > 0);
    expect(conflicts.rows).toMatchObject([{ lost: { hlc: CLOCKS[0] }, isKept: false }, { lost: { hlc: CLOCKS[1] }, kept: { value: "kept" } }]);
    conflicts.dismiss(conflicts.rows[0]!);
    const result = conflicts.resolve(conflicts.rows[0]!, "take");
    expect(conflicts.rows).toEqual([]);
    expect(again.view.get("1")?.title).toBe("lost");
    await world.until(() => again.sync.pending.length === 0);
    expect(await result).toEqual({ ok: true });
    expect(world.server.database.table("items").get("1")?.["title"]).toBe("lost");
    await again.sync.close();
    const third = world.device(new IndexedDbStore("conflicts"));
    await world.until(() => third.view.state === "live");
    expect(third.sync.items.conflicts.rows).toEqual([]);
    await third.sync.close();
  });

  test("of the simulated server's merge: the loser is told, and its mutation is no dead letter", async () => {
    const world = new MergingWorld();
    const { sync } = world.device();
    await world.settle();
    sync.disconnect();
    const { result } = sync.items.update("1", { title: "older" });
    world.clock.pass(1000);
    world.server.database.put("items", { ...ROW, title: "newer" });
    sync.connect();
    await world.settle();
    expect(await result).toEqual({ ok: true });
    expect(sync.items.conflicts.rows).toMatchObject([{ field: "title", lost: { value: "older" }, kept: { value: "newer" }, isKept: false }]);
    expect(sync.rejected).toEqual([]);
    await sync.close();
  });

  test("that the server keeps are everybody's: resolving writes, and is seen at once", async () => {
    const rules: Rules = { ...RULES, strategy: "keep_both" };
    const world = new MergingWorld(new MemoryStore(), rules);
    const { tracks } = world.server.database;
    const known = tracks.known.bind(tracks);
    let lost = CLOCKS.map((hlc, index) => ({ value: `lost ${index}`, hlc }));
    tracks.known = (...row) => ({ ...known(...row), ...(lost.length && { lost: { title: lost } }) });
    const { sync, view, sent } = world.device();
    await world.settle();
    const { conflicts } = sync.items;
    expect(conflicts.rows).toMatchObject([
      { key: "1", field: "title", lost: lost[0], kept: { value: "title" }, strategy: "keep_both", isKept: true },
      { lost: lost[1], isKept: true },
    ]);
    // The same value, as one of this client's that lost.
    world.session.frames.push({ type: "conflict", ...conflict(CLOCKS[0], { mutation: 1, write: 0, strategy: "keep_both" }) });
    await world.settle();
    expect(conflicts.rows).toHaveLength(2);
    const resolved = conflicts.resolve(conflicts.rows[0]!, "keep");
    expect(conflicts.rows).toMatchObject([{ lost: lost[1] }]);
    world.answer();
    void conflicts.resolve(conflicts.rows[0]!, { value: "both" });
    expect(conflicts.rows).toEqual([]);
    expect(view.get("1")?.title).toBe("both");
    lost = [];
    await world.settle();
    expect(await resolved).toEqual({ ok: true });
    expect(writesIn(sent)).toMatchObject([
      { op: "update", key: "1", values: {}, resolves: { title: [CLOCKS[0]] } },
      { op: "update", key: "1", values: { title: "both" }, resolves: { title: [CLOCKS[1]] } },
    ]);
    expect(conflicts.rows).toEqual([]);
    await sync.close();
  });

  test("that the server keeps end when somebody else resolves them, also for whose value lost; one whose row is gone stays", async () => {
    const world = new MergingWorld(new MemoryStore(), { ...RULES, strategy: "keep_both" });
    const { tracks } = world.server.database;
    const known = tracks.known.bind(tracks);
    const lost = [{ value: "lost", hlc: CLOCKS[0] }];
    let isResolved = false;
    tracks.known = (...row) => ({ ...known(...row), ...(!isResolved && { lost: { title: lost } }) });
    const { sync } = world.device();
    await world.settle();
    const { conflicts } = sync.items;
    const { kept: _, ...ofGone } = conflict(CLOCKS[1], { key: "gone", strategy: "keep_both" });
    for (const own of [conflict(CLOCKS[0], { strategy: "keep_both" }), ofGone]) world.session.frames.push({ type: "conflict", ...own });
    await world.settle();
    expect(conflicts.rows).toMatchObject([{ key: "1", isKept: true }, { key: "gone", isKept: false }]);
    isResolved = true;
    world.server.database.put("items", { ...ROW, title: "resolved" });
    await world.settle();
    expect(conflicts.rows).toMatchObject([{ key: "gone", isKept: false }]);
    await sync.close();
  });
});
