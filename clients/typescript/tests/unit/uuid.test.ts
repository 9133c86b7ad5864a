import { expect, test, vi } from "vitest";
import { uuid } from "../../src/uuid.js";

const SHAPE = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("a random uuid, also on a page without TLS", () => {
  expect(uuid()).toMatch(SHAPE);
  vi.stubGlobal("crypto", { getRandomValues: crypto.getRandomValues.bind(crypto) });
  const many = Array.from({ length: 200 }, uuid);
  expect(many.every((one) => SHAPE.test(one))).toBe(true);
  expect(new Set(many).size).toBe(200);
  vi.unstubAllGlobals();
});
