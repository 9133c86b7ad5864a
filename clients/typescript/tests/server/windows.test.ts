/** Lists with a limit, from the real server. Needs `RHTMX_SYNC_BIN`. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket as NodeWebSocket } from "ws";
import { systemClock } from "../../src/connection/clock.js";
import { serverSentEvents } from "../../src/connection/events.js";
import type { Transport } from "../../src/connection/transport.js";
import { webSocket } from "../../src/connection/websocket.js";
import { createSync } from "../../src/create.js";
import { entity } from "../../src/entity.js";
import type { View } from "../../src/replica/view.js";
import { BINARY, ServerProcess } from "./process.js";

interface Post {
  id: number;
  at: number | null;
  title: string;
}

const SCHEMA = {
  sqlite: "CREATE TABLE posts (id integer PRIMARY KEY, at integer, title text NOT NULL COLLATE NOCASE);",
  postgres: 'DROP TABLE IF EXISTS posts; CREATE TABLE posts (id integer PRIMARY KEY, at integer, title text NOT NULL COLLATE "en-x-icu");',
};

describe.skipIf(!BINARY)("windows of the real server", () => {
  let server: ServerProcess;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    globalThis.WebSocket ??= NodeWebSocket as unknown as typeof WebSocket;
    server = await ServerProcess.start(SCHEMA, ["posts"]);
  }, 30_000);
  afterEach(async () => {
    await Promise.all(open.splice(0).map((sync) => sync.close()));
    server.sql("DELETE FROM posts;");
  });
  afterAll(() => server?.stop());

  const transports: [string, () => Transport][] = [
    ["websocket", () => webSocket(new URL(server.sync))],
    ["events", () => serverSentEvents(new URL(server.sync), systemClock)],
  ];

  test.each(transports)("%s: the first rows are shown in the database's order, as they come and go", async (_name, transport) => {
    const sync = createSync({
      url: server.sync, entities: { posts: entity<Post>() }, storage: "memory", connect: true, environment: { transports: [transport()] },
    });
    open.push(sync);
    server.sql("INSERT INTO posts VALUES (1, 1, 'b'), (2, 2, 'C'), (3, NULL, 'a'), (4, 4, 'A'), (5, 5, 'B'), (6, 5, 'z');");
    const newest = sync.posts.live({ orderBy: [["at", "desc"]], limit: 3 });
    const titles = sync.posts.live({ orderBy: [["title", "asc"]], limit: 4 });
    const becomes = (view: View<Post>, ids: string) => new Promise<void>((resolve) => {
      const look = () => {
        if (view.state !== "live" || view.rows.map(({ id }) => id).join(" ") !== ids) return;
        ends.forEach((end) => end());
        resolve();
      };
      const ends = [sync.on("change", look), sync.on("status", look)];
      look();
    });
    await becomes(newest, "3 6 5");
    await becomes(titles, "3 4 1 5");
    server.sql("UPDATE posts SET at = 9 WHERE id = 1; INSERT INTO posts VALUES (7, 0, 'Aa');");
    await becomes(newest, "3 1 6");
    await becomes(titles, "3 4 7 1");
    server.sql("DELETE FROM posts WHERE id IN (3, 4);");
    await becomes(newest, "1 6 5");
    await becomes(titles, "7 1 5 2");
    const { result } = sync.posts.create({ id: 8, at: 20, title: "bb" });
    expect(newest.rows.map(({ id }) => id)).toEqual([8, 1, 6]);
    expect(await result).toEqual({ ok: true });
    await becomes(newest, "8 1 6");
    await becomes(titles, "7 1 5 8");
    expect(await Promise.all([newest.loadMore(), titles.loadMore(10)])).toEqual([true, true]);
    await becomes(newest, "8 1 6 5 2 7");
    await becomes(titles, "7 1 5 8 2 6");
    expect([newest.hasMore, titles.hasMore]).toEqual([true, false]);
    expect(await newest.loadMore(5000)).toBe(false);
    await becomes(newest, "8 1 6 5 2 7");
  }, 30_000);
});
