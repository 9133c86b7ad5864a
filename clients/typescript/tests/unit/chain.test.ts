import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CHAIN_START, chainAfter } from "../../src/session/chain.js";
import { sha256 } from "../../src/session/sha256.js";

test("SPEC 18: the digest is SHA-256", () => {
  const own = (bytes: Uint8Array) => Buffer.from(sha256(bytes)).toString("hex");
  const theirs = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  for (let length = 0; length < 130; length++) expect(own(new Uint8Array(length).fill(length))).toBe(theirs(new Uint8Array(length).fill(length)));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 1000 }), (bytes) => own(bytes) === theirs(bytes)));
});

test("SPEC 18: the chain is the server's", () => {
  // The first example of the protocol's document has `1.10`, which no JavaScript writes.
  const first = chainAfter(CHAIN_START, [{ entity: "todos", op: "create", values: { title: "a", n: 1.1 } }]);
  const text = '[{"entity":"todos","op":"create","values":{"title":"a","n":1.1}}]';
  const digest = createHash("sha256").update(text).digest();
  expect(first).toBe(createHash("sha256").update(Buffer.alloc(16)).update(digest).digest("hex").slice(0, 32));
  const second = [{ entity: "todos", op: "update" as const, key: "1", values: { title: "é 😀" } }];
  expect(chainAfter("f8b77715cbb420560d06d7c9b7bdc429", second)).toBe("4f46c6effcf096a040222d6241357c6b");
});
