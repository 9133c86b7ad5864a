import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FrameError } from "../../src/errors.js";
import { CLOSE, type ClientFrame, ERROR_CODES, REFETCH_REASONS, REJECT_CODES } from "../../src/protocol/generated.js";
import { readFrame } from "../../src/connection/read.js";
import { isKnown } from "../../src/protocol/change.js";

interface Golden {
  server: Record<string, unknown>;
  client: Record<string, unknown>;
  codes: Record<string, unknown[]>;
}

// A copy of the server's own golden frames, which outside of its repository is all that there is.
const original = new URL("../../../../crates/protocol/tests/golden/frames.json", import.meta.url);
const copy = new URL("../golden/frames.json", import.meta.url);
const golden = JSON.parse(readFileSync(copy, "utf8")) as Golden;

test.runIf(existsSync(original))("the copy of the golden file is the original", () => {
  expect(readFileSync(copy, "utf8")).toBe(readFileSync(original, "utf8"));
});

describe("SPEC 11: the frames are those of the server's golden file", () => {
  test.each(Object.entries(golden.server))("reads %s", (_name, frame) => {
    expect(readFrame(JSON.stringify(frame))).toEqual(frame);
  });

  test("knows every change in them", () => {
    const frame = readFrame(JSON.stringify(golden.server["changes"]));
    if (frame?.type !== "changes") throw new Error("not changes");
    expect(frame.changes.every(isKnown)).toBe(true);
    const ofFields = readFrame(JSON.stringify(golden.server["changes_of_fields"]));
    if (ofFields?.type !== "changes") throw new Error("not changes");
    expect(ofFields.changes.every(isKnown)).toBe(true);
    const ops = [...frame.changes, ...ofFields.changes].map(({ op }) => op);
    expect(new Set(ops)).toEqual(new Set(["put", "patch", "delete", "leave", "truncate"]));
  });

  test("writes the client's frames with their fields and no others", () => {
    const written: Record<string, ClientFrame> = {
      auth: { type: "auth", token: "fresh" },
      hello: { type: "hello", protocol: 1, client_id: "67e55044-10b1-426f-9247-bb680e5fe0c8" },
      hello_with_all: { type: "hello", protocol: 1, client_id: "67e55044-10b1-426f-9247-bb680e5fe0c8", token: "secret", accept: ["gzip"] },
      ping: { type: "ping", at: { n: [1, null] } },
      ping_without_at: { type: "ping" },
      push: {
        type: "push", mutation: 3, writes: [
          { entity: "todos", op: "create", values: { title: "a", n: 1.1 } },
          { entity: "todos", op: "update", key: "1", values: { title: null }, hlc: "2026-11-20T07:00:00.000Z-0000-node" },
          { entity: "seats", op: "upsert", key: [1, "eu"], values: { taken: true } },
          { entity: "todos", op: "delete", key: 1 },
        ],
      },
      push_of_fields: {
        type: "push", mutation: 5, writes: [{
          entity: "todos", op: "update", key: "1", values: { title: "a", likes: { add: 1 } },
          hlc: "2026-11-20T07:00:00.000Z-0005-node", born: "2026-11-20T07:00:00.000Z-0000-node", seen: "2026-11-20T07:00:00.000Z-0003-node",
          resolves: { title: ["2026-11-20T07:00:00.000Z-0001-node"] },
        }],
      },
      push_with_chain: {
        type: "push", mutation: 1, chain: "f8b77715cbb420560d06d7c9b7bdc429",
        writes: [{ entity: "todos", op: "create", values: { title: "a", n: 1.1 } }],
      },
      push_with_calls: {
        type: "push", mutation: 4,
        writes: [{ mutator: "complete_todo", args: { id: "1", n: 1.1 } }, { entity: "todos", op: "delete", key: 1 }, { mutator: "tidy" }],
      },
      subscribe: { type: "subscribe", id: 7, entity: "todos" },
      subscribe_with_all: {
        type: "subscribe", id: "todos-1", entity: "todos", where: "owner = $1 AND done = $2", params: ["ann", false],
        columns: ["title"], mode: "rows", cursor: "MGY5YS03LTEvcDc0NTo3NDg6NzQ1LDc0Nw",
      },
      subscribe_to_fields: { type: "subscribe", id: "todos-1", entity: "todos", columns: ["title"], mode: "fields" },
      subscribe_to_window: {
        type: "subscribe", id: "newest", entity: "todos", where: "done = FALSE", order: [["created_at", "desc"], ["title", "asc"]],
        limit: 50, after: ["2026-11-27T10:00:00.000000Z", null, 17],
      },
    };
    const { unsubscribe: _, ...expected } = golden.client;
    expect(written).toEqual(expected);
  });

  test("has the same codes", () => {
    expect(golden.codes["error"]).toEqual([...ERROR_CODES]);
    expect(golden.codes["refetch"]).toEqual([...REFETCH_REASONS]);
    expect(golden.codes["reject"]).toEqual([...REJECT_CODES]);
    expect(golden.codes["close"]).toEqual(Object.values(CLOSE));
  });
});

describe("SPEC 12: invalid frames are errors, new ones are ignored", () => {
  test.each(["", "nul", "[]", "1", "{}", '{"type":1}', '{"type":"cursor"}', '{"type":"changes","changes":[null]}', '{"type":"snapshot","id":1,"rows":[{"key":1,"row":{}}],"more":false}'])(
    "throws for %s",
    (text) => {
      expect(() => readFrame(text)).toThrow(FrameError);
    },
  );

  test("ignores a type of a newer server, also one with a name of JavaScript's own", () => {
    expect(readFrame('{"type":"presence","entity":"todos"}')).toBeUndefined();
    expect(readFrame('{"type":"constructor"}')).toBeUndefined();
  });

  test("ignores unknown fields", () => {
    expect(readFrame('{"type":"cursor","cursor":"c","later":1}')).toMatchObject({ cursor: "c" });
  });
});
