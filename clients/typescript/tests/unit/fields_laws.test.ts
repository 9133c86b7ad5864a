import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  applyWrite, clockAfter, compareClocks, metadataOf, partOf, readClock, readRow, Row,
  type Clock, type ColumnRule, type Edit, type FieldsError, type Metadata, type Rules, type Write,
} from "../../src/fields/index.js";
import { compareAs, compareValues } from "../../src/fields/order.js";
import type { Json, Row as Values } from "../../src/protocol/json.js";

/** Only for a test that never ends. */
const TIMEOUT_MS = 120_000;
const numRuns = Number(process.env["MODEL_RUNS"] ?? 300);

const columns: { [column: string]: ColumnRule } = {
  likes: { merge: "counter" },
  tags: { merge: "set" },
  best: { merge: { max: "number" } },
  least: { merge: { min: "json" } },
};
const anyRules = fc.constantFrom<Rules>(
  { strategy: "last_write_wins", deletes: "win", columns },
  { strategy: "client_wins", deletes: "revive", columns },
);

/** Few moments and nodes, so that clocks are often equal or in a tie; a few are spelled as others do. */
const anyClock = fc
  .tuple(fc.integer({ min: 1, max: 8 }), fc.constantFrom("0000", "0001", "000a"), fc.constantFrom("", "500"), fc.constantFrom("a", "b", "ﬀ", "𝒳"))
  .map(([millis, counter, finer, node]) => readClock(`1970-01-01T00:00:00.00${millis}${finer}Z-${counter}-${node}`));
const anyValue: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, 0, 1, "1", "1.0", "NaN", "1e400", "", "ﬀ", "𝒳", { b: [1, null], a: {} }),
  fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>,
);
const anyElements = fc.subarray<Json>(["x", "y", "𝒳", 1, 0.5, true]);
const anyAmount = fc.constantFrom<Json>(-2, 3, 0.1, "0.000000001", "9007199254740993");

const anyWhole: fc.Arbitrary<Values> = fc.record(
  { title: anyValue, note: anyValue, likes: fc.option(anyAmount), tags: fc.option(anyElements), best: anyValue, least: anyValue },
  { requiredKeys: [] },
);
const anyPart: fc.Arbitrary<Values> = fc.record(
  {
    title: anyValue,
    note: anyValue,
    likes: fc.oneof(anyAmount, anyAmount.map((add) => ({ add }))),
    tags: fc.oneof(anyElements, fc.record({ add: anyElements, remove: anyElements })),
    best: anyValue,
    least: anyValue,
  },
  { requiredKeys: [] },
);
const anyEdit = fc.oneof<fc.Arbitrary<Edit>[]>(
  anyWhole.map((create) => ({ create })),
  anyPart.map((update) => ({ update })),
  anyPart.map((update) => ({ update })),
  fc.constant("delete"),
);
/** Any write, also one that no honest author makes. */
const anyWrite: fc.Arbitrary<Write> = fc.record({ clock: anyClock, born: anyClock, seen: anyClock, edit: anyEdit }, { requiredKeys: ["clock", "edit"] });
const anySums = fc.record({ added: fc.constantFrom<Json>(0, 0.1, 5), taken: fc.constantFrom<Json>(0, 7) });
/** What databases have counted, which no write of a device makes. */
const anyCount: fc.Arbitrary<Metadata> = fc
  .record({ set: fc.constantFrom(undefined, clockAfter(undefined, 9, "a")), sums: fc.dictionary(fc.constantFrom("one", "two"), anySums) })
  .map(({ set, sums }) => ({ fields: { likes: { counter: { ...(set && { set }), sums } } } }));

/** Any row: what any writes make of none, of one without metadata, or of one in which databases have counted. */
function anyBeginning(rules: Rules): fc.Arbitrary<Row> {
  return fc.oneof(
    fc.constant(Row.none),
    anyWhole.map((values) => readRow({}, values, rules)),
    fc.tuple(anyClock, anyWhole).map(([base, values]) => readRow({ base }, values, rules)),
    fc.tuple(anyCount, anyAmount).map(([metadata, likes]) => readRow(metadata, { likes }, rules)),
  );
}

function anyRow(rules: Rules, beginning = anyBeginning(rules)): fc.Arbitrary<Row> {
  return fc.tuple(beginning, fc.array(anyWrite, { maxLength: 5 })).map(([first, writes]) => {
    return writes.reduce((row, write) => row.joined(partOf(write, row, rules), rules), first);
  });
}

/** All that a row is, as text: what merges later may depend on nothing else. */
function text(row: Row): string {
  const { metadata, values } = { metadata: metadataOf(row), values: row.values };
  return JSON.stringify({ metadata, values }, (_name, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [two]) => (one < two ? -1 : 1)).map(([name, of]) => [`.${name}`, of]))
      : part,
  );
}

/** Several rows, of one beginning or of different ones. */
function rowsOf(count: number): fc.Arbitrary<[Rules, Row[]]> {
  const rows = (row: fc.Arbitrary<Row>): fc.Arbitrary<Row[]> => fc.array(row, { minLength: count, maxLength: count });
  return anyRules.chain((rules) => {
    const related = anyBeginning(rules).chain((first) => rows(anyRow(rules, fc.constant(first))));
    return fc.tuple(fc.constant(rules), fc.oneof(related, related, rows(anyRow(rules))));
  });
}

describe("SPEC 21: joining", () => {
  test("is commutative", () => {
    fc.assert(
      fc.property(rowsOf(2), ([rules, [one, two]]) => {
        expect(text(one!.joined(two!, rules))).toBe(text(two!.joined(one!, rules)));
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);

  test("is associative", () => {
    fc.assert(
      fc.property(rowsOf(3), ([rules, [one, two, three]]) => {
        const [left, right] = [one!.joined(two!, rules).joined(three!, rules), one!.joined(two!.joined(three!, rules), rules)];
        expect(text(left)).toBe(text(right));
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);

  test("is idempotent", () => {
    fc.assert(
      fc.property(rowsOf(2), ([rules, [one, two]]) => {
        expect(text(one!.joined(one!, rules))).toBe(text(one!));
        const both = one!.joined(two!, rules);
        expect(text(both.joined(two!, rules))).toBe(text(both));
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);

  test("gives what can be written and read again", () => {
    fc.assert(
      fc.property(rowsOf(2), ([rules, [one, two]]) => {
        const row = one!.joined(two!, rules);
        // Of no row at all nothing is kept.
        fc.pre(row.newest !== undefined);
        const read = readRow(JSON.parse(JSON.stringify(metadataOf(row))) as Metadata, row.values, rules);
        expect(text(read)).toBe(text(row));
        expect(read.newest).toBe(row.newest);
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);

  test("of what was written gives the same in every order, however often it is told", () => {
    const writes = fc.array(anyWrite, { minLength: 1, maxLength: 6 });
    const history = anyRules.chain((rules) => fc.tuple(fc.constant(rules), anyRow(rules), writes));
    const order = fc.infiniteStream(fc.nat());
    fc.assert(
      fc.property(history, order, ([rules, row, writes], order) => {
        const parts = writes.map((write) => partOf(write, row, rules));
        const inOrder = parts.reduce((row, part) => row.joined(part, rules), row);
        const shuffled = [...parts, ...parts].map((part) => [order.next().value, part] as const).sort(([one], [two]) => one - two);
        expect(text(shuffled.reduce((row, [, part]) => row.joined(part, rules), row))).toBe(text(inOrder));
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);
});

test("SPEC 21: an element is gone as far as any remover saw it", () => {
  const rules: Rules = { strategy: "last_write_wins", deletes: "win", columns };
  const edit = (row: Row, millis: number, tags: Json): Row => {
    return applyWrite({ clock: clockAfter(undefined, millis, "a"), edit: { update: { tags } } }, row, rules).row;
  };
  const first = readRow({}, { tags: ["x"] }, rules);
  const [early, late] = [edit(first, 5, { remove: ["x"] }), edit(edit(first, 2, { add: ["x"] }), 3, { remove: ["x"] })];
  for (const row of [early.joined(late, rules), late.joined(early, rules)]) {
    expect(row.values).toEqual({ tags: [] });
    expect(row.newest).toBe(clockAfter(undefined, 5, "a"));
  }
});

test("SPEC 21: replicas with different rules end with the same", () => {
  const of = (merge: ColumnRule["merge"]): Rules => ({ strategy: "last_write_wins", deletes: "win", columns: { a: { merge } } });
  const rows = [of("register"), of({ max: "number" }), of("counter")].map((rules) => readRow({}, { a: 1 }, rules));
  for (const one of [...rows, readRow({}, { a: [1] }, of("set"))]) {
    for (const two of rows) expect(text(one.joined(two, of("register")))).toBe(text(two.joined(one, of("register"))));
  }
});

describe("SPEC 21: a write", () => {
  test("after what its author saw is what the row shows then, and nothing is told to have lost", () => {
    const history = anyRules.chain((rules) => fc.tuple(fc.constant(rules), anyRow(rules), anyValue));
    fc.assert(
      fc.property(history, ([rules, known, title]) => {
        // A base may be above all that was written: up to it the server has folded clocks.
        const [born, seen] = [known.born, [known.newest, known.base].filter((clock) => clock !== undefined).sort(compareClocks).at(-1)];
        fc.pre(born !== undefined && seen !== undefined && known.isAlive(rules));
        const clock = clockAfter(seen, 0, "me");
        const { row, conflicts } = applyWrite({ clock, born: born!, seen: seen!, edit: { update: { title } } }, known, rules);
        expect(compareValues(row.values["title"]!, title)).toBe(0);
        expect(row.clock("title")).toBe(clock);
        expect(conflicts).toEqual([]);
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);

  test("that does not fit is refused with its reason", () => {
    const rules: Rules = { strategy: "last_write_wins", deletes: "win", columns };
    const clock = clockAfter(undefined, 0, "me");
    const many = Array.from({ length: 300 }, (_, index) => index);
    const fields = (count: number): Values => Object.fromEntries(Array.from({ length: count }, (_, index) => [`c${index}`, 0]));
    const code = (edit: Edit): string | undefined => {
      try {
        applyWrite({ clock, edit }, readRow({}, { likes: 1, tags: [] }, rules), rules);
        return undefined;
      } catch (error) {
        return (error as FieldsError).code;
      }
    };
    const most = "9".repeat(27);
    expect(code({ update: { likes: { add: "many" } } })).toBe("counter");
    expect(code({ update: { likes: most } })).toBeUndefined();
    expect(code({ update: { likes: { add: most } } })).toBe("counter");
    expect(code({ update: { likes: `${most}0` } })).toBe("counter");
    expect(code({ update: { tags: { add: ["é".repeat(600)] } } })).toBe("set");
    expect(code({ update: { tags: { add: ["é".repeat(500)] } } })).toBeUndefined();
    expect(code({ update: { tags: many } })).toBe("set");
    expect(code({ update: { tags: many.slice(0, 256) } })).toBeUndefined();
    expect(code({ create: { tags: many } })).toBeUndefined();
    expect(code({ update: fields(1600) })).toBeUndefined();
    expect(code({ update: fields(1601) })).toBe("too_many_fields");
    expect(code({ create: fields(1601) })).toBe("too_many_fields");
  });
});

describe("SPEC 21: metadata", () => {
  const rules: Rules = { strategy: "last_write_wins", deletes: "revive", columns };

  test("of a counter to which a database added the most fits its number", () => {
    const [most, all] = ["9".repeat(27), `1${"9".repeat(26)}8`];
    const metadata: Metadata = { fields: { likes: { counter: { sums: { a: { added: most, taken: 0 } } } } } };
    const row = readRow(metadata, { likes: all }, rules);
    expect(row.values).toEqual({ likes: all });
    expect(metadataOf(row)).toEqual({ born: row.born, ...metadata });
  });

  test("of an element that is gone does not change when it is removed again", () => {
    const remove = (row: Row, millis: number): Row => {
      const write: Write = { clock: clockAfter(undefined, millis, "a"), edit: { update: { tags: { remove: ["x"] } } } };
      return applyWrite(write, row, { ...rules, deletes: "win" }).row;
    };
    const once = remove(readRow({}, { tags: ["x", "y"] }, rules), 1);
    expect(once.values).toEqual({ tags: ["y"] });
    expect(text(remove(once, 2))).toBe(text(once));
  });

  test("that is not the server's is refused, whatever it is", () => {
    const values = { title: "a", likes: 1, tags: ["x"], best: 2 };
    const clock: Clock = clockAfter(undefined, 1, "a");
    for (const metadata of [
      { born: 5 }, { died: "now" }, { base: "1970-02-30T00:00:00.000Z-0000-a" }, { edited: [] },
      { fields: { title: 5 } }, { fields: { title: null } }, { fields: { title: "now" } }, { fields: { title: { counter: {} } } }, { fields: { gone: clock } },
      { fields: { likes: clock } }, { fields: { likes: { set: {} } } }, { fields: { likes: null } },
      { fields: { likes: { counter: { sums: { ":": { added: 1, taken: 1 } } } } } }, { fields: { likes: { counter: { sums: { a: { added: "x", taken: 1 } } } } } },
      { fields: { likes: { counter: { set: 5 } } } }, { fields: { tags: clock } }, { fields: { tags: { counter: {} } } }, { fields: { tags: { set: { '"x"': { added: 5 } } } } },
      { fields: { best: { set: {} } } }, { partial: true },
    ]) {
      expect(() => readRow(metadata as Metadata, values, rules), JSON.stringify(metadata)).toThrow(expect.objectContaining({ name: "FieldsError" }));
    }
  });
});

describe("SPEC 21: orders", () => {
  test("of values and clocks are total", () => {
    const anyComparison = fc.constantFrom("number", "timestamp", "date", "json" as const);
    fc.assert(
      fc.property(anyComparison, anyValue, anyValue, anyValue, (comparison, one, two, three) => {
        const compare = (a: Json, b: Json): number => Math.sign(compareAs(comparison, a, b));
        expect(compare(one, two)).toBe(0 - compare(two, one));
        if (compare(one, two) <= 0 && compare(two, three) <= 0) expect(compare(one, three)).toBeLessThanOrEqual(0);
      }),
      { numRuns },
    );
    const bytes = (text: string): Buffer => Buffer.from(text, "utf8");
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (one, two) => {
        expect(Math.sign(compareClocks(one, two))).toBe(Buffer.compare(bytes(one), bytes(two)));
      }),
      { numRuns },
    );
  }, TIMEOUT_MS);
});
