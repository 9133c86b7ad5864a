import { describe, expect, test } from "vitest";
import type { ClientFrame } from "../../src/protocol/generated.js";
import type { Commit } from "../../src/replica/commit.js";
import { selectionOf } from "../../src/replica/selection.js";
import { Session, type SessionFrame } from "../../src/session/session.js";

const SCHEMA = { key: ["id"], columns: { id: "text" } };
const TODOS = selectionOf("todos");

function started(lastMutation = 0) {
  const sent: ClientFrame[] = [];
  const commits: Commit[] = [];
  const problems: string[] = [];
  const session = new Session({
    send: (frame) => sent.push(frame),
    commit: (commit) => commits.push(commit),
    rows: () => new Map(),
    problem: (error) => problems.push(error.message),
  });
  const welcome = () =>
    session.welcome({
      type: "welcome", protocol: 1, session_id: "s", epoch: "e", last_mutation: lastMutation, heartbeat_ms: 1,
      limits: { frame_bytes_max: 1, subscriptions_max: 1, writes_max: 1 }, features: [],
    });
  const subscribed = (id: number, cursor = "c1", shape = "s"): void =>
    session.receive({ type: "subscribed", id, shape, cursor, schema: SCHEMA });
  const receive = (...frames: SessionFrame[]) => frames.forEach((frame) => session.receive(frame));
  /** The commits since the last call. */
  const taken = () => commits.splice(0);
  return { session, sent, problems, welcome, subscribed, receive, taken };
}

describe("SPEC 1: rows move only at `subscribed` and `cursor`", () => {
  test("a snapshot in pages is one step", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    receive(
      { type: "snapshot", id: 1, rows: [{ key: "1", row: { id: "1" } }], more: true },
      { type: "snapshot", id: 1, rows: [{ key: "2", row: { id: "2" } }], more: false },
      { type: "changes", id: 1, changes: [{ op: "delete", key: "1" }, { op: "put", key: "3", row: { id: "3" } }] },
    );
    expect(taken()).toEqual([]);
    subscribed(1);
    expect(taken()).toMatchObject([
      { queries: [{ name: "todos", phase: "live", rows: { reset: true, puts: [["2", { id: "2" }], ["3", { id: "3" }]], gone: [], cursor: "c1" } }] },
    ]);
  });

  test("an empty table without a snapshot frame replaces what was there", () => {
    const { session, welcome, subscribed, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    expect(taken()).toMatchObject([{ queries: [{ rows: { reset: true, puts: [], cursor: "c1" } }] }]);
  });

  test("two lists of one shape move in one commit, and one that is joining does not", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    const [a, b] = [selectionOf("todos", { where: "x = 1" }), selectionOf("todos", { where: "1 = x" })];
    session.want(a, undefined);
    session.want(b, undefined);
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    subscribed(2);
    taken();
    receive(
      { type: "changes", shape: "s", changes: [{ op: "put", key: "1", row: { id: "1" } }] },
      { type: "cursor", cursor: "c2" },
    );
    const [commit] = taken();
    expect(commit!.queries.map(({ name, rows }) => [name, rows?.puts.length, rows?.cursor])).toEqual([
      [a.name, 1, "c2"], [b.name, 1, "c2"],
    ]);
  });
});

describe("SPEC 3: a resume continues from the last cursor", () => {
  test("and takes only the difference", () => {
    const { session, sent, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, "c0");
    welcome();
    expect(sent).toEqual([{ type: "subscribe", id: 1, entity: "todos", cursor: "c0" }]);
    receive({ type: "changes", id: 1, changes: [{ op: "leave", key: "9" }] });
    subscribed(1);
    expect(taken()).toMatchObject([{ queries: [{ rows: { reset: false, gone: ["9"], puts: [], cursor: "c1" } }] }]);
    receive({ type: "cursor", cursor: "c2" });
    session.lost();
    expect(taken().at(-1)).toMatchObject({ queries: [{ name: "todos", phase: "stale" }] });
    welcome();
    expect(sent.at(-1)).toEqual({ type: "subscribe", id: 2, entity: "todos", cursor: "c2" });
  });

  test("a cursor of a guarded shape names the shape", () => {
    const { session, sent, welcome, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    const schema = { key: ["id"], columns: { id: "text" } };
    receive({ type: "subscribed", id: 1, shape: "todos.~abc", cursor: "c1", schema });
    expect(taken()).toMatchObject([{ queries: [{ rows: { cursor: "c1.todos.~abc" } }] }]);
    receive({ type: "cursor", cursor: "c2" });
    session.lost();
    welcome();
    expect(sent.at(-1)).toEqual({ type: "subscribe", id: 2, entity: "todos", cursor: "c2.todos.~abc" });
  });

  test("what was held when the connection broke is forgotten", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    receive({ type: "changes", shape: "s", changes: [{ op: "put", key: "1", row: { id: "old" } }] });
    session.lost();
    welcome();
    taken();
    subscribed(2, "c3");
    expect(taken()).toMatchObject([{ queries: [{ rows: { reset: false, puts: [], gone: [] } }] }]);
  });
});

describe("SPEC 4: a refetch swaps, it does not empty", () => {
  test.each(["expired", "epoch", "schema"] as const)("%s: the old rows stay until the new ones are complete", (reason) => {
    const { session, sent, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    receive({ type: "refetch", id: 1, reason });
    expect(taken()).toEqual([{ queries: [{ name: "todos", phase: "stale", settled: [] }], acked: [], answered: [], rejected: [] }]);
    receive({ type: "snapshot", id: 1, rows: [{ key: "2", row: { id: "2" } }], more: false });
    expect(taken()).toEqual([]);
    subscribed(1, "c5");
    expect(taken()).toMatchObject([{ queries: [{ phase: "live", rows: { reset: true, puts: [["2", { id: "2" }]] } }] }]);
    expect(sent.filter(({ type }) => type === "subscribe")).toHaveLength(1);
  });

  test("permission: the old rows are dropped at once", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    receive({ type: "refetch", id: 1, reason: "permission" });
    expect(taken()).toMatchObject([{ queries: [{ phase: "loading", rows: { reset: true, puts: [] } }] }]);
  });

  test("a refetch that no longer fits the table ends the subscription alone", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    session.want(selectionOf("lists"), undefined);
    welcome();
    subscribed(1);
    subscribed(2, "c1", "l");
    receive({ type: "refetch", id: 1, reason: "schema" }, { type: "error", code: "bad_filter", message: "no column", id: 1, fatal: false });
    expect(taken().at(-1)).toMatchObject({ queries: [{ name: "todos", phase: "error", error: { code: "bad_filter", remedy: "correct" } }] });
    receive({ type: "cursor", cursor: "c2" });
    expect(taken()).toMatchObject([{ queries: [{ name: "lists" }] }]);
  });
});

describe("SPEC 6: a mutation's optimistic effects are dropped by the commit that brings the real ones", () => {
  test("not by the ack, but by the cursor after it", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    session.ack("m", 1);
    expect(taken()).toEqual([{ queries: [], acked: ["m"], answered: [], rejected: [] }]);
    receive({ type: "cursor", cursor: "c2" });
    expect(taken()).toMatchObject([{ queries: [{ settled: ["m"] }], answered: ["m"] }]);
  });

  test("a list that was joining when the ack came keeps them until its own cursor", () => {
    const { session, welcome, subscribed, receive, taken } = started();
    const lists = selectionOf("lists");
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    session.want(lists, undefined);
    taken();
    session.ack("m", 1);
    receive({ type: "cursor", cursor: "c2" });
    const [, first] = taken();
    expect(first).toMatchObject({ queries: [{ name: "todos", settled: ["m"] }], answered: [] });
    // Its snapshot may be older than the mutation.
    subscribed(2, "c1", "l");
    expect(taken()).toMatchObject([{ queries: [{ name: "lists", settled: [] }], answered: [] }]);
    receive({ type: "cursor", cursor: "c3" });
    expect(taken()).toMatchObject([{ queries: [{ name: "todos", settled: [] }, { name: "lists", settled: ["m"] }], answered: ["m"] }]);
  });

  test("a list that was subscribed after the ack contains them from the start", () => {
    const { session, welcome, subscribed, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    session.ack("m", 1);
    session.lost();
    welcome();
    taken();
    subscribed(2);
    expect(taken()).toMatchObject([{ queries: [{ settled: ["m"] }], answered: ["m"] }]);
  });

  test("a repeated answer needs no cursor", () => {
    const { session, welcome, subscribed, taken } = started(1);
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    session.ack("m", 1);
    expect(taken().at(-1)).toMatchObject({ queries: [{ settled: ["m"] }], answered: ["m"] });
  });
});

describe("SPEC 12: frames of a newer or a broken server do no harm", () => {
  test("an unknown change makes its list start again under a new id, and is reported", () => {
    const { session, sent, problems, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    receive({ type: "changes", shape: "s", changes: [{ op: "merge", key: "1" } as never] }, { type: "cursor", cursor: "c2" });
    expect(sent.slice(-2)).toEqual([{ type: "unsubscribe", id: 1 }, { type: "subscribe", id: 2, entity: "todos" }]);
    expect(problems).toHaveLength(1);
    expect(taken()).toMatchObject([{ queries: [{ phase: "stale" }] }]);
  });

  test("frames of an unknown shape or id are ignored", () => {
    const { session, problems, welcome, subscribed, receive, taken } = started();
    session.want(TODOS, undefined);
    welcome();
    subscribed(1);
    taken();
    receive(
      { type: "changes", shape: "other", changes: [{ op: "put", key: "1", row: {} }] },
      { type: "snapshot", id: 77, rows: [], more: false },
      { type: "cursor", cursor: "c2" },
    );
    expect(taken()).toMatchObject([{ queries: [{ rows: { puts: [] } }] }]);
    expect(problems).toEqual([]);
  });

  test("an unavailable table holds up nothing, until its next frame", () => {
    const { session, problems, welcome, receive } = started();
    session.want(TODOS, undefined);
    welcome();
    expect(session.isJoining).toBe(true);
    receive({ type: "error", code: "unavailable", message: "later", id: 1, fatal: false });
    expect(session.isJoining).toBe(false);
    expect(problems).toEqual(["later"]);
    receive({ type: "snapshot", id: 1, rows: [], more: false });
    expect(session.isJoining).toBe(true);
  });
});
