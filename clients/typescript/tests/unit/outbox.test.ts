import { describe, expect, test } from "vitest";
import { LAST_MUTATION_UNKNOWN, type PushFrame } from "../../src/protocol/frames.js";
import type { Write } from "../../src/protocol/generated.js";
import type { Mutation, Numbering, Rejection } from "../../src/replica/mutation.js";
import { CHAIN_START, chainAfter } from "../../src/session/chain.js";
import { Outbox } from "../../src/session/outbox.js";
import { rest } from "../simulated/harness.js";

const mutation = (id: string, number?: number, size = 1): Mutation => ({
  id, madeAt: 0, writes: Array.from({ length: size }, () => ({ entity: "t", op: "delete" as const, key: id })),
  ...(number !== undefined && { number }),
});

function setup(queue: Mutation[], lastNumber = 0) {
  const sent: PushFrame[] = [];
  const numbered: Numbering[] = [];
  const rejected: Rejection[] = [];
  const state = { waits: false, fails: false, forks: 0, saving: "", writes: undefined as Write[] | undefined };
  const outbox = new Outbox({
    queue: () => queue,
    send: (push) => sent.push(push),
    number: async (assigned) => {
      if (state.fails) throw new Error("full");
      numbered.push(...assigned);
      for (const { id, ...link } of assigned) {
        const at = queue.findIndex((queued) => queued.id === id);
        queue[at] = { ...queue[at]!, ...link };
      }
    },
    lastNumber: () => lastNumber,
    last: () => undefined,
    fork: () => void (state.forks += 1),
    rejected: (rejection) => {
      rejected.push(rejection);
      queue.splice(queue.findIndex(({ id }) => id === rejection.id), 1);
    },
    isSaving: (id) => id === state.saving,
    writes: ({ writes }) => state.writes ?? writes,
    mustWait: () => state.waits,
  });
  const welcome = (lastMutation: number, chain?: string) =>
    outbox.welcome({
      type: "welcome", protocol: 1, session_id: "s", epoch: "e", last_mutation: lastMutation, heartbeat_ms: 1,
      ...(chain !== undefined && { last_chain: chain }),
      limits: { frame_bytes_max: 2000, subscriptions_max: 1, writes_max: 3 }, features: [],
    });
  const numbers = () => sent.map(({ mutation: number, writes }) => [(writes[0] as Write).key, number]);
  return { outbox, sent, numbered, rejected, state, welcome, numbers };
}

describe("SPEC 5: a number stands for one mutation, and a mutation has one number", () => {
  test("numbers are assigned before the first sending, from the server's count", async () => {
    const { welcome, numbers, numbered } = setup([mutation("a"), mutation("b")], 7);
    welcome(7);
    expect(numbers()).toEqual([]); // not before the numbers are stored
    await rest();
    expect(numbered).toMatchObject([{ id: "a", number: 8 }, { id: "b", number: 9 }]);
    expect(numbers()).toEqual([["a", 8], ["b", 9]]);
  });

  test("a mutation that was sent is sent again under its number, answered or not", async () => {
    const { welcome, numbers, numbered } = setup([mutation("a", 3), mutation("b", 4), mutation("c")], 4);
    welcome(3);
    await rest();
    expect(numbers()).toEqual([["a", 3], ["b", 4], ["c", 5]]);
    expect(numbered).toMatchObject([{ id: "c", number: 5 }]);
  });

  test("a server that does not know the numbers continues from its own count", async () => {
    const { welcome, numbers } = setup([mutation("a", 8), mutation("b", 9)]);
    welcome(0);
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 2]]);
  });

  test("where the server does not send its count, numbers stay and the client's count continues", async () => {
    const { welcome, numbers } = setup([mutation("a", 8), mutation("b")], 8);
    welcome(LAST_MUTATION_UNKNOWN);
    await rest();
    expect(numbers()).toEqual([["a", 8], ["b", 9]]);
  });

  test("where the server does not send its count, a number that is stored and not sent yet is not given again", async () => {
    const queue = [mutation("a")];
    const { numbered, welcome, numbers, outbox } = setup(queue);
    welcome(LAST_MUTATION_UNKNOWN);
    queue.push(mutation("b"));
    outbox.pump();
    await rest();
    expect(numbered.map(({ id, number }) => [id, number])).toEqual([["a", 1], ["b", 2]]);
    expect(numbers()).toEqual([["a", 1], ["b", 2]]);
  });

  test("a mutation that the store is taking is not sent, nor what comes after it", async () => {
    const queue = [mutation("a"), mutation("b"), mutation("c")];
    const { state, welcome, numbers, outbox } = setup(queue);
    state.saving = "b";
    welcome(0);
    await rest();
    expect(numbers()).toEqual([["a", 1]]);
    state.saving = "";
    outbox.pump();
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 2], ["c", 3]]);
  });

  test("writes that this client must spell in another way are stored so with the number, and then sent", async () => {
    const queue = [mutation("a")];
    const { state, numbered, sent, welcome } = setup(queue);
    const writes = [{ entity: "t", op: "delete" as const, key: "a", hlc: "another" }];
    state.writes = writes;
    welcome(0);
    await rest();
    expect(numbered).toMatchObject([{ id: "a", number: 1, writes }]);
    expect(sent).toMatchObject([{ mutation: 1, writes }]);
  });

  test("a number is not used again after its answer", async () => {
    const queue = [mutation("a")];
    const { outbox, welcome, numbers } = setup(queue);
    welcome(0);
    await rest();
    expect(outbox.acked(1)?.id).toBe("a");
    queue.push(mutation("b"));
    outbox.pump();
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 2]]);
  });

  test("a mutation whose number cannot be stored is not sent", async () => {
    const { outbox, state, welcome, numbers } = setup([mutation("a")]);
    state.fails = true;
    welcome(0);
    await rest();
    expect(numbers()).toEqual([]);
    state.fails = false;
    outbox.pump();
    await rest();
    expect(numbers()).toEqual([["a", 1]]);
  });

  test("numbers that are stored after the connection broke are sent on the next one", async () => {
    const { outbox, welcome, numbers } = setup([mutation("a")]);
    welcome(0);
    outbox.lost();
    await rest();
    expect(numbers()).toEqual([]);
    welcome(0);
    await rest();
    expect(numbers()).toEqual([["a", 1]]);
  });
});

describe("SPEC 7: the queue", () => {
  test("waits while rows are on their way", async () => {
    const { outbox, state, welcome, numbers } = setup([mutation("a")]);
    state.waits = true;
    welcome(0);
    await rest();
    expect(numbers()).toEqual([]);
    state.waits = false;
    outbox.pump();
    await rest();
    expect(numbers()).toEqual([["a", 1]]);
  });

  test("has a bounded number under way, and continues with each answer", async () => {
    const queue = Array.from({ length: 40 }, (_, index) => mutation(`m${index}`));
    const { outbox, sent, welcome } = setup(queue);
    welcome(0);
    await rest();
    expect(sent).toHaveLength(32);
    outbox.acked(1);
    expect(sent).toHaveLength(33);
  });

  test("a mutation that is too large to be sent is rejected here, and holds up nothing", async () => {
    const { welcome, numbers, rejected } = setup([mutation("big", undefined, 4), mutation("ok")]);
    welcome(0);
    await rest();
    expect(rejected).toMatchObject([{ id: "big", code: "too_large" }]);
    expect(numbers()).toEqual([["ok", 1]]);
  });

  test("a reject names its mutation; an answer without a mutation is ignored", async () => {
    const { outbox, welcome } = setup([mutation("a")]);
    welcome(0);
    await rest();
    const frame = { type: "reject", mutation: 1, code: "invalid", message: "no", write: 0, column: "n" } as const;
    expect(outbox.rejected(frame)?.rejection).toMatchObject({ id: "a", code: "invalid", column: "n", write: 0 });
    expect(outbox.rejected(frame)).toBeUndefined();
    expect(outbox.acked(99)).toBeUndefined();
  });
});

describe("SPEC 16: a push that the server does not understand", () => {
  test("is a dead letter when no other can be meant, and its number stands for the next mutation", async () => {
    const queue = [mutation("a")];
    const { outbox, welcome, numbers, rejected } = setup(queue);
    welcome(0);
    await rest();
    expect(outbox.blame("protocol", "not a push frame")).toBe("found");
    expect(rejected).toMatchObject([{ id: "a", code: "invalid", message: "not a push frame" }]);
    queue.push(mutation("b"));
    outbox.pump();
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 1]]);
  });

  test("among several is found on the next connection, where they are sent one by one", async () => {
    const { outbox, welcome, numbers, rejected, sent } = setup([mutation("a"), mutation("bad"), mutation("c"), mutation("d")]);
    welcome(0);
    await rest();
    expect(outbox.blame("protocol", "no")).toBe("unsure");
    outbox.lost();
    sent.length = 0;
    welcome(0);
    await rest();
    expect(numbers()).toEqual([["a", 1]]);
    outbox.acked(1);
    expect(numbers()).toEqual([["a", 1], ["bad", 2]]);
    expect(outbox.blame("protocol", "no")).toBe("found");
    await rest();
    expect(rejected.map(({ id }) => id)).toEqual(["bad"]);
    // From here on several are under way again.
    expect(numbers()).toEqual([["a", 1], ["bad", 2], ["c", 2], ["d", 3]]);
  });

  test("is named by a transport that knows; an error while nothing is under way is about something else", async () => {
    const { outbox, welcome, rejected } = setup([mutation("a"), mutation("b")]);
    expect(outbox.blame("protocol", "no")).toBe("none");
    welcome(0);
    await rest();
    expect(outbox.blame("unknown_entity", "no", 2)).toBe("found");
    expect(rejected).toMatchObject([{ id: "b", code: "unknown_entity" }]);
  });

  test("for a lower limit than before, a mutation with a number is refused here too", async () => {
    const { welcome, numbers, rejected } = setup([mutation("old", 5, 4), mutation("known", 4, 4), mutation("ok")], 5);
    welcome(4);
    await rest();
    expect(rejected.map(({ id, code }) => [id, code])).toEqual([["known", "too_large"], ["old", "too_large"]]);
    expect(numbers()).toEqual([["ok", 5]]);
  });

  test("what cannot even be written as JSON is a dead letter, and holds up nothing", async () => {
    const strange = mutation("strange");
    (strange.writes[0] as Write).values = { n: 10n as never };
    const { welcome, numbers, rejected } = setup([strange, mutation("ok")]);
    welcome(0);
    await rest();
    expect(rejected).toMatchObject([{ id: "strange", code: "invalid" }]);
    expect(numbers()).toEqual([["ok", 1]]);
  });
});

describe("SPEC 18: the chain", () => {
  const link = (outboxed: Mutation[]) => outboxed.map(({ number, chain }) => [number, chain]);
  /** The chains of mutations from the first on. */
  const chains = (...mutations: Mutation[]) => {
    let chain = CHAIN_START;
    return mutations.map(({ writes }) => (chain = chainAfter(chain, writes)));
  };

  test("is stored with the number, sent, and continues the server's", async () => {
    const queue = [mutation("a"), mutation("b")];
    const { welcome, sent } = setup(queue);
    welcome(0);
    await rest();
    const expected = chains(...queue);
    expect(link(queue)).toEqual([[1, expected[0]], [2, expected[1]]]);
    expect(sent.map(({ chain }) => chain)).toEqual(expected);
  });

  test("that is equal at the server's number: everything goes on", async () => {
    const queue = [mutation("a"), mutation("b"), mutation("c")];
    const [a, b] = chains(...queue);
    queue[0] = { ...queue[0]!, number: 1, chain: a! };
    queue[1] = { ...queue[1]!, number: 2, chain: b! };
    const { welcome, numbers, state } = setup(queue, 2);
    welcome(1, a);
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 2], ["c", 3]]);
    expect(state.forks).toBe(0);
  });

  test.each([
    ["unequal", 2, "ff".repeat(16)],
    ["of a number above every assigned one", 5, undefined],
  ])("that is %s: only what the server may know is sent again, and the rest waits for a new client id", async (_name, last, chain) => {
    const queue = [mutation("a"), mutation("b"), mutation("c", undefined)];
    const [a, b] = chains(...queue);
    queue[0] = { ...queue[0]!, number: 1, chain: a! };
    queue[1] = { ...queue[1]!, number: 2, chain: b! };
    const { outbox, welcome, numbers, state } = setup(queue, 2);
    welcome(last, chain);
    await rest();
    expect(numbers()).toEqual([["a", 1], ["b", 2]]);
    expect(outbox.acked(1)?.id).toBe("a");
    expect(state.forks).toBe(0);
    expect(outbox.rejected({ type: "reject", mutation: 2, code: "forked", message: "used" })).toBeUndefined();
    expect(state.forks).toBe(1);
    expect([outbox.hasAnswered("a"), outbox.hasAnswered("b")]).toEqual([true, false]);
    outbox.pump();
    await rest();
    expect(numbers()).toHaveLength(2);
  });

  test("that a reject finds unequal, while others are under way: they are answered first", async () => {
    const queue = [mutation("a"), mutation("b")];
    const { outbox, welcome, state } = setup(queue);
    welcome(0);
    await rest();
    outbox.rejected({ type: "reject", mutation: 1, code: "forked", message: "used" });
    expect(state.forks).toBe(0);
    outbox.acked(2);
    expect(state.forks).toBe(1);
  });

  test("of a store from before there were chains is the server's", async () => {
    const { welcome, sent, state } = setup([mutation("a", 3), mutation("b")], 3);
    welcome(3, "ab".repeat(16));
    await rest();
    expect(state.forks).toBe(0);
    expect(sent.map(({ chain }) => chain)).toEqual([undefined, chainAfter("ab".repeat(16), mutation("b").writes)]);
  });

  test("goes back with the number of a mutation that the server did not understand", async () => {
    const queue = [mutation("a"), mutation("bad")];
    const { outbox, welcome, sent } = setup(queue);
    welcome(0);
    await rest();
    outbox.acked(1);
    outbox.blame("protocol", "no");
    queue.push(mutation("c"));
    outbox.pump();
    await rest();
    expect(sent.at(-1)).toMatchObject({ mutation: 2, chain: chains(mutation("a"), mutation("c"))[1] });
  });
});
