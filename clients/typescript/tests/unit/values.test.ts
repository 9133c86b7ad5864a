import "fake-indexeddb/auto";
import fc from "fast-check";
import { openDB } from "idb";
import { describe, expect, test } from "vitest";
import { InvalidWriteError } from "../../src/errors.js";
import type { Write } from "../../src/protocol/generated.js";
import { toJson } from "../../src/protocol/to_json.js";
import { IndexedDbStore, VERSION } from "../../src/store/indexeddb.js";
import { World, type Client } from "../simulated/harness.js";

class Money {
  constructor(readonly cents: number) {}
}
class Price extends Money {
  toJSON(): string {
    return `${this.cents / 100}`;
  }
}
const circular: { self?: unknown } = {};
circular.self = { list: [circular] };
const proxy = <T extends object>(target: T): T =>
  new Proxy(target, {
    get: (of, name, self) => {
      const value: unknown = Reflect.get(of, name, self);
      return typeof value === "object" && value !== null ? proxy(value) : value;
    },
  });

const refused: [string, unknown][] = [
  ["NaN", NaN], ["Infinity", Infinity], ["-Infinity", -Infinity], ["an invalid Date", new Date(NaN)],
  ["a Map", new Map([[1, 2]])], ["a Set", new Set([1])], ["an Error", new Error("no")], ["a RegExp", /x/], ["a typed array", new Uint8Array(2)],
  ["an ArrayBuffer", new ArrayBuffer(2)], ["a Promise", Promise.resolve()], ["a boxed number", Object(1)], ["a boxed BigInt", Object(1n)],
  ["a function", () => 1], ["a symbol", Symbol("s")], ["a class instance", new Money(5)], ["an object within itself", circular],
  ["half a character", "\ud800"], ["a proxy of a Map", new Proxy(new Map(), {})], ["a proxy of an Error", new Proxy(new Error("no"), {})],
  ["a toJSON that throws", { toJSON: () => { throw new Error("no"); } }], ["a toJSON that gives undefined", { toJSON: () => undefined }],
  ["an invalid date of a library", { toJSON: () => null }], ["depth", JSON.parse(`${"[".repeat(500)}${"]".repeat(500)}`)],
];

async function offline(): Promise<{ world: World; sync: Client }> {
  const world = new World();
  const sync = world.client({ connect: false });
  await sync.opened;
  return { world, sync };
}

describe("SPEC 16: what JSON cannot hold is refused at the call, and nothing of the write is kept", () => {
  const places: [string, (value: unknown) => unknown][] = [
    ["as a column", (value) => value],
    ["in an array", (value) => [1, value]],
    ["in an object", (value) => ({ a: { b: value } })],
    ["in a proxy", (value) => proxy({ a: [{ b: value }] })],
  ];
  test.each(places)("%s", async (_name, place) => {
    const { sync } = await offline();
    for (const [name, value] of refused) {
      const values = { id: "1", title: "x", n: place(value) as number };
      for (const write of [() => sync.todos.create(values), () => sync.todos.update("1", values), () => sync.todos.upsert(values)]) {
        expect(write, name).toThrow(InvalidWriteError);
      }
    }
    expect(sync.status).toMatchObject({ pending: 0, rejected: 0 });
    await sync.close();
  });

  test("undefined is refused within a value; a column of undefined is left out", async () => {
    const { sync } = await offline();
    for (const n of [[undefined], { a: undefined }, [[,]]]) expect(() => sync.todos.update("1", { n: n as never })).toThrow(InvalidWriteError);
    sync.todos.update("1", { title: "x", n: undefined as never });
    expect(sync.pending[0]!.writes).toEqual([{ entity: "todos", op: "update", key: "1", values: { title: "x" } }]);
    await sync.close();
  });

  test.each([[undefined], [null], [NaN], [[]], [["a", null]], [["a", undefined]], [Symbol("s")], [new Map()], ["\udfff"]])("the key %s", async (key) => {
    const { sync } = await offline();
    expect(() => sync.todos.update(key as never, { title: "x" })).toThrow(InvalidWriteError);
    expect(() => sync.todos.delete(key as never)).toThrow(InvalidWriteError);
    expect(sync.pending).toEqual([]);
    await sync.close();
  });

  test.each([[undefined], [null], ["text"], [new Map([["title", "x"]])], [["x"]]])("the values %s", async (values) => {
    const { sync } = await offline();
    expect(() => sync.todos.create(values as never)).toThrow(InvalidWriteError);
    expect(() => sync.todos.update("1", values as never)).toThrow(InvalidWriteError);
    await sync.close();
  });

  test("the message names the place, and a transaction with such a write is not made", async () => {
    const { sync } = await offline();
    expect(() => sync.todos.create({ title: "x", n: { a: [0, NaN] } as never })).toThrow("n.a[1] is NaN");
    expect(() =>
      sync.transaction(() => {
        sync.todos.create({ title: "fine" });
        sync.todos.create({ title: "not", n: new Map() as never });
      }),
    ).toThrow(InvalidWriteError);
    expect(sync.pending).toEqual([]);
    await sync.close();
  });
});

describe("SPEC 16: what becomes JSON without a loss is written as the server does", () => {
  test.each<[string, unknown, unknown]>([
    ["a small BigInt", 10n, 10],
    ["2^53", 2n ** 53n, 2 ** 53],
    ["a large BigInt", 9007199254740993n, "9007199254740993"],
    ["a BigInt beyond int8", -(10n ** 30n), "-1000000000000000000000000000000"],
    ["BigInts in arrays and objects", { a: [1n, { b: -9007199254740993n }] }, { a: [1, { b: "-9007199254740993" }] }],
    ["a Date", new Date(0), "1970-01-01T00:00:00.000Z"],
    ["an object with a toJSON", [new Price(150)], ["1.5"]],
    ["an object without a prototype", Object.assign(Object.create(null) as object, { a: 1 }), { a: 1 }],
    ["nested proxies", proxy({ a: [{ b: [1, "x", null, true] }] }), { a: [{ b: [1, "x", null, true] }] }],
    ["an object that is shared, not within itself", ((a) => [a, a])({ x: 1 }), [{ x: 1 }, { x: 1 }]],
  ])("%s", (_name, value, json) => {
    expect(toJson(value)).toEqual(json);
  });

  test("any JSON stays what it is, in a copy of its own, with a key `__proto__` too", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const copy = toJson(value);
        expect(JSON.stringify(copy)).toBe(JSON.stringify(value));
        if (typeof value === "object" && value !== null) expect(copy).not.toBe(value);
      }),
    );
    expect(JSON.stringify(toJson(JSON.parse('{"__proto__":{"a":1}}')))).toBe('{"__proto__":{"a":1}}');
  });

  test("a BigInt key is the digits", async () => {
    const { sync } = await offline();
    sync.todos.update(9007199254740993n, { n: 5n });
    sync.todos.delete([1, 9007199254740993n]);
    expect(sync.pending.map(({ writes }) => writes[0])).toMatchObject([{ key: "9007199254740993", values: { n: 5 } }, { key: '[1,"9007199254740993"]' }]);
    await sync.close();
  });

  test("the row that is shown is the row that is sent, whatever the application does with its object later", async () => {
    const { world, sync } = await offline();
    const view = sync.todos.live();
    const values = { id: "1", title: "x", n: { list: [1n] } as never };
    sync.todos.create(values);
    (values.n as { list: unknown[] }).list.push(new Map());
    expect(view.rows).toEqual([{ id: "1", title: "x", n: { list: [1] } }]);
    sync.connect();
    await world.settle();
    expect(world.server.database.table("todos").get("1")).toEqual({ id: "1", title: "x", n: { list: [1] } });
    await sync.close();
  });
});

describe("SPEC 16: what the server refuses for good is a dead letter, and holds up nothing", () => {
  test.each(["protocol", "too_large"] as const)("as %s: with one lost connection at most for the first", async (refusal) => {
    const world = new World();
    world.server.options.refuses = ({ writes }) => ((writes[0] as Write).values?.["title"] === "bad" ? refusal : undefined);
    const sync = world.client();
    sync.todos.live();
    await world.settle();
    const results = ["1", "bad", "2", "bad", "3"].map((title) => sync.todos.create({ title }).result);
    for (let i = 0; i < 8; i++) await world.recover();
    expect((await Promise.all(results)).map(({ ok }) => ok)).toEqual([true, false, true, false, true]);
    const titles = [...world.server.database.table("todos").values()].map(({ title }) => title);
    expect(titles.sort()).toEqual(["1", "2", "3"]);
    expect([...world.server.database.applied.values()]).toEqual([1, 1, 1]);
    expect(sync.rejected.map(({ code }) => code)).toEqual(refusal === "protocol" ? ["invalid", "invalid"] : ["too_large", "too_large"]);
    expect(sync.status).toMatchObject({ state: "live", pending: 0 });
    await sync.close();
  });

  test("entries that an earlier version has stored: what can be sent is, the rest is a dead letter, also after a reload", async () => {
    const name = "earlier-version";
    const first = new IndexedDbStore(name);
    await first.open();
    first.close();
    const database = await openDB(name, VERSION);
    const write = (id: string, n: unknown) => ({ id, madeAt: 1, writes: [{ entity: "todos", op: "create", values: { id, title: "x", n, done: undefined } }] });
    const entries = [
      write("big", 10n), write("map", new Map([["a", 1]])), write("circular", circular), write("nan", [NaN]), { id: "empty", madeAt: 1 },
      { id: "null", madeAt: 1, writes: [null] }, write("fine", 1),
    ];
    for (const entry of entries) await database.add("queue", entry);
    database.close();
    for (let load = 0; load < 2; load++) {
      const world = new World(new IndexedDbStore(name));
      const sync = world.client();
      const view = sync.todos.live();
      await sync.opened;
      await expect.poll(async () => (await world.settle(), sync.status.pending)).toBe(0);
      if (load === 0) expect(view.rows.map(({ id, n }) => [id, n])).toEqual([["big", 10], ["fine", 1]]);
      expect(sync.rejected.map(({ id }) => id).sort()).toEqual(["circular", "empty", "map", "nan", "null"]);
      expect(sync.rejected.every(({ code, message }) => code === "invalid" && message.length > 10)).toBe(true);
      await sync.close();
    }
  });
});
