/**
 * A store on IndexedDB that is deleted, closed by the browser, refused, and comes back, while the user writes,
 * the connection breaks and the page is reloaded.
 */

import "fake-indexeddb/auto";
import fc from "fast-check";
import { deleteDB } from "idb";
import { afterEach, expect, test, vi } from "vitest";
import type { Write } from "../../src/protocol/generated.js";
import { IndexedDbStore } from "../../src/store/indexeddb.js";
import { rest, World, type Client } from "../simulated/harness.js";

type Step =
  | { do: "pass"; ms: number }
  | { do: "deliver"; frames: number }
  | { do: "write" | "reload" | "delete" | "close" | "refuse" | "allow" | "apply" | "join" | "drain" | "drop" | "online" | "offline" | "calm" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(500, 2_000, 8_000) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("deliver" as const), frames: fc.integer({ min: 1, max: 5 }) }) },
  ...(["write", "apply", "join", "drain", "calm"] as const).map((name) => ({ weight: 6, arbitrary: fc.constant({ do: name }) })),
  ...(["delete", "close", "reload"] as const).map((name) => ({ weight: 2, arbitrary: fc.constant({ do: name }) })),
  ...(["refuse", "allow", "drop", "online", "offline"] as const).map((name) => ({ weight: 1, arbitrary: fc.constant({ do: name }) })),
);

/** IndexedDB is as slow as some turns of the event loop. */
async function calm(): Promise<void> {
  for (let i = 0; i < 12; i++) await rest();
}

afterEach(() => void vi.restoreAllMocks());

let names = 0;

test("SPEC 5, 8: whatever happens to the store, each write takes effect once, and none is lost but by a reload while only memory had it", async () => {
  const opening = indexedDB.open.bind(indexedDB);
  let refused = false;
  let databases: IDBDatabase[] = [];
  vi.spyOn(indexedDB, "open").mockImplementation((...args) => {
    if (refused) throw new DOMException("denied", "SecurityError");
    const request = opening(...args);
    request.addEventListener("success", () => databases.push(request.result));
    return request;
  });
  vi.spyOn(console, "warn").mockImplementation(() => {});
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const name = `model-${++names}`;
      const world = new World();
      const { server } = world;
      const expected = new Set<number>();
      let n = 0;
      let sync: Client;
      const start = async () => {
        databases = [];
        sync = world.client({ storage: new IndexedDbStore(name) });
        sync.todos.live();
        await calm();
      };
      const open = () => sync!.pending.map(({ writes }) => (writes[0] as Write).values!["n"] as number);
      const applied = () => server.database.effects.map(({ values }) => values!["n"] as number);
      refused = false;
      await start();
      for (const step of steps) {
        switch (step.do) {
          case "write": {
            const value = ++n;
            sync!.todos.upsert({ id: `row-${value}`, title: "x", n: value });
            expected.add(value);
            break;
          }
          case "reload": {
            const [{ storage }, pending] = [sync!.status, open()];
            await sync!.close();
            if (storage === "memory") for (const value of pending) expected.delete(value);
            await start();
            break;
          }
          case "delete":
            refused = false;
            // What a refused page has not read is gone with the store.
            for (const value of expected) if (!applied().includes(value) && !open().includes(value)) expected.delete(value);
            await deleteDB(name);
            break;
          case "close":
            databases.at(-1)?.onclose?.(new Event("close"));
            break;
          case "refuse":
          case "allow":
            refused = step.do === "refuse";
            break;
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
            world.clock.pass(step.ms);
            break;
          case "online":
            sync!.connect();
            break;
          case "offline":
            sync!.disconnect();
            break;
          case "calm":
            await calm();
            break;
        }
        await rest();
      }
      refused = false;
      sync!.connect();
      for (let i = 0; i < 6; i++) {
        await calm();
        await world.recover();
      }
      await calm();
      const effects = applied();
      // Not in order: a page that was refused does not know what the store holds until it returns.
      expect(effects, "each once").toEqual([...new Set(effects)]);
      for (const value of expected) expect(effects).toContain(value);
      expect(sync!.status).toMatchObject({ state: "live", storage: "indexeddb", pending: 0, unsaved: 0, rejected: 0 });
      const disk = new IndexedDbStore(name);
      expect((await disk.open()).queue).toEqual([]);
      disk.close();
      await sync!.close();
      // The next page finds nothing to send.
      await start();
      for (let i = 0; i < 2; i++) {
        await calm();
        await world.recover();
      }
      expect(server.database.effects).toHaveLength(effects.length);
      await sync!.close();
    }),
    { numRuns: Number(process.env["MODEL_RUNS"] ?? 60) },
  );
}, 120_000);
