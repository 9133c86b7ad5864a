/**
 * Stores that are copied and rolled back: a browser's profile that is cloned, a backup that is restored.
 * Several pages then have one client id, and use its numbers for different writes.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Write } from "../../src/protocol/generated.js";
import { emptyCommit } from "../../src/replica/commit.js";
import { MemoryStore } from "../../src/store/memory.js";
import { rest, World, type Client } from "../simulated/harness.js";
import { MortalStore } from "../simulated/mortal.js";

type Step =
  | { do: "write" | "reload" | "kill" | "copy" | "backUp" | "restore" | "online" | "offline"; page: number }
  | { do: "deliver"; frames: number }
  | { do: "apply" | "join" | "drain" | "drop" | "pass" | "settle" };

const page = fc.integer({ min: 0, max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("write" as const), page }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("reload" as const, "kill" as const, "online" as const, "offline" as const), page }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("copy" as const, "backUp" as const, "restore" as const), page }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("deliver" as const), frames: fc.integer({ min: 1, max: 5 }) }) },
  ...(["apply", "join", "drain"] as const).map((name) => ({ weight: 5, arbitrary: fc.constant({ do: name }) })),
  ...(["drop", "pass", "settle"] as const).map((name) => ({ weight: 3, arbitrary: fc.constant({ do: name }) })),
);

async function copyOf(disk: MemoryStore): Promise<MemoryStore> {
  const { clientId, lastNumber, last, queue, rejected } = await disk.open();
  const copy = new MemoryStore(clientId);
  for (const mutation of queue) await copy.enqueue(mutation);
  await copy.number([{ id: "", number: lastNumber }]);
  await copy.commit({ ...emptyCommit(), rejected, ...(last && { last }) });
  return copy;
}

class Page {
  mortal: MortalStore;
  sync: Client;

  constructor(readonly world: World, readonly disk: MemoryStore) {
    this.mortal = new MortalStore(disk);
    this.sync = world.client({ storage: this.mortal });
    this.sync.todos.live();
  }
}

test("SPEC 18: however a store is copied and rolled back, no ack is for another write, nothing stored is lost, and nothing is applied twice where it can be known", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const world = new World();
      const { server } = world;
      const pages: (Page | undefined)[] = [new Page(world, new MemoryStore()), undefined, undefined];
      const backups = new Map<number, MemoryStore>();
      /** Writes that were in a copy without a number: the pages that number them do not know of each other. */
      const copies: [number, () => boolean][] = [];
      const acked = new Set<number>();
      let n = 0;
      const at = (index: number) => pages[index] ?? pages[0]!;
      const copied = async (disk: MemoryStore) => {
        const copy = await copyOf(disk);
        const { clientId, queue } = await copy.open();
        for (const { number, chain, writes } of queue) {
          // Nor do those that have it under a number that a third page has used for something else.
          const isLost = () => number === undefined || server.database.clients.get(clientId)?.chains[number] !== chain;
          copies.push([(writes[0] as Write).values!["n"] as number, isLost]);
        }
        return copy;
      };
      const end = async (index: number, kill: boolean) => {
        const page = at(index);
        if (kill) page.mortal.kill();
        else await page.sync.close();
        if (kill) server.drop();
        return page;
      };
      for (const step of steps) {
        switch (step.do) {
          case "write": {
            const value = ++n;
            const { result } = at(step.page).sync.todos.upsert({ id: `row-${value}`, title: "x", n: value });
            void result.then(({ ok }) => ok && acked.add(value));
            break;
          }
          case "online":
            at(step.page).sync.connect();
            break;
          case "offline":
            at(step.page).sync.disconnect();
            break;
          case "reload":
          case "kill": {
            const { disk } = await end(step.page, step.do === "kill");
            pages[pages[step.page] ? step.page : 0] = new Page(world, disk);
            break;
          }
          case "copy":
            if (pages[step.page]) break;
            pages[step.page] = new Page(world, await copied(pages[0]!.disk));
            break;
          case "backUp":
            if (pages[step.page]) backups.set(step.page, await copied(pages[step.page]!.disk));
            break;
          case "restore": {
            const backup = backups.get(step.page);
            if (!backup || !pages[step.page]) break;
            await end(step.page, true);
            pages[step.page] = new Page(world, await copied(backup));
            break;
          }
          case "deliver":
            for (const session of [...server.sessions]) for (let i = 0; i < step.frames; i++) session.deliver();
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
          case "settle":
            await world.recover();
            break;
        }
        await rest();
      }
      const stored = new Set<number>();
      for (const opened of pages) {
        for (const { writes } of (await opened?.disk.open())?.queue ?? []) stored.add((writes[0] as Write).values!["n"] as number);
        opened?.sync.connect();
      }
      for (let i = 0; i < 6; i++) await world.recover();
      const effects = server.database.effects.map(({ values }) => values!["n"] as number);
      for (const value of acked) expect(effects, "an ack is for its own write").toContain(value);
      for (const value of stored) expect(effects, "nothing stored is lost").toContain(value);
      const twice = effects.filter((value, index) => effects.indexOf(value) !== index);
      const doubled = copies.filter(([, isLost]) => isLost()).map(([value]) => value);
      for (const value of twice) expect(doubled, "applied twice").toContain(value);
      for (const opened of pages) {
        if (!opened) continue;
        expect(opened.sync.status).toMatchObject({ state: "live", pending: 0, rejected: 0 });
        await opened.sync.close();
      }
    }),
    { numRuns: Number(process.env["MODEL_RUNS"] ?? 400) },
  );
}, 120_000);
