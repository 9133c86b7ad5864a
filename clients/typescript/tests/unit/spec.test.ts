import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);

test("tests name every rule of SPEC.md, and no others", () => {
  const spec = readFileSync(new URL("SPEC.md", root), "utf8");
  const rules = new Set([...spec.matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number)));
  const named = new Set<number>();
  for (const name of readdirSync(new URL("tests/", root), { recursive: true, encoding: "utf8" })) {
    if (!/\.test\.tsx?$/.test(name)) continue;
    const source = readFileSync(new URL(`tests/${name}`, root), "utf8");
    for (const [, numbers] of source.matchAll(/(?:test|describe)(?:\.each)?[^"]*"SPEC ([\d, ]+):/g)) {
      for (const number of numbers!.split(",")) named.add(Number(number));
    }
  }
  expect(rules.size).toBeGreaterThan(10);
  expect([...named].sort((a, b) => a - b)).toEqual([...rules].sort((a, b) => a - b));
});
