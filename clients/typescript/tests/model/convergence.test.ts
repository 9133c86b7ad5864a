/**
 * Everything that can happen, in any order: the user and others write, frames arrive or do not, the
 * connection breaks, the page is reloaded or killed while its disk is busy, the log is pruned, tables
 * are refetched, lists are opened and closed.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import { isCall } from "../../src/replica/mutation.js";
import { selectionOf } from "../../src/replica/selection.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Shape } from "../simulated/database.js";
import { marked, rest, World, type Client, type Todo } from "../simulated/harness.js";
import { MortalStore } from "../simulated/mortal.js";

type Step =
  | { do: "write"; key: number }
  | { do: "create" | "remove"; key: number }
  | { do: "other"; key: number; list: string }
  | { do: "otherDelete"; key: number }
  | { do: "call"; refused: boolean }
  | { do: "deliver"; frames: number }
  | { do: "pass"; ms: number }
  | { do: "list"; open: boolean }
  | { do: "reach"; yes: boolean }
  | { do: "count" | "otherMark" }
  | { do: "apply" | "join" | "drain" | "drop" | "reload" | "kill" | "pause" | "resume" | "prune" | "refetch" | "online" | "offline" };

const key = fc.integer({ min: 0, max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const), key }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("create" as const, "remove" as const), key }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("other" as const), key, list: fc.constantFrom("a", "b") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("otherDelete" as const), key }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("call" as const), refused: fc.boolean() }) },
  { weight: 3, arbitrary: fc.constant({ do: "count" as const }) },
  { weight: 2, arbitrary: fc.constant({ do: "otherMark" as const }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("deliver" as const), frames: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1_000, 40_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("list" as const), open: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reach" as const), yes: fc.boolean() }) },
  ...(["apply", "join", "drain"] as const).map((name) => ({ weight: 6, arbitrary: fc.constant({ do: name }) })),
  ...(["drop", "reload", "kill", "pause", "resume", "prune", "refetch", "online", "offline"] as const).map((name) => ({
    weight: 1, arbitrary: fc.constant({ do: name }),
  })),
);

const WHOLE: Shape = { entity: "todos" };
const LIST_A: Shape = { entity: "todos", where: { column: "list", value: "a" } };
const FILTER = { where: "list = $1", params: ["a"] };

/** One client over its whole life, with what is expected of it. */
class Device {
  readonly disk = new MemoryStore();
  readonly world = new World();
  mortal = new MortalStore(this.disk);
  sync!: Client;
  view!: ReturnType<Client["todos"]["live"]>;
  list: ReturnType<Client["todos"]["live"]> | undefined;
  /** The newest value with which each of the user's rows has been shown. */
  readonly shown = new Map<string, number>();
  /** The values that the store has. */
  readonly saved = new Set<number>();
  /** The marks of the user's calls that have been shown, without those that the server refuses. */
  readonly marks = new Set<string>();
  readonly savedMarks = new Set<string | number>();
  readonly removed: string[] = [];
  n = 0;

  async start(): Promise<void> {
    this.sync = this.world.client({ storage: this.mortal });
    this.view = this.sync.todos.live();
    this.list = undefined;
    this.view.subscribe(() => this.look());
    // Time passes only for a store that has opened: one that does not answer is given up.
    await rest();
  }

  /** The user's rows never go back to an older value, which would be flicker. */
  look(): void {
    if (this.view.state === "loading") return;
    for (const row of this.view.rows) {
      if (!row.id.startsWith("mine")) continue;
      const before = this.shown.get(row.id) ?? 0;
      expect(row.n, `${row.id} went back`).toBeGreaterThanOrEqual(before);
      this.shown.set(row.id, row.n ?? 0);
    }
    for (const id of this.shown.keys()) expect(this.view.get(id), `${id} vanished`).toBeDefined();
    const marks = this.view.get("marks")?.title.split(",") ?? [];
    expect(marks, "each once").toEqual([...new Set(marks)]);
    for (const mark of this.marks) expect(marks, "a mark vanished").toContain(mark);
    for (const mark of marks) if (mark.startsWith("mine")) this.marks.add(mark);
  }

  write(index: number): void {
    const n = ++this.n;
    const id = `mine-${index}`;
    const list = n % 2 ? "a" : "b";
    void this.sync.todos.upsert({ id, title: "mine", n, list }).saved.then((saved) => saved && this.saved.add(n));
    this.shown.set(id, n);
  }

  /** In one mutation with a write, whose row then says that both were applied. */
  call(refused: boolean): void {
    const mark = `${refused ? "refused" : "mine"}-${++this.n}`;
    const { saved } = this.sync.transaction(() => {
      this.sync.todos.upsert({ id: "beside", title: mark });
      this.sync.mutate.markOnce({ n: mark, refused });
    });
    if (refused) return;
    void saved.then((saved) => saved && this.savedMarks.add(mark));
    this.marks.add(mark);
  }

  /** What is on disk is always a state that the database was in. */
  async checkDisk(): Promise<void> {
    for (const [shape, selection] of [[WHOLE, selectionOf("todos")], [LIST_A, selectionOf("todos", FILTER)]] as const) {
      const stored = await this.disk.rows(selection);
      if (!stored) continue;
      const position = Number(stored.cursor.split(":")[1]);
      expect(new Map(stored.rows.map(([key, row]) => [key, row]))).toEqual(this.world.server.database.rowsAt(shape, position));
    }
  }

  async do(step: Step): Promise<void> {
    const { server, clock } = this.world;
    const { database } = server;
    switch (step.do) {
      case "write":
        return this.write(step.key);
      case "create":
        // May exist already: then it is rejected.
        return void this.sync.todos.create({ id: `shared-${step.key}`, title: "created", list: "a" });
      case "remove":
        return void this.sync.todos.delete(`shared-${step.key}`);
      case "other":
        return database.put("todos", { id: `shared-${step.key}`, title: `other ${database.position}`, list: step.list });
      case "call":
        return this.call(step.refused);
      case "count": {
        const n = ++this.n;
        return void this.sync.mutate.countUp({ n }).saved.then((saved) => saved && this.savedMarks.add(n));
      }
      case "otherMark": {
        const before = database.table("todos").get("marks")?.["title"] as string | undefined;
        return database.put("todos", { id: "marks", title: marked(before, `other-${database.position}`) });
      }
      case "otherDelete":
        return database.delete("todos", `shared-${step.key}`);
      case "deliver":
        for (const session of [...server.sessions]) for (let i = 0; i < step.frames; i++) session.deliver();
        return;
      case "apply":
      case "join":
      case "drain":
        for (const session of server.sessions) session[step.do]();
        return;
      case "drop":
        return server.drop();
      case "pass":
        return clock.pass(step.ms);
      case "list":
        if (step.open) this.list ??= this.sync.todos.live(FILTER);
        else if (this.list) this.list = void this.list.close();
        return;
      case "reload":
        this.mortal.resume();
        await rest();
        await this.sync.close();
        return this.start();
      case "kill":
        return this.kill();
      case "pause":
        return this.mortal.pause();
      case "resume":
        return this.mortal.resume();
      case "prune":
        return database.prune();
      case "refetch":
        for (const session of server.sessions) session.refetch("todos", "schema");
        return;
      case "reach":
        server.reachable = step.yes;
        if (!step.yes) server.drop();
        return;
      case "online":
        return this.sync.connect();
      case "offline":
        return this.sync.disconnect();
    }
  }

  /** Forgets what the store did not have yet. */
  async kill(): Promise<void> {
    this.mortal.kill();
    this.world.server.drop();
    const { queue } = await this.disk.open();
    this.shown.clear();
    this.marks.clear();
    for (const { writes } of queue) {
      for (const step of writes) {
        if (isCall(step)) continue;
        const { key, values } = step;
        if (String(key).startsWith("mine")) this.shown.set(String(key), values?.["n"] as number);
      }
    }
    this.mortal = new MortalStore(this.disk);
    await this.start();
  }

  async finish(): Promise<void> {
    this.world.server.reachable = true;
    this.mortal.resume();
    this.sync.connect();
    for (let i = 0; i < 3; i++) await this.world.recover();
  }
}

function sorted(rows: Iterable<Todo>): Todo[] {
  return [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));
}

test("SPEC 1, 2, 5, 6, 7, 9, 19: whatever happens, client and database end equal, each write takes effect once, and nothing flickers", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), fc.boolean(), fc.boolean(), async (steps, repeats, late) => {
      const device = new Device();
      Object.assign(device.world.server.options, { repeats, late });
      // By this name the client knows that answers may be late.
      if (late) device.world.server.transport.name = "events";
      await device.start();
      for (const step of steps) {
        await device.do(step);
        await rest();
        device.look();
        await device.checkDisk();
      }
      await device.finish();
      const { database } = device.world.server;
      const table = sorted(database.table("todos").values() as Iterable<Todo> & Iterable<never>);
      expect(device.sync.status).toMatchObject({ state: "live", pending: 0 });
      expect(sorted(device.view.rows)).toEqual(table);
      if (device.list) expect(sorted(device.list.rows)).toEqual(table.filter(({ list }) => list === "a"));
      expect((await device.disk.open()).queue).toEqual([]);
      const effects = database.effects.flatMap(({ values }) => (typeof values?.["n"] === "number" ? [values["n"]] : []));
      expect(effects, "each once, in order").toEqual([...new Set(effects)].sort((a, b) => a - b));
      for (const n of device.saved) expect(effects).toContain(n);
      const called = database.called.map(({ args }) => (args as { n: string | number }).n);
      expect(called, "each once").toEqual([...new Set(called)]);
      expect(called.some((mark) => `${mark}`.startsWith("refused"))).toBe(false);
      for (const mark of device.savedMarks) expect(called).toContain(mark);
      for (const { code, reason, writes } of device.sync.rejected) {
        if (writes.some(isCall)) expect([code, reason]).toEqual(["refused", "unwanted"]);
      }
      await device.checkDisk();
      await device.sync.close();
    }),
    { numRuns: Number(process.env["MODEL_RUNS"] ?? 150) },
  );
}, 120_000);
