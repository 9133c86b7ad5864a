/**
 * Two databases that are kept equal, each with a server and a device whose clock is wrong by a day. Devices and programs write to
 * one row and another, online and offline. Needs `RHTMX_SYNC_BIN`.
 */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket as NodeWebSocket } from "ws";
import { systemClock } from "../../src/connection/clock.js";
import { webSocket } from "../../src/connection/websocket.js";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import { fields } from "../../src/fields.js";
import { BINARY, ServerProcess } from "./process.js";
import { until } from "./waiting.js";

interface Meeting {
  id: string;
  title: string;
  date: string;
  likes: number;
}

const TABLE = "CREATE TABLE meetings (id text PRIMARY KEY NOT NULL, title text NOT NULL, date text NOT NULL, likes integer NOT NULL DEFAULT 0, tags json NOT NULL DEFAULT '[]');";
const SCHEMA = { sqlite: TABLE, postgres: `DROP TABLE IF EXISTS meetings; ${TABLE}` };
const CONFIG = `
[entities.meetings]
fields = "last_write_wins"
deletes = "revive"
[entities.meetings.columns.likes]
merge = "counter"
[entities.meetings.columns.tags]
merge = "set"
`;
const DAY_MS = 86_400_000;

type Step =
  | { do: "title" | "date" | "like"; at: 0 | 1; row: number }
  | { do: "make" | "delete" | "program" | "offline" | "online"; at: 0 | 1 }
  | { do: "replicate" };

const at = fc.constantFrom<0 | 1>(0, 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constantFrom("title" as const, "date" as const, "like" as const), at, row: fc.nat(1) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom("make" as const, "delete" as const, "program" as const, "offline" as const, "online" as const), at }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "replicate" }) },
);

describe.skipIf(!BINARY)("SPEC 22: devices at two databases that are kept equal", { timeout: 180_000 }, () => {
  let servers: [ServerProcess, ServerProcess];
  let games = 0;
  beforeAll(async () => {
    globalThis.WebSocket ??= NodeWebSocket as unknown as typeof WebSocket;
    servers = [await ServerProcess.start(SCHEMA, [], CONFIG), await ServerProcess.start(SCHEMA, [], CONFIG, true)];
    servers[0].replicate(servers[1], "meetings");
  }, 60_000);
  afterAll(() => Promise.all((servers ?? []).map((server) => server.stop())));

  function device(server: ServerProcess, wrongByMs: number) {
    const sync = createSync({
      url: server.sync, entities: { meetings: entity<Meeting>() }, fields: fields(["meetings"]), storage: "memory", connect: true,
      environment: { transports: [webSocket(new URL(server.sync))], clock: { ...systemClock, now: () => Date.now() + wrongByMs } },
    });
    const view = sync.meetings.live();
    const isLive = () => sync.status.state === "live" && sync.status.pending === 0 && view.state === "live";
    return { sync, view, until: (holds: () => boolean) => until(sync, holds), isLive };
  }

  test("all that both wrote is in both databases and on both devices", async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 40 }), async (steps) => {
      const game = (games += 1);
      // Two rows that are never deleted, of which it is known how often they were liked.
      const rows = [0, 1].map((row) => `${game}-${row}`);
      const likes = [0, 0];
      for (const id of rows) servers[0].sql(`INSERT INTO meetings (id, title, date, likes) VALUES ('${id}', 'new', 'monday', 0);`);
      servers[0].replicate(servers[1], "meetings");
      const devices = [device(servers[0], DAY_MS), device(servers[1], -DAY_MS)] as const;
      for (const { until, isLive, view } of devices) await until(() => isLive() && rows.every((id) => view.get(id)));
      for (const [index, now] of steps.entries()) {
        const text = `${game}.${index}`;
        if (now.do === "replicate") {
          servers[0].replicate(servers[1], "meetings");
          continue;
        }
        const { sync, view } = devices[now.at];
        const made = view.rows.map(({ id }) => id).filter((id) => !rows.includes(id) && id.startsWith(`${game}-`));
        if (now.do === "title" || now.do === "date") sync.meetings.update([...rows, ...made].at(-1 - now.row)!, { [now.do]: text });
        if (now.do === "like") {
          sync.meetings.update(rows[now.row]!, { likes: { add: index } });
          likes[now.row]! += index;
        }
        if (now.do === "make") sync.meetings.create({ id: `${game}-made-${index % 3}-${now.at}`, title: text, date: text, likes: 1 });
        if (now.do === "delete" && made.length > 0) sync.meetings.delete(made[0]!);
        if (now.do === "program") {
          servers[now.at].sql(`UPDATE meetings SET title = '${text}', likes = likes - 1, tags = '["${text}"]' WHERE id LIKE '${game}-%' AND id > '${game}-0';`);
          likes[1]! -= 1;
        }
        if (now.do === "offline") sync.disconnect();
        if (now.do === "online") sync.connect();
      }
      for (const { sync } of devices) sync.connect();
      for (const { until, isLive } of devices) await until(isLive);
      servers[0].replicate(servers[1], "meetings");
      const held = servers.map((server) => server.sql("SELECT id, title, date, likes FROM meetings ORDER BY id;").trim());
      expect(held[1]).toBe(held[0]);
      for (const [row, id] of rows.entries()) expect(held[0]).toMatch(new RegExp(`^${id}\\|.*\\|${likes[row]}$`, "m"));
      const copy = (meetings: readonly Meeting[]) =>
        meetings.map(({ id, title, date, likes }) => [id, title, date, likes].join("|")).sort().join("\n");
      for (const { until, view } of devices) await until(() => copy(view.rows) === held[0]!.split("\n").sort().join("\n"));
      await Promise.all(devices.map(({ sync }) => sync.close()));
    }), { numRuns: 3, endOnFailure: true });
  });
});
