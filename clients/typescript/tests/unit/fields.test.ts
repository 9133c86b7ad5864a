import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { amountToJson, isAmount, readAmount } from "../../src/fields/amount.js";
import { counterOf } from "../../src/fields/clock.js";
import {
  applyWrite, clockAfter, compareClocks, FieldsError, HybridClock, metadataOf, millisOf, nodeOf, nodeOfClient, readClock, readRow,
  type Clock, type Conflict, type Metadata, type Row, type Rules, type Write,
} from "../../src/fields/index.js";
import { compareAs } from "../../src/fields/order.js";
import type { Comparison } from "../../src/fields/rules.js";
import type { Json, Row as Values } from "../../src/protocol/json.js";

/** What the server's own code says. */
type Answer<T> = { is: T; error?: undefined } | { is?: undefined; error: string };

interface Told {
  metadata: Metadata;
  values: Values;
}

interface Clocks {
  texts: ({ text: string; error: string } | { text: string; error?: undefined; millis: number; counter: number; node: string })[];
  ascending: Clock[];
  after: { below: Clock | null; millis: number; node: string; clock: Answer<Clock> }[];
  hybrid: { node: string; last: Clock | null; steps: { time: number; remotes: Clock[]; clock: Answer<Clock>; last: Clock }[] }[];
}

interface OfValues {
  ascending: { comparison: Comparison; ascending: Json[] }[];
  amounts: (Answer<Json> & { value: Json })[];
  sums: (Answer<Json> & { one: Json; two: Json })[];
}

interface Histories {
  rules: Rules[];
  reads: (Answer<Told> & Told & { rules: number })[];
  writes: (Answer<Told> & { rules: number; known: Told | null; write: Write; conflicts?: Conflict[] })[];
  joins: { rules: number; one: Told; two: Told; is: Told; shown: boolean; newest: Clock | null }[];
}

/** What the server's code says, which `crates/merge` keeps; see the first lines of its `tests/vectors/main.rs`. */
function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../../crates/merge/tests/vectors/${name}.json`, import.meta.url), "utf8")) as T;
}

/** The same text for the same JSON, whatever the order of its members; `-0` is `0`. */
function text(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [two]) => (one < two ? -1 : 1)).map(([name, of]) => [`.${name}`, of]))
      : part,
  );
}

function answer<T>(act: () => T): Answer<T> {
  try {
    return { is: act() };
  } catch (error) {
    if (error instanceof FieldsError) return { error: error.code };
    throw error;
  }
}

function told(row: Row): Told {
  return { metadata: metadataOf(row), values: row.values };
}

function rowOf({ metadata, values }: Told, rules: Rules): Row {
  return readRow(metadata, values, rules);
}

describe("SPEC 21: the server's clocks", () => {
  const { texts, ascending, after, hybrid } = vectors<Clocks>("clocks");

  test.each(texts)("reads $text", (expected) => {
    const read = answer(() => readClock(expected.text));
    if (read.is === undefined) return expect(read.error).toBe(expected.error);
    const { millis, counter, node } = { counter: counterOf(read.is), millis: millisOf(read.is), node: nodeOf(read.is) };
    expect({ text: read.is, millis, counter, node }).toEqual(expected);
  });

  test("are ordered as their bytes", () => {
    expect(ascending.length).toBeGreaterThan(50);
    for (const [index, one] of ascending.entries()) {
      for (const [other, two] of ascending.entries()) expect(Math.sign(compareClocks(one, two))).toBe(Math.sign(index - other));
      expect(compareClocks(undefined, one)).toBeLessThan(0);
    }
  });

  test.each(after)("$clock.is is after $below", ({ below, millis, node, clock }) => {
    expect(answer(() => clockAfter(below ?? undefined, millis, node))).toEqual(clock);
  });

  test.each(hybrid)("run on one node, and receive", ({ node, last, steps }) => {
    const clock = new HybridClock(node, last ?? undefined);
    for (const { time, remotes, clock: expected, last: after } of steps) {
      expect(answer(() => (remotes.length === 0 ? clock.now(time) : clock.receiveAll(remotes, time)))).toEqual(expected);
      expect(clock.last ?? null).toBe(after);
    }
  });

  test("are of a node that can be one", () => {
    expect(() => new HybridClock("a:b")).toThrow(FieldsError);
    const clock = new HybridClock("a");
    expect(clock.receive(readClock("2001-09-09T01:46:40.000Z-0000-b"), Date.parse("2001-09-09T01:46:40Z"))).toBe("2001-09-09T01:46:40.000Z-0001-a");
  });
});

describe("SPEC 21: the server's values", () => {
  const { ascending, amounts, sums } = vectors<OfValues>("values");

  test.each(ascending)("are ordered as $comparison", ({ comparison, ascending }) => {
    for (const [index, one] of ascending.entries()) {
      for (const [other, two] of ascending.entries()) {
        expect(Math.sign(compareAs(comparison, one, two)), `${text(one)} ${text(two)}`).toBe(Math.sign(index - other));
      }
    }
  });

  test.each(amounts)("counts $value", ({ value, is }) => {
    const amount = readAmount(value);
    expect(amount === undefined ? undefined : amountToJson(amount)).toEqual(is);
  });

  test.each(sums)("adds $one and $two", ({ one, two, is }) => {
    const sum = readAmount(one)! + readAmount(two)!;
    expect(isAmount(sum) ? amountToJson(sum) : undefined).toEqual(is);
  });
});

describe("SPEC 21: what a program has done that knows no marks", () => {
  const rules: Rules = { strategy: "last_write_wins", deletes: "win", columns: { tags: { merge: "set" } } };
  const clock = (text: string) => readClock(`2001-09-09T01:46:40.000Z-${text}`);
  const read = (tags: Json, added: string, removed?: { seen: string; at: string }) =>
    readRow({ fields: { tags: { set: { '"x"': { added, ...(removed && { removed }) } } } } } as Metadata, { tags }, rules);

  test("has added an element, and removed another", () => {
    const added = clock("0000-a");
    const back = read(["x"], added, { seen: added, at: clock("0001-b") });
    expect(back.shown(rules)).toEqual({ tags: ["x"] });
    const gone = read([], added);
    expect(gone.shown(rules)).toEqual({ tags: [] });
    expect(back.joined(gone, rules).shown(rules)).toEqual({ tags: ["x"] });
  });

  test("a client's name is that of its id's beginning", () => {
    expect(nodeOfClient("00000000-2500-4000-8000-000000000000")).toBe("00000011");
    expect(nodeOfClient("ffffffff-ffff-4fff-bfff-ffffffffffff")).toBe("e13wu1of");
  });
});

describe("SPEC 21: the server's merge", () => {
  const { rules, reads, writes, joins } = vectors<Histories>("histories");

  test.each(reads)("reads a row: %#", (read) => {
    expect(text(answer(() => told(rowOf(read, rules[read.rules]!))))).toBe(text(read.is ? { is: read.is } : { error: read.error }));
  });

  test.each(writes)("applies a write: %#", ({ rules: index, known, write, ...expected }) => {
    const known_row = known && rowOf(known, rules[index]!);
    const before = known_row && text(told(known_row));
    const written = answer(() => applyWrite(write, known_row ?? undefined, rules[index]!));
    const found = written.is ? { is: told(written.is.row), conflicts: written.is.conflicts } : written;
    expect(text(found)).toBe(text(expected));
    expect(known_row && text(told(known_row))).toBe(before);
  });

  test.each(joins)("joins two rows: %#", ({ rules: index, one, two, is, shown, newest }) => {
    const ours = rules[index]!;
    const [a, b] = [rowOf(one, ours), rowOf(two, ours)];
    for (const row of [a.joined(b, ours), b.joined(a, ours)]) {
      expect(text(told(row))).toBe(text(is));
      expect(text(row.shown(ours))).toBe(shown ? text(is.values) : undefined);
      expect(row.newest ?? null).toBe(newest);
    }
  });
});
