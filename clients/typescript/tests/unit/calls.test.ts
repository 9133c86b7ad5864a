import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { MutatorCall, Step, Write } from "../../src/protocol/generated.js";
import type { Row, RowKey } from "../../src/protocol/json.js";
import { Calls } from "../../src/replica/calls.js";
import { emptyCommit, type QueryCommit } from "../../src/replica/commit.js";
import { isCall, type Mutation } from "../../src/replica/mutation.js";
import { Replica } from "../../src/replica/replica.js";
import { selectionOf } from "../../src/replica/selection.js";

type Numbered = { id?: string; n: number; g: number };

/** What functions are written against; once on the replica, and once on plain maps. */
interface Tables {
  get(entity: string, key: RowKey): Numbered | undefined;
  write(write: Write): void;
}

interface Args {
  from: string;
  to: string;
}

const MUTATORS: { [name: string]: (tables: Tables, args: Args) => void } = {
  /** Depends on another entity, and on itself. */
  add({ get, write }, { from, to }) {
    const row = get("a", to);
    if (!row) throw new Error("nothing to add to");
    write({ entity: "a", op: "update", key: to, values: { n: row.n + 1 + (get("b", from)?.n ?? 0) } });
  },
  /** Touches entities that only it knows. */
  move({ get, write }, { from, to }) {
    const row = get("a", from);
    write({ entity: "a", op: "delete", key: from });
    if (row) write({ entity: "b", op: "upsert", key: to, values: { id: to, n: row.n + (get("b", to)?.n ?? 0), g: row.g } });
  },
  /** Reads what it has written. */
  twice({ get, write }, { to }) {
    for (let i = 0; i < 2; i++) write({ entity: "b", op: "upsert", key: to, values: { id: to, n: (get("b", to)?.n ?? 0) + 1, g: i } });
  },
  /** Leaves the key to the server. */
  count({ get, write }, { from }) {
    write({ entity: "b", op: "create", values: { n: get("a", from)?.n ?? -1, g: 1 } });
  },
  /** Throws after a write, which is then nothing. */
  doubt({ get, write }, { to }) {
    write({ entity: "a", op: "upsert", key: to, values: { id: to, n: 99, g: 1 } });
    if ((get("b", to)?.n ?? 0) % 2 === 0) throw new Error("in doubt");
  },
};

type Database = Map<string, Map<RowKey, Row>>;

function copyOf(database: Database): Database {
  return new Map([...database].map(([entity, rows]) => [entity, new Map(rows)]));
}

function applied(rows: Map<RowKey, Row>, key: RowKey, { op, values }: Write): void {
  const before = rows.get(key);
  if (op === "delete") rows.delete(key);
  else if (op === "create") rows.set(key, { ...values });
  else if (op === "upsert" || before) rows.set(key, { ...before, ...values });
}

/** The obvious way: every mutation in turn on a copy of everything. */
function replay(database: Database, mutations: readonly Mutation[]): Database {
  let now = copyOf(database);
  for (const { id, writes } of mutations) {
    writes.forEach((step, index) => {
      const next = copyOf(now);
      let place = 0;
      const write = (write: Write, name: string) => {
        const key = write.key ?? write.values?.["id"] ?? `new:${id}:${name}`;
        applied(next.get(write.entity)!, String(key), write);
      };
      if (!isCall(step)) write(step, `${index}`);
      else {
        try {
          MUTATORS[step.mutator]?.(
            {
              get: (entity, key) => next.get(entity)!.get(key) as Numbered | undefined,
              write: (written) => write(written, `${index}.${place++}`),
            },
            step.args as unknown as Args,
          );
        } catch {
          return;
        }
      }
      now = next;
    });
  }
  return now;
}

const LISTS = [selectionOf("a"), selectionOf("a", { where: "g = 1" }), selectionOf("b"), selectionOf("b", { where: "g = $1", params: [0] })];

/** A replica with four lists, which follow a database when told to. */
class Page {
  readonly replica = new Replica(() => undefined);
  readonly lists = LISTS.map((list) => this.replica.query(list));
  runs = 0;

  constructor(known = Object.keys(MUTATORS), isOrdered = true) {
    const calls = new Calls(this.replica, ({ mutator, args }, state) => {
      if (!known.includes(mutator)) throw new Error(`no ${mutator}`);
      this.runs += 1;
      const tables: Tables = { get: (entity, key) => state.row(entity, key) as Numbered | undefined, write: (write) => state.write(write) };
      MUTATORS[mutator]!(tables, args as unknown as Args);
    }, () => isOrdered);
    this.replica.written = (mutation) => calls.written(mutation);
  }

  /** One list, or all of them, take in a state of the database that contains some mutations. */
  move(database: Database, settled: string[], only = LISTS, answered: string[] = []): void {
    const queries = only.map((list): QueryCommit => ({
      name: list.name, phase: "live", settled, rows: { reset: true, puts: [...rowsOf(list, database)], gone: [], cursor: "c" },
    }));
    this.replica.apply({ ...emptyCommit(), queries, answered });
  }

  shown(list = LISTS[0]!): Map<RowKey, Row> {
    const query = this.replica.query(list);
    const rows = new Map(query.rows);
    for (const [key, row] of this.replica.overlay(query)) {
      if (row) rows.set(key, row);
      else rows.delete(key);
    }
    return rows;
  }
}

function rowsOf({ entity, where }: (typeof LISTS)[number], database: Database): Map<RowKey, Row> {
  const group = where === undefined ? undefined : where.includes("$") ? 0 : 1;
  return new Map([...database.get(entity)!].filter(([, row]) => group === undefined || row["g"] === group));
}

const key = fc.constantFrom("1", "2", "3");
const write: fc.Arbitrary<Step> = fc
  .record({ entity: fc.constantFrom("a", "b"), op: fc.constantFrom("create", "update", "upsert", "delete"), key, n: fc.nat(9), g: fc.nat(1) })
  .map(({ entity, op, key, n, g }): Write => {
    if (op === "delete") return { entity, op, key };
    return { entity, op, key, values: op === "update" ? { n } : { id: key, n, g } };
  });
const call: fc.Arbitrary<Step> = fc
  .record({ mutator: fc.constantFrom(...Object.keys(MUTATORS), "unknown"), from: key, to: key })
  .map(({ mutator, from, to }): MutatorCall => ({ mutator, args: { from, to } }));
const steps = fc.array(fc.oneof({ weight: 2, arbitrary: call }, write), { minLength: 1, maxLength: 3 });

type Event =
  | { do: "queue"; steps: Step[] }
  | { do: "other"; steps: Step[] }
  | { do: "commit" | "reject" | "cursor" | "reload" | "quiet" };
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("queue" as const), steps }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("other" as const), steps: fc.array(write, { minLength: 1, maxLength: 2 }) }) },
  { weight: 3, arbitrary: fc.constant({ do: "commit" as const }) },
  { weight: 3, arbitrary: fc.constant({ do: "cursor" as const }) },
  ...(["reject", "reload", "quiet"] as const).map((name) => ({ weight: 1, arbitrary: fc.constant({ do: name }) })),
);

describe("SPEC 19: calls on the local copy", () => {
  test("whatever is queued, committed and rejected, each list shows the server's rows with everything unanswered replayed in order", () => {
    fc.assert(
      fc.property(fc.array(event, { minLength: 3, maxLength: 40 }), (events) => {
        let page = new Page();
        let server: Database = new Map([["a", new Map()], ["b", new Map()]]);
        // As the page has it: an older instant of it.
        let seen = server;
        let queue: Mutation[] = [];
        let acked: string[] = [];
        let n = 0;
        page.move(seen, []);
        for (const event of events) {
          const open = queue.filter(({ id }) => !acked.includes(id));
          switch (event.do) {
            case "queue": {
              const mutation = { id: `m${n++}`, madeAt: 0, writes: event.steps };
              queue.push(mutation);
              page.replica.enqueue(mutation);
              break;
            }
            case "other":
              server = replay(server, [{ id: "other", madeAt: 0, writes: event.steps }]);
              break;
            case "commit":
              if (!open[0]) break;
              server = replay(server, [open[0]]);
              acked.push(open[0].id);
              page.replica.apply({ ...emptyCommit(), acked: [open[0].id] });
              break;
            case "reject":
              if (!open[0]) break;
              queue = queue.filter((mutation) => mutation !== open[0]);
              page.replica.apply({ ...emptyCommit(), rejected: [{ ...open[0], code: "refused", message: "no" }] });
              break;
            case "cursor":
              seen = server;
              page.move(seen, acked, LISTS, acked);
              queue = queue.filter(({ id }) => !acked.includes(id));
              acked = [];
              break;
            case "reload":
              page = new Page();
              page.replica.restore(structuredClone(queue), []);
              page.move(seen, []);
              break;
            case "quiet": {
              const before = page.runs;
              page.replica.apply(emptyCommit());
              for (const list of LISTS) page.shown(list);
              expect(page.runs, "nothing changed").toBe(before);
              break;
            }
          }
          const expected = replay(seen, queue);
          for (const list of LISTS) expect(page.shown(list)).toEqual(rowsOf(list, expected));
        }
      }),
      { numRuns: Number(process.env["MODEL_RUNS"] ?? 500) },
    );
  });

  const rowsWith = (a: [RowKey, number][], b: [RowKey, number][] = []): Database =>
    new Map([["a", a], ["b", b]].map(([entity, rows]) => [entity as string, new Map((rows as [RowKey, number][]).map(([id, n]) => [id, { id, n, g: 1 }]))]));
  const calling = (id: string, mutator: string, from = "1", to = "1"): Mutation => ({ id, madeAt: 0, writes: [{ mutator, args: { from, to } }] });

  test("a function runs again when something that it read has changed, itself or through an earlier call, and not otherwise", () => {
    const page = new Page();
    page.move(rowsWith([["1", 0], ["2", 0]], [["1", 0], ["3", 0]]), []);
    for (let i = 0; i < 10; i++) page.replica.enqueue(calling(`m${i}`, "add"));
    const all = () => LISTS.map((list) => page.shown(list));
    all();
    expect(page.runs, "once each").toBe(10);
    page.move(rowsWith([["1", 0], ["2", 7]], [["1", 0], ["3", 7]]), []);
    all();
    expect(page.runs, "other rows").toBe(10);
    page.move(rowsWith([["1", 0], ["2", 7]], [["1", 1], ["3", 7]]), []);
    expect(page.shown().get("1")).toMatchObject({ n: 20 });
    all();
    expect(page.runs, "a row that all have read").toBe(20);
    page.move(rowsWith([["1", 1], ["2", 7]], [["1", 1], ["3", 7]]), ["m0"], LISTS, ["m0"]);
    expect(page.shown().get("1")).toMatchObject({ n: 19 });
  });

  test("an answer that changes nothing for the calls behind it runs none of them", () => {
    const page = new Page();
    page.move(rowsWith([["1", 0]]), []);
    for (let i = 0; i < 10; i++) page.replica.enqueue(calling(`m${i}`, "add"));
    page.shown();
    page.move(rowsWith([["1", 1]]), ["m0"], LISTS, ["m0"]);
    expect(page.shown().get("1")).toMatchObject({ n: 10 });
    expect(page.runs).toBe(10);
  });

  test("lists that move one by one show a call once: each drops it with the step that brings its effects", () => {
    const page = new Page();
    const [whole, group] = [LISTS[0]!, LISTS[1]!];
    page.move(rowsWith([["1", 5]]), []);
    page.replica.enqueue(calling("m", "add"));
    const both = () => [whole, group].map((list) => page.shown(list).get("1")!["n"]);
    expect(both()).toEqual([6, 6]);
    const after = rowsWith([["1", 20]]);
    page.move(after, ["m"], [whole]);
    // Run on the whole list's rows it would be added once more.
    expect(both()).toEqual([20, 6]);
    page.replica.enqueue(calling("later", "add"));
    expect(both()).toEqual([21, 21]);
    page.move(after, ["m"], [group], ["m"]);
    expect(both()).toEqual([21, 21]);
  });

  test("where rows come before answers, a call that has been sent does not run on rows that may contain it", () => {
    const page = new Page(undefined, false);
    page.move(rowsWith([["1", 5]]), []);
    page.replica.enqueue(calling("m", "add"), calling("later", "add"));
    expect(page.shown().get("1")).toMatchObject({ n: 7 });
    page.move(rowsWith([["1", 8]]), []);
    expect(page.shown().get("1"), "none is sent").toMatchObject({ n: 10 });
    page.replica.number([{ id: "m", number: 1 }]);
    page.move(rowsWith([["1", 9]]), []);
    expect(page.shown().get("1"), "as if the rows contain it, which they do").toMatchObject({ n: 10 });
    page.move(rowsWith([["1", 9]]), ["m"], LISTS, ["m"]);
    expect(page.shown().get("1")).toMatchObject({ n: 10 });
  });

  test("a row keeps its temporary key through a rebase, and is pending until the answer", () => {
    const page = new Page();
    page.move(rowsWith([["1", 1]]), []);
    page.replica.enqueue({ id: "m", madeAt: 0, writes: [{ mutator: "count", args: { from: "1" } }, { entity: "b", op: "create", values: { n: 7, g: 1 } }] });
    expect(page.shown(LISTS[2]!)).toEqual(new Map([["new:m:0.0", { n: 1, g: 1 }], ["new:m:1", { n: 7, g: 1 }]]));
    page.move(rowsWith([["1", 2]]), []);
    expect(page.shown(LISTS[2]!)).toEqual(new Map([["new:m:0.0", { n: 2, g: 1 }], ["new:m:1", { n: 7, g: 1 }]]));
    expect(page.replica.writesOn("b", page.replica.queue[0]!).map(([key]) => key)).toEqual(["new:m:0.0", "new:m:1"]);
  });

  test("a call whose function is missing shows nothing, and what is beside it is shown", () => {
    const page = new Page(["add"]);
    page.move(rowsWith([["1", 0]]), []);
    page.replica.enqueue({
      id: "m", madeAt: 0,
      writes: [{ mutator: "twice", args: { to: "1" } }, { entity: "a", op: "update", key: "1", values: { g: 0 } }, { mutator: "add", args: { from: "1", to: "1" } }],
    });
    expect(page.shown().get("1")).toEqual({ id: "1", n: 1, g: 0 });
    expect(page.shown(LISTS[2]!)).toEqual(new Map());
  });

  test("without functions at all calls show nothing, and writes everything", () => {
    const replica = new Replica(() => undefined);
    const query = replica.query(LISTS[0]!);
    replica.enqueue({ id: "m", madeAt: 0, writes: [{ mutator: "add", args: null }, { entity: "a", op: "create", values: { n: 1, g: 1 } }] });
    expect(Object.fromEntries(replica.overlay(query))).toEqual({ "new:m:1": { n: 1, g: 1 } });
  });

  test("a function that looks at a list while it runs does not begin all runs again", () => {
    const replica = new Replica(() => undefined);
    const query = replica.query(LISTS[0]!);
    let runs = 0;
    const calls = new Calls(replica, (_call, state) => {
      runs += 1;
      replica.overlay(query);
      state.write({ entity: "a", op: "create", key: "1", values: { id: "1" } });
    }, () => true);
    replica.written = (mutation) => calls.written(mutation);
    calls.attempt(calling("", "any"));
    expect(runs).toBe(1);
    replica.enqueue(calling("m", "any"));
    expect(Object.fromEntries(replica.overlay(query))).toEqual({ 1: { id: "1" } });
    expect(runs).toBe(2);
  });
});
