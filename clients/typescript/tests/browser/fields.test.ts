/** Fields as a page without a build uses them: two browsers, the bundles, IndexedDB. Needs `RHTMX_SYNC_BIN` and Chromium. */

import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BINARY, ServerProcess } from "../server/process.js";
import { Visitor } from "./browser.js";

const file = (name: string) => readFileSync(new URL(`../../dist/${name}`, import.meta.url), "utf8");
const TABLE = "CREATE TABLE meetings (id text PRIMARY KEY NOT NULL, title text NOT NULL, date text NOT NULL);";
const SCHEMA = { sqlite: TABLE, postgres: `DROP TABLE IF EXISTS meetings; ${TABLE}` };
const PAGE = `<!doctype html><title>page</title><body><p id="rows"></p><p id="state"></p><p id="fields"></p><p id="ready"></p>
  <script>
    addEventListener("rhtmx:connection:state", ({ detail }) => (state.textContent = detail.state));
    addEventListener("rhtmx:sync:ready", () => (ready.textContent = "ready"));
    document.body.addEventListener("rhtmx:meetings:changed", ({ detail }) => {
      rows.textContent = detail.rows.map(({ title, date }) => title + " on " + date).join();
    });
    document.body.addEventListener("rhtmx:meetings:field-changed", ({ detail }) => (fields.textContent += " " + detail.fields));
  </script>
  <script src="/api/sync/client.js" data-sync-entities="meetings" data-sync-fields="meetings"></script>`;

describe.skipIf(!BINARY)("SPEC 22: fields in browsers", () => {
  let server: ServerProcess;
  const visitors: Visitor[] = [];
  beforeAll(async () => {
    server = await ServerProcess.start(SCHEMA, [], '[entities.meetings]\nfields = "last_write_wins"\n');
  });
  afterEach(async () => {
    await Promise.all(visitors.splice(0).map((visitor) => visitor.leave()));
  });
  afterAll(() => server?.stop());

  async function arrive(): Promise<Page> {
    const visitor = await Visitor.arrive(server);
    visitors.push(visitor);
    for (const name of ["client.js", "client-network.js", "client-fields.js"]) {
      await visitor.context.route(`${server.sync}/${name}`, (route) => route.fulfill({ body: file(name), contentType: "text/javascript" }));
    }
    await visitor.context.route(`${server.url}/page`, (route) => route.fulfill({ body: PAGE, contentType: "text/html" }));
    const page = await visitor.context.newPage();
    page.on("pageerror", (error) => visitor.errors.push(error.message));
    await page.goto(`${server.url}/page`);
    return page;
  }

  const shows = (page: Page, text: string) => page.locator("#rows", { hasText: new RegExp(`^${text}$`) }).waitFor();
  const update = (page: Page, values: { [column: string]: string }) =>
    page.evaluate((values) => window.rhtmx!.sync!.entity("meetings").update("1", values).saved, values);

  test("two edit one row offline, one its title, the other its date; after a reload both edits stay", async () => {
    server.sql("INSERT INTO meetings VALUES ('1', 'meeting', 'monday');");
    const [ann, ben] = [await arrive(), await arrive()];
    for (const page of [ann, ben]) {
      await shows(page, "meeting on monday");
      await page.getByText("ready", { exact: true }).waitFor();
      await page.evaluate(() => window.rhtmx!.sync!.disconnect());
      await page.getByText("offline", { exact: true }).waitFor();
    }
    expect(await update(ann, { title: "party" })).toBe(true);
    expect(await update(ben, { date: "sunday" })).toBe(true);
    await shows(ann, "party on monday");
    await shows(ben, "meeting on sunday");
    // What is stored is stamped, and the reload connects again.
    await ann.reload();
    await ben.evaluate(() => window.rhtmx!.sync!.connect());
    for (const page of [ann, ben]) await shows(page, "party on sunday");
    await expect.poll(() => server.sql("SELECT title, date FROM meetings;").trim()).toBe("party|sunday");
    await ben.locator("#fields", { hasText: "date title" }).waitFor();
    for (const { errors } of visitors) expect(errors).toEqual([]);
  });
});
