/** Several tabs of one browser that come, go and die while they write. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Browser, type BrowserTab } from "../simulated/browser.js";
import { rest, type Todo } from "../simulated/harness.js";

type Step =
  | { do: "write" | "call" | "open" | "close" | "kill" | "pause" | "resume"; tab: number }
  | { do: "deliver"; frames: number }
  | { do: "other"; key: number }
  | { do: "apply" | "join" | "drain" | "drop" | "pass" };

const tab = fc.integer({ min: 0, max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("write" as const), tab }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("call" as const), tab }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("open" as const, "close" as const, "kill" as const), tab }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("pause" as const, "resume" as const), tab }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("deliver" as const), frames: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("other" as const), key: fc.integer({ min: 0, max: 2 }) }) },
  ...(["apply", "join", "drain"] as const).map((name) => ({ weight: 5, arbitrary: fc.constant({ do: name }) })),
  ...(["drop", "pass"] as const).map((name) => ({ weight: 1, arbitrary: fc.constant({ do: name }) })),
);

test("SPEC 5, 7, 10, 19: tabs come, go and die; every stored write arrives once, and all end equal", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const browser = new Browser();
      const { world } = browser;
      const { server } = world;
      const tabs: (BrowserTab | undefined)[] = [undefined, undefined, undefined];
      const views = new Map<BrowserTab, { rows: readonly Todo[] }>();
      const saved = new Set<number>();
      const marks = new Set<string>();
      let n = 0;
      const open = (at: number) => {
        // The last tab is of another version, and knows no mutators.
        const opened = (tabs[at] = browser.tab(at === 2 ? { mutators: {} } : {}));
        views.set(opened, opened.sync.todos.live());
        return opened;
      };
      const alive = (at: number) => tabs[at] ?? open(at);
      for (const step of steps) {
        switch (step.do) {
          case "open":
            alive(step.tab);
            break;
          case "write": {
            const value = ++n;
            void alive(step.tab).sync.todos.upsert({ id: `mine-${value % 2}`, title: "x", n: value }).saved.then((kept) => kept && saved.add(value));
            break;
          }
          case "call": {
            const mark = `mine-${++n}`;
            void alive(step.tab % 2).sync.mutate.markOnce({ n: mark }).saved.then((kept) => kept && marks.add(mark));
            break;
          }
          case "close":
            tabs[step.tab]?.store.resume();
            await tabs[step.tab]?.close();
            tabs[step.tab] = undefined;
            break;
          case "kill":
            tabs[step.tab]?.kill();
            tabs[step.tab] = undefined;
            break;
          case "pause":
          case "resume":
            tabs[step.tab]?.store[step.do]();
            break;
          case "deliver":
            for (const session of [...server.sessions]) for (let i = 0; i < step.frames; i++) session.deliver();
            break;
          case "other":
            server.database.put("todos", { id: `other-${step.key}`, title: `${server.database.position}` });
            break;
          case "apply":
          case "join":
          case "drain":
            for (const session of [...server.sessions]) session[step.do]();
            break;
          case "drop":
            server.drop();
            break;
          case "pass":
            world.clock.pass(40_000);
            break;
        }
        await rest();
      }
      for (const opened of tabs) opened?.store.resume();
      alive(0);
      for (let i = 0; i < 3; i++) await world.recover();
      const { database } = server;
      const table = [...database.table("todos").values()].sort((a, b) => (String(a["id"]) < String(b["id"]) ? -1 : 1));
      for (const opened of tabs) {
        if (!opened) continue;
        expect(opened.sync.status).toMatchObject({ state: "live", pending: 0 });
        expect([...views.get(opened)!.rows].sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual(table);
      }
      expect(tabs.filter((opened) => opened?.sync.status.leader)).toHaveLength(1);
      const effects = database.effects.flatMap(({ values }) => (typeof values?.["n"] === "number" ? [values["n"]] : []));
      expect(effects.length, "each at most once").toBe(new Set(effects).size);
      for (const value of saved) expect(effects).toContain(value);
      const called = database.called.map(({ args }) => (args as { n: string }).n);
      expect(called.length, "each at most once").toBe(new Set(called).size);
      for (const mark of marks) expect(called).toContain(mark);
      expect((await browser.disk.open()).queue).toEqual([]);
      for (const opened of tabs) await opened?.close();
    }),
    { numRuns: Number(process.env["MODEL_RUNS"] ?? 100) },
  );
}, 120_000);
