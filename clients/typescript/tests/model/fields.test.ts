/**
 * Two devices and a program edit the same rows by their fields, in any order, with clocks that are wrong by days: frames
 * arrive or do not, connections break, pages are reloaded, the log is pruned, rows are fetched again.
 */

import "fake-indexeddb/auto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import { fields } from "../../src/fields.js";
import { compareClocks, type Clock, type Rules } from "../../src/fields/index.js";
import * as network from "../../src/network.js";
import type { Replica } from "../../src/replica/replica.js";
import type { Write } from "../../src/protocol/generated.js";
import { IndexedDbStore } from "../../src/store/indexeddb.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import type { Extension } from "../../src/sync.js";
import { ManualClock, rest } from "../simulated/harness.js";
import { SimulatedServer } from "../simulated/server.js";

interface Item {
  id: string;
  a: string;
  b: string;
  likes: number;
  tags: string[];
}

type Column = "a" | "b";

const RULES: Rules = {
  strategy: "last_write_wins", deletes: "win", columns: { likes: { merge: "counter" }, tags: { merge: "set" } },
};
const IDS = ["1", "2"];
const BEGIN_MS = Date.parse("2026-11-20T07:00:00Z");
const DAY_MS = 86_400_000;

type Step =
  | { do: "edit"; device: number; id: string; column: Column }
  | { do: "count" | "tag"; device: number; id: string }
  | { do: "program"; id: string; column: Column }
  | { do: "deliver"; device: number; frames: number }
  | { do: "drop" | "reload" | "offline" | "online"; device: number }
  | { do: "pass"; ms: number }
  | { do: "apply" | "join" | "drain" | "prune" | "refetch" };

const device = fc.integer({ min: 0, max: 1 });
const id = fc.constantFrom(...IDS);
const column = fc.constantFrom<Column>("a", "b");
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ do: fc.constant("edit" as const), device, id, column }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("count" as const, "tag" as const), device, id }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("program" as const), id, column }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("deliver" as const), device, frames: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("drop" as const, "reload" as const, "offline" as const, "online" as const), device }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(0, 1, 5_000, 40_000) }) },
  ...(["apply", "join", "drain"] as const).map((name) => ({ weight: 6, arbitrary: fc.constant({ do: name }) })),
  ...(["prune", "refetch"] as const).map((name) => ({ weight: 1, arbitrary: fc.constant({ do: name }) })),
);

/** Everything, with the clock of each value that was written. */
class Everything {
  readonly clock = new ManualClock();
  readonly server = new SimulatedServer();
  readonly devices: Device[];
  /** The writes of values, each of which is written once. */
  readonly written = new Map<string, Write | Clock>();
  /** How often each row was counted. */
  readonly counts = new Map(IDS.map((id) => [id, 0]));
  readonly tags = new Map<string, string[]>(IDS.map((id) => [id, []]));
  n = 0;

  constructor(stores: (() => Store)[]) {
    const { database, options } = this.server;
    options.features.push("fields");
    database.tracks.rules.set("items", RULES);
    database.tracks.now = () => BEGIN_MS + this.clock.now();
    for (const id of IDS) database.put("items", { id, a: "a", b: "b", likes: 0, tags: [] });
    this.devices = stores.map((store, index) => new Device(this, store, (index * 2 - 1) * DAY_MS));
  }

  clockOf(value: string): Clock | undefined {
    const write = this.written.get(value);
    if (typeof write !== "object") return write;
    // One that is not stamped for good yet comes after all that is there.
    const { hlc } = write;
    return (hlc?.endsWith("-unknown") ? `9${value.split("-")[1]!.padStart(4, "0")}` : hlc) as Clock | undefined;
  }

  program(id: string, column: Column): void {
    const { database } = this.server;
    const value = `program-${++this.n}`;
    database.put("items", { ...database.table("items").get(id)!, [column]: value });
    this.written.set(value, database.tracks.rows.get(JSON.stringify(["items", id]))!.clock(column)!);
  }

  async settle(): Promise<void> {
    for (let rounds = 0; rounds < 20; rounds++) {
      await rest();
      this.server.step();
      this.clock.pass(rounds % 5 === 4 ? 60_000 : 0);
    }
    await rest();
  }
}

class Device {
  readonly saved: Promise<boolean>[] = [];
  readonly problems: string[] = [];
  sync!: ReturnType<Device["create"]>;
  view!: ReturnType<ReturnType<Device["create"]>["items"]["live"]>;
  /** The value with which each column was shown last. */
  readonly shown = new Map<string, string>();
  session: SimulatedServer["sessions"][number] | undefined;
  replica!: Replica;

  constructor(readonly all: Everything, readonly store: () => Store, readonly wrongByMs: number) {}

  create() {
    const { clock, server } = this.all;
    const merging = fields(["items"]);
    const extend: Extension = (sync, replica, ...rest) => {
      this.replica = replica;
      merging(sync, replica, ...rest);
    };
    return createSync({
      url: "http://server.test/api/sync", entities: { items: entity<Item>() }, fields: Object.assign(extend, { entities: ["items"] as const }), storage: this.store(), connect: true,
      environment: {
        clock: { after: clock.after.bind(clock), random: () => 0.5, now: () => BEGIN_MS + clock.now() + this.wrongByMs },
        transports: [{
          name: "simulated",
          open: (handlers) => {
            const link = server.transport.open(handlers);
            if (server.sessions.at(-1)?.handlers === handlers) this.session = server.sessions.at(-1);
            return link;
          },
        }],
        channel: undefined, network: () => Promise.resolve(network), election: (_name, elected) => (elected(), () => {}),
      },
    });
  }

  async start(): Promise<void> {
    this.sync = this.create();
    this.view = this.sync.items.live();
    this.view.subscribe(() => this.look());
    this.sync.on("problem", (error) => error.code === "storage" && this.problems.push(error.message));
    await this.sync.opened;
    await this.view.ready.catch(() => {});
  }

  /** What is shown of a field is the newest of what is known, and never goes back to an older value. */
  look(): void {
    for (const row of this.view.rows) {
      for (const column of ["a", "b"] as const) {
        const name = `${row.id}.${column}`;
        const now = this.all.clockOf(row[column]);
        for (const value of [this.shown.get(name) ?? "", ...this.known(row.id, column)]) {
          const message = `${name} is ${row[column]} and not ${value}`;
          expect(compareClocks(this.all.clockOf(value), now), message).toBeLessThanOrEqual(0);
        }
        this.shown.set(name, row[column]);
      }
    }
  }

  /** The values that the server has sent, and those of writes that it has not answered. */
  known(id: string, column: Column): string[] {
    const sent = [...this.replica.queries.values()].map(({ rows }) => rows.get(id)?.[column]);
    const written = this.replica.queue.flatMap(({ writes }) => writes as Write[]).filter(({ key }) => key === id);
    return [...sent, ...written.map(({ values }) => values?.[column])].filter((value) => typeof value === "string");
  }

  edit(id: string, column: Column): void {
    const value = `${this.wrongByMs < 0 ? "slow" : "fast"}-${++this.all.n}`;
    const before = this.sync.pending.length;
    // A row that is not here yet is written without a clock.
    if (!this.sync.items.get(id)) return;
    // Known before it is shown, above all that is.
    this.all.written.set(value, "99999" as Clock);
    const { saved } = this.sync.items.update(id, { [column]: value });
    this.all.written.set(value, this.sync.pending[before]!.writes[0] as Write);
    this.saved.push(saved);
    expect(this.view.get(id)?.[column]).toBe(value);
  }

  async reload(): Promise<void> {
    await Promise.all(this.saved);
    await this.sync.close();
    await this.start();
  }
}

async function run(all: Everything, steps: readonly Step[]): Promise<void> {
  const { server, clock } = all;
  for (const step of steps) {
    const device = "device" in step ? all.devices[step.device]! : undefined;
    switch (step.do) {
      case "edit":
        device!.edit(step.id, step.column);
        break;
      case "count":
        if (!device!.sync.items.get(step.id)) break;
        device!.saved.push(device!.sync.items.update(step.id, { likes: { add: 1 } }).saved);
        all.counts.set(step.id, all.counts.get(step.id)! + 1);
        break;
      case "tag": {
        if (!device!.sync.items.get(step.id)) break;
        const tag = `tag-${++all.n}`;
        device!.saved.push(device!.sync.items.update(step.id, { tags: { add: [tag] } }).saved);
        all.tags.get(step.id)!.push(tag);
        expect(device!.view.get(step.id)?.tags).toContain(tag);
        break;
      }
      case "program":
        all.program(step.id, step.column);
        break;
      case "deliver":
        for (let i = 0; i < step.frames; i++) device!.session?.deliver();
        break;
      case "apply":
      case "join":
      case "drain":
        for (const session of server.sessions) session[step.do]();
        break;
      case "drop":
        device!.session?.drop();
        break;
      case "reload":
        await device!.reload();
        break;
      case "offline":
        device!.sync.disconnect();
        break;
      case "online":
        device!.sync.connect();
        break;
      case "pass":
        clock.pass(step.ms);
        break;
      case "prune":
        server.database.prune();
        break;
      case "refetch":
        for (const session of server.sessions) session.refetch("items", "schema");
        break;
    }
    await rest();
    for (const device of all.devices) device.look();
  }
}

let names = 0;
const stores: [string, () => () => Store, number][] = [
  ["memory", () => {
    const store = new MemoryStore();
    return () => store;
  }, 100],
  ["indexeddb", () => {
    const name = `fields-${++names}`;
    return () => new IndexedDbStore(name);
  }, 40],
];

describe.each(stores)("SPEC 22 on %s", (_kind, store, runs) => {
  test("every edit of a field lives until a later one of the same field, on all devices, and nothing shown goes back", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 50 }), async (steps) => {
        const all = new Everything([store(), store()]);
        for (const device of all.devices) void device.start();
        await all.settle();
        await run(all, steps);
        for (const { sync } of all.devices) sync.connect();
        await all.settle();
        await all.settle();
        const table = [...all.server.database.table("items").values()] as unknown as Item[];
        for (const { sync, view, problems } of all.devices) {
          expect(problems).toEqual([]);
          expect(sync.rejected).toEqual([]);
          expect(sync.status).toMatchObject({ state: "live", pending: 0 });
          expect(view.rows).toEqual(table);
        }
        for (const row of table) {
          expect(row.likes, "each increment once").toBe(all.counts.get(row.id));
          expect([...row.tags].sort()).toEqual([...all.tags.get(row.id)!].sort());
        }
        expectNewest(all, table);
        for (const { sync } of all.devices) await sync.close();
      }),
      { numRuns: Number(process.env["MODEL_RUNS"] ?? runs) },
    );
  }, 120_000);
});

/** Each field has the newest value that was written to it. */
function expectNewest(all: Everything, table: readonly Item[]): void {
  const { effects } = all.server.database;
  for (const { id, a, b } of table) {
    for (const [column, value] of [["a", a], ["b", b]] as const) {
      const clocks = effects.filter(({ key, values }) => key === id && values?.[column] !== undefined).map(({ hlc }) => hlc as Clock);
      for (const clock of clocks) expect(compareClocks(clock, all.clockOf(value))).toBeLessThanOrEqual(0);
    }
  }
}
