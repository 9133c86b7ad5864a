/** Rows that merge by their fields, with the real server. Needs `RHTMX_SYNC_BIN`. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket as NodeWebSocket } from "ws";
import { systemClock } from "../../src/connection/clock.js";
import { serverSentEvents } from "../../src/connection/events.js";
import type { Transport } from "../../src/connection/transport.js";
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

interface Draft {
  id: string;
  title: string;
}

const TABLE = "CREATE TABLE meetings (id text PRIMARY KEY NOT NULL, title text NOT NULL, date text NOT NULL, likes integer NOT NULL DEFAULT 0);";
const OTHERS = "CREATE TABLE notes (id text PRIMARY KEY NOT NULL); CREATE TABLE drafts (id text PRIMARY KEY NOT NULL, title text NOT NULL);";
const SCHEMA = { sqlite: TABLE + OTHERS, postgres: `DROP TABLE IF EXISTS meetings, notes, drafts; ${TABLE}${OTHERS}` };
const CONFIG = `
[entities.meetings]
fields = "last_write_wins"
[entities.meetings.columns.likes]
merge = "counter"
[entities.notes]
[entities.drafts]
fields = "keep_both"
`;

// Over events, each answer waits two seconds.
describe.skipIf(!BINARY)("SPEC 22: fields of the real server", { timeout: 30_000 }, () => {
  let server: ServerProcess;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    globalThis.WebSocket ??= NodeWebSocket as unknown as typeof WebSocket;
    server = await ServerProcess.start(SCHEMA, [], CONFIG);
  }, 30_000);
  afterEach(async () => {
    await Promise.all(open.splice(0).map((sync) => sync.close()));
    server.sql("DELETE FROM meetings; DELETE FROM drafts;");
  });
  afterAll(() => server?.stop());

  const transports: [string, () => Transport][] = [
    ["websocket", () => webSocket(new URL(server.sync))],
    ["events", () => serverSentEvents(new URL(server.sync), systemClock)],
  ];

  function device(transport: () => Transport, wrongByMs = 0) {
    const sync = createSync({
      url: server.sync, entities: { meetings: entity<Meeting>(), drafts: entity<Draft>() }, fields: fields(["meetings", "drafts"]), storage: "memory", connect: true,
      environment: { transports: [transport()], clock: { ...systemClock, now: () => Date.now() + wrongByMs } },
    });
    open.push(sync);
    const view = sync.meetings.live();
    const isLive = () => sync.status.state === "live" && sync.status.pending === 0 && view.state === "live";
    return { sync, view, until: (holds: () => boolean) => until(sync, holds), isLive };
  }

  test.each(transports)("%s: two devices edit one row offline, one its title, the other its date, and both edits stay", async (_name, transport) => {
    server.sql("INSERT INTO meetings VALUES ('1', 'meeting', 'monday', 1);");
    const [ann, ben] = [device(transport), device(transport)];
    for (const { until, isLive, view } of [ann, ben]) await until(() => isLive() && view.rows.length === 1);
    for (const { sync, until } of [ann, ben]) {
      sync.disconnect();
      await until(() => sync.status.state === "offline");
    }
    ann.sync.meetings.update("1", { title: "party", likes: { add: 2 } });
    ben.sync.meetings.update("1", { date: "sunday", likes: { add: 3 } });
    expect(ann.view.rows).toEqual([{ id: "1", title: "party", date: "monday", likes: 3 }]);
    expect(ben.view.rows).toEqual([{ id: "1", title: "meeting", date: "sunday", likes: 4 }]);
    const both = { id: "1", title: "party", date: "sunday", likes: 6 };
    for (const { sync } of [ann, ben]) sync.connect();
    for (const { until, isLive, view } of [ann, ben]) await until(() => isLive() && JSON.stringify(view.rows) === JSON.stringify([both]));
    expect(server.sql("SELECT title, date, likes FROM meetings;").trim()).toBe("party|sunday|6");
    for (const { sync } of [ann, ben]) expect(sync.rejected).toEqual([]);
  });

  test.each(transports)("%s: of one field the later edit stays, whoever is heard first, and a program's is seen", async (_name, transport) => {
    server.sql("INSERT INTO meetings VALUES ('1', 'meeting', 'monday', 1);");
    const [ann, ben] = [device(transport), device(transport)];
    for (const { until, isLive, view } of [ann, ben]) await until(() => isLive() && view.rows.length === 1);
    ann.sync.disconnect();
    await ann.until(() => ann.sync.status.state === "offline");
    ann.sync.meetings.update("1", { title: "earlier" });
    // A clock of another millisecond.
    const before = Date.now();
    while (Date.now() === before) await new Promise((resolve) => setImmediate(resolve));
    expect(await ben.sync.meetings.update("1", { title: "later" }).result).toEqual({ ok: true });
    ann.sync.connect();
    for (const { until, isLive, view } of [ann, ben]) await until(() => isLive() && view.get("1")?.title === "later");
    // Whose value has lost is told, and may take it back.
    const { conflicts } = ann.sync.meetings;
    expect(conflicts.rows).toMatchObject([{ key: "1", field: "title", lost: { value: "earlier" }, kept: { value: "later" }, isKept: false }]);
    conflicts.dismiss(conflicts.rows[0]!);
    expect([conflicts.rows, ben.sync.meetings.conflicts.rows]).toEqual([[], []]);
    server.sql("UPDATE meetings SET title = 'program';");
    for (const { until, view } of [ann, ben]) await until(() => view.get("1")?.title === "program");
    expect(await ann.sync.meetings.update("1", { title: "after all" }).result).toEqual({ ok: true });
    await ben.until(() => ben.view.get("1")?.title === "after all");
  });

  test.each([0, 1])("where both values are kept, both devices see the one that lost, until one of them resolves it (%i)", async (resolver) => {
    server.sql("INSERT INTO drafts VALUES ('1', 'draft');");
    const devices = [device(transports[0]![1]), device(transports[0]![1])] as const;
    const [ann, ben] = devices;
    const views = devices.map(({ sync }) => sync.drafts.live());
    for (const [index, { until, isLive }] of devices.entries()) await until(() => isLive() && views[index]!.rows.length === 1);
    for (const { sync } of devices) sync.disconnect();
    for (const { sync, until } of devices) await until(() => sync.status.state === "offline");
    ann.sync.drafts.update("1", { title: "ann's" });
    const before = Date.now();
    while (Date.now() === before) await new Promise((resolve) => setImmediate(resolve));
    ben.sync.drafts.update("1", { title: "ben's" });
    for (const { sync } of devices) sync.connect();
    const lists = devices.map(({ sync }) => sync.drafts.conflicts);
    const become = (count: number) => Promise.all(lists.map((list) => new Promise<void>((resolve) => {
      const look = () => list.rows.length === count && list.rows.every(({ isKept }) => isKept) && (end(), resolve());
      const end = list.subscribe(look);
      look();
    })));
    await become(1);
    const lost = { key: "1", field: "title", strategy: "keep_both", lost: { value: "ann's" }, kept: { value: "ben's" } };
    for (const { rows } of lists) expect(rows).toMatchObject([lost]);
    const { rows } = lists[resolver]!;
    expect(await lists[resolver]!.resolve(rows[0]!, { value: "both" })).toEqual({ ok: true });
    await become(0);
    for (const [index, { until }] of devices.entries()) await until(() => views[index]!.rows[0]?.title === "both");
    expect(server.sql("SELECT title FROM drafts;").trim()).toBe("both");
  });

  test("a row that is created and renamed at once, on devices whose clocks are wrong by a day", async () => {
    for (const wrongByMs of [-86_400_000, 86_400_000]) {
      const { sync, view, until, isLive } = device(transports[0]![1], wrongByMs);
      await until(isLive);
      const { key } = sync.meetings.create({ title: "new", date: "monday", likes: 0 });
      const renamed = sync.meetings.update(key, { title: "renamed" });
      expect(view.get(key)?.title).toBe("renamed");
      expect(await renamed.result).toEqual({ ok: true });
      await until(() => isLive() && view.get(key)?.title === "renamed");
      expect(await sync.meetings.update(key, { date: "tuesday" }).result).toEqual({ ok: true });
      server.sql(`UPDATE meetings SET date = 'friday' WHERE id = '${key}';`);
      await until(() => view.get(key)?.date === "friday");
      // Above what it has seen, also of somebody else's.
      expect(await sync.meetings.update(key, { date: "saturday" }).result).toEqual({ ok: true });
      expect(server.sql(`SELECT title, date FROM meetings WHERE id = '${key}';`).trim()).toBe("renamed|saturday");
      expect(sync.rejected).toEqual([]);
      await sync.close();
    }
  });

  test("an entity whose rows do not merge is an error of its lists", async () => {
    const sync = createSync({
      url: server.sync, entities: { notes: entity() }, fields: fields(["notes"]), storage: "memory", connect: true,
      environment: { transports: [transports[0]![1]()] },
    });
    open.push(sync);
    sync.on("problem", () => {});
    const view = sync.notes.live();
    await view.ready;
    expect(view.error?.code).toBe("protocol");
  });
});
