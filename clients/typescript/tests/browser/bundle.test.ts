/** The bundles as a page without a build uses them. Needs `RHTMX_SYNC_BIN` and Chromium. */

import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BINARY, type ServerProcess } from "../server/process.js";
import { startServer, Visitor } from "./browser.js";

const file = (name: string) => readFileSync(new URL(`../../dist/${name}`, import.meta.url), "utf8");

describe.skipIf(!BINARY)("the bundles", () => {
  let server: ServerProcess;
  let visitor: Visitor;
  beforeAll(async () => {
    server = await startServer();
  });
  afterEach(() => visitor?.leave());
  afterAll(() => server?.stop());

  /** A page at the server, with the bundles where the engine serves them. */
  async function show(html: string) {
    visitor = await Visitor.arrive(server);
    for (const name of ["client.js", "client-network.js", "sync.js"]) {
      await visitor.context.route(`${server.sync}/${name}`, (route) => route.fulfill({ body: file(name), contentType: "text/javascript" }));
    }
    const page = await visitor.context.newPage();
    page.on("pageerror", (error) => visitor.errors.push(error.message));
    await page.route(`${server.url}/page`, (route) => route.fulfill({ body: html, contentType: "text/html" }));
    await page.goto(`${server.url}/page`);
    return page;
  }

  test.each(["", ' type="module"'])("a script element%s keeps entities in step and dispatches events", async (type) => {
    server.sql("DELETE FROM todos;");
    const page = await show(`<!doctype html><title>page</title><body><p id="count">?</p><p id="state"></p>
      <script>
        addEventListener("rhtmx:connection:state", ({ detail }) => (state.textContent = detail.state));
        document.body.addEventListener("rhtmx:todos:changed", ({ detail }) => (count.textContent = detail.rows.length));
      </script>
      <script${type} src="/api/sync/client.js" data-sync-entities="todos"></script>`);
    await page.getByText("live", { exact: true }).waitFor();
    server.sql("INSERT INTO todos (id, title) VALUES ('1', 'one');");
    await page.locator("#count", { hasText: "1" }).waitFor();
    await page.evaluate(() => window.rhtmx!.sync!.entity("todos").update("1", { done: true }).result);
    expect(server.sql("SELECT count(*) FROM todos WHERE done;").trim()).toBe("1");
    expect(visitor.errors).toEqual([]);
  });

  test("the module can be imported as it is", async () => {
    server.sql("DELETE FROM todos;");
    const page = await show(`<!doctype html><title>page</title><body><p id="titles"></p>
      <script type="module">
        import { createSync, entity } from "/api/sync/sync.js";
        const sync = createSync({ entities: { todos: entity() } });
        const view = sync.todos.live();
        view.subscribe(() => (titles.textContent = view.rows.map(({ title }) => title).join()));
        view.ready.then(() => sync.todos.create({ title: "from a module" }));
      </script>`);
    await page.getByText("from a module").waitFor();
    await expect.poll(() => server.sql("SELECT title FROM todos;").trim()).toBe("from a module");
    expect(visitor.errors).toEqual([]);
  });

  test("a list with a limit has the newest rows, and more of them on a click", async () => {
    server.sql("DELETE FROM todos;");
    const add = (id: number) => server.sql(`INSERT INTO todos (id, title, position) VALUES ('${id}', 'todo ${id}', ${id});`);
    for (const id of [1, 2, 3, 4, 5]) add(id);
    const page = await show(`<!doctype html><title>page</title><body><p id="titles"></p><p id="status"></p><button id="more">more</button>
      <script type="module">
        import { createSync, entity } from "/api/sync/sync.js";
        const view = createSync({ entities: { todos: entity() } }).todos.live({ orderBy: [["position", "desc"]], limit: 2 });
        const show = () => {
          titles.textContent = view.rows.map(({ id }) => id).join(" ");
          document.querySelector("#status").textContent = view.state;
          more.hidden = !view.hasMore;
        };
        view.subscribe(show);
        more.onclick = () => view.loadMore();
        show();
      </script>`);
    const shows = (ids: string) => page.getByText(ids, { exact: true }).waitFor();
    await shows("5 4");
    add(6);
    await shows("6 5");
    await page.getByText("more").click();
    await shows("6 5 4 3");
    server.sql("DELETE FROM todos WHERE id = '5';");
    await shows("6 4 3 2");
    await page.getByText("more").click();
    await shows("6 4 3 2 1");
    await page.getByText("more").waitFor({ state: "hidden" });
    expect(visitor.errors).toEqual([]);
  });
});
