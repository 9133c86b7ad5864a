import { describe, expect, test } from "vitest";
import { emptyCommit, type RowsCommit } from "../../src/replica/commit.js";
import type { Mutation } from "../../src/replica/mutation.js";
import { Replica } from "../../src/replica/replica.js";
import { selectionOf } from "../../src/replica/selection.js";

const TODOS = selectionOf("todos");
const mutation = (id: string, ...writes: Mutation["writes"]): Mutation => ({ id, madeAt: 0, writes });
const rows = (change: Partial<RowsCommit>): RowsCommit => ({ reset: false, puts: [], gone: [], cursor: "c", ...change });

function filled(...keys: string[]) {
  const replica = new Replica(() => undefined);
  const query = replica.query(TODOS);
  const puts = keys.map((key): [string, { id: string; n: number }] => [key, { id: key, n: 0 }]);
  replica.apply({ ...emptyCommit(), queries: [{ name: "todos", phase: "live", rows: rows({ reset: true, puts }), settled: [] }] });
  return { replica, query, shown: () => Object.fromEntries(replica.overlay(query)) };
}

describe("SPEC 6: the optimistic layer", () => {
  test("applies open writes in order, each op as the server would", () => {
    const { replica, shown } = filled("1", "2");
    replica.enqueue(
      mutation("a", { entity: "todos", op: "update", key: "1", values: { n: 1 } }),
      mutation("b", { entity: "todos", op: "create", values: { id: "3", n: 3 } }, { entity: "todos", op: "delete", key: 2 }),
      mutation("c", { entity: "todos", op: "update", key: "3", values: { m: 4 } }, { entity: "lists", op: "delete", key: "1" }),
      mutation("d", { entity: "todos", op: "update", key: "unknown", values: { n: 9 } }),
      mutation("e", { entity: "todos", op: "upsert", key: "1", values: { id: "1", m: 5 } }),
    );
    expect(shown()).toEqual({ 1: { id: "1", n: 1, m: 5 }, 2: null, 3: { id: "3", n: 3, m: 4 } });
  });

  test("each create whose key the database chooses has a temporary key of its own", () => {
    const { replica, shown } = filled();
    replica.enqueue(mutation("a", { entity: "todos", op: "create", values: { n: 1 } }, { entity: "todos", op: "create", values: { n: 2 } }));
    expect(shown()).toEqual({ "new:a:0": { n: 1 }, "new:a:1": { n: 2 } });
  });

  test("drops a mutation in the step that settles it, in that list alone", () => {
    const { replica, query, shown } = filled("1");
    const other = replica.query(selectionOf("todos", { where: "n >= 0" }));
    replica.apply({ ...emptyCommit(), queries: [{ name: other.selection.name, phase: "live", rows: rows({ reset: true, puts: [["1", { id: "1", n: 0 }]] }), settled: [] }] });
    replica.enqueue(mutation("a", { entity: "todos", op: "update", key: "1", values: { n: 1 } }));
    replica.apply({ ...emptyCommit(), queries: [{ name: "todos", rows: rows({ puts: [["1", { id: "1", n: 1 }]] }), settled: ["a"] }] });
    expect(shown()).toEqual({});
    expect(query.rows.get("1")).toEqual({ id: "1", n: 1 });
    expect(Object.fromEntries(replica.overlay(other))).toEqual({ 1: { id: "1", n: 1 } });
    replica.apply({ ...emptyCommit(), answered: ["a"] });
    expect(replica.queue).toEqual([]);
    expect(Object.fromEntries(replica.overlay(other))).toEqual({});
  });

  test("does not bring back an answered mutation, however late a message has it", () => {
    const { replica } = filled("1");
    const late = mutation("a", { entity: "todos", op: "update", key: "1", values: { n: 1 } });
    replica.enqueue(late);
    replica.apply({ ...emptyCommit(), answered: ["a"] });
    replica.enqueue(late);
    expect(replica.queue).toEqual([]);
    replica.restore([late], []);
    expect(replica.queue).toEqual([]);
  });

  test("a dead letter that arrives twice is one", () => {
    const { replica } = filled();
    const letter = { id: "a", writes: [], madeAt: 0, code: "invalid" as const, message: "no" };
    replica.apply({ ...emptyCommit(), rejected: [letter] });
    replica.apply({ ...emptyCommit(), rejected: [letter] });
    replica.restore([], [letter]);
    expect(replica.rejected).toEqual([letter]);
    replica.dismiss(["a"]);
    expect(replica.rejected).toEqual([]);
  });
});
