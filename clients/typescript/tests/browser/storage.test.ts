/** What a real browser's storage does to a page. Needs `RHTMX_SYNC_BIN` and Chromium. */

import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Status } from "../../src/status.js";
import type { Todo } from "../simulated/harness.js";
import type { SyncClient } from "../../src/create.js";
import type { EntityDefinition } from "../../src/entity.js";
import { BINARY, type ServerProcess } from "../server/process.js";
import { startServer, Visitor } from "./browser.js";

const file = (name: string) => readFileSync(new URL(`../../dist/${name}`, import.meta.url), "utf8");
const STORE = "the-store";
const MODULE = `<!doctype html><title>page</title><body><script type="module">
  import { createSync, entity } from "/api/sync/sync.js";
  window.sync = createSync({ entities: { todos: entity() }, name: "${STORE}" });
  window.view = sync.todos.live();
</script>`;

declare const sync: SyncClient<{ todos: EntityDefinition<Todo> }>;

describe.skipIf(!BINARY)("a browser's storage", () => {
  let server: ServerProcess;
  let visitor: Visitor;
  beforeAll(async () => {
    server = await startServer();
  });
  afterEach(async () => {
    expect(visitor.errors).toEqual([]);
    await visitor.leave();
    server.sql("DELETE FROM todos;");
  });
  afterAll(() => server?.stop());

  async function open(origin = server.url, html = MODULE): Promise<Page> {
    const page = await visitor.context.newPage();
    page.on("pageerror", (error) => visitor.errors.push(error.message));
    await page.route(`${origin}/page`, (route) => route.fulfill({ body: html, contentType: "text/html" }));
    await page.goto(`${origin}/page`);
    return page;
  }

  async function arrive(origin = server.url): Promise<void> {
    visitor = await Visitor.arrive(server);
    for (const name of ["client.js", "client-network.js", "sync.js"]) {
      await visitor.context.route(`${origin}/api/sync/${name}`, (route) => route.fulfill({ body: file(name), contentType: "text/javascript" }));
    }
  }

  const becomes = (page: Page, expected: Partial<Status>) =>
    page.waitForFunction((wanted) => Object.entries(wanted).every(([name, value]) => sync.status[name as keyof Status] === value), expected);
  const inDatabase = () => server.sql("SELECT title FROM todos ORDER BY title;").trim().split("\n").filter(Boolean);

  test("SPEC 8: a store that is deleted under the page: writes are unsaved, arrive once, and are saved again later", async () => {
    await arrive();
    const page = await open();
    await becomes(page, { state: "live", storage: "indexeddb" });
    expect(await page.evaluate(() => sync.todos.create({ title: "before" }).saved)).toBe(true);
    await becomes(page, { pending: 0 });
    await page.evaluate(() => sync.disconnect());
    const deleted = page.evaluate((name) => new Promise((done) => (indexedDB.deleteDatabase(name).onsuccess = done)).then(() => true), STORE);
    expect(await deleted).toBe(true);
    await becomes(page, { storage: "memory" });
    expect(await page.evaluate(() => sync.todos.create({ title: "in memory" }).saved)).toBe(false);
    await becomes(page, { storage: "indexeddb", unsaved: 0 });
    await page.reload();
    await becomes(page, { state: "live", pending: 0 });
    expect(inDatabase()).toEqual(["before", "in memory"]);
  });

  test("SPEC 8: a store that does not answer, because another page holds up its deletion: memory, and the page lives", async () => {
    await arrive();
    server.sql("INSERT INTO todos (id, title) VALUES ('1', 'one');");
    const holder = await open(server.url, "<!doctype html><title>holder</title>");
    await holder.evaluate(async (name) => {
      const opening = indexedDB.open(name, 2);
      await new Promise((done) => (opening.onsuccess = done));
      Object.assign(window, { held: opening.result });
      indexedDB.deleteDatabase(name);
    }, STORE);
    const page = await open();
    await becomes(page, { state: "live", storage: "memory" });
    expect(await page.evaluate(() => sync.todos.create({ title: "two" }).saved)).toBe(false);
    await becomes(page, { pending: 0 });
    expect(inDatabase()).toEqual(["one", "two"]);
    await holder.evaluate(() => (window as unknown as { held: IDBDatabase }).held.close());
    await becomes(page, { state: "live", storage: "indexeddb" });
    expect(await page.evaluate(() => sync.todos.create({ title: "with the store" }).saved)).toBe(true);
  });

  test("SPEC 16: what JSON cannot hold is refused at the call, and the next write passes", async () => {
    await arrive();
    const page = await open();
    await becomes(page, { state: "live" });
    const names = await page.evaluate(() =>
      [NaN, new Map(), new Error("no"), new Date(NaN), Symbol("s"), document.body].map((value) => {
        try {
          sync.todos.create({ title: "bad", n: value as number });
          return "kept";
        } catch (error) {
          return (error as Error).constructor.name && (error as { code?: string }).code;
        }
      }),
    );
    expect(new Set(names)).toEqual(new Set(["invalid"]));
    await page.evaluate(() => sync.todos.create({ title: "fine" }).result);
    expect(inDatabase()).toEqual(["fine"]);
  });

  test("SPEC 17: a page of an origin that the server does not admit says so", async () => {
    const elsewhere = "http://elsewhere.test";
    await arrive(elsewhere);
    const warnings: string[] = [];
    visitor.context.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    const page = await open(elsewhere, `<!doctype html><title>page</title><script type="module">
      import { createSync, entity } from "/api/sync/sync.js";
      window.sync = createSync({ url: "${server.sync}", entities: { todos: entity() } });
    </script>`);
    await becomes(page, { state: "error" });
    expect(await page.evaluate(() => [sync.status.error?.code, sync.status.error?.message])).toEqual(["forbidden", expect.stringContaining("origin")]);
    await expect.poll(() => warnings.some((text) => text.includes("rhtmx-sync: pages of this origin"))).toBe(true);
  });
});
