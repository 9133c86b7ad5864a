/** The example application in a real browser on the real server. Needs `RHTMX_SYNC_BIN` and Chromium. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BINARY, type ServerProcess } from "../server/process.js";
import { Device, startServer, Visitor } from "./browser.js";

describe.skipIf(!BINARY)("the example application", () => {
  let server: ServerProcess;
  const visitors: Visitor[] = [];
  beforeAll(async () => {
    server = await startServer();
  });
  beforeEach(() => server.sql("DELETE FROM todos; DELETE FROM viewers;"));
  afterEach(async () => {
    const errors = visitors.flatMap((visitor) => visitor.errors);
    await Promise.all(visitors.splice(0).map((visitor) => visitor.leave()));
    expect(errors).toEqual([]);
  });
  afterAll(() => server?.stop());

  async function arrive(): Promise<Visitor> {
    const visitor = await Visitor.arrive(server);
    visitors.push(visitor);
    return visitor;
  }

  const inDatabase = () => server.sql("SELECT title FROM todos ORDER BY title;").trim().split("\n").filter(Boolean);

  test("two browsers see each other's writes, and those of any program", async () => {
    const [a, b] = [new Device(await (await arrive()).open(), "Ann"), new Device(await (await arrive()).open(), "Ann")];
    await a.settled();
    await b.settled();
    await a.add("from a");
    await b.item("from a").waitFor();
    await b.rename("from a", "renamed by b");
    await a.item("renamed by b").waitFor();
    server.sql("INSERT INTO todos (id, title) VALUES ('outside', 'from outside');");
    await a.item("from outside").waitFor();
    await b.item("from outside").locator("input").check();
    await a.root.locator(".item.done").waitFor();
    await a.settled();
    expect(inDatabase()).toEqual(["from outside", "renamed by b"]);
  });

  test("offline in one, edits in both, a reload while offline: back online both equal the database", async () => {
    const visitor = await arrive();
    const page = await visitor.open();
    const a = new Device(page, "Ann");
    const b = new Device(await (await arrive()).open(), "Ann");
    await a.settled();
    await b.settled();
    await a.add("shared");
    await b.item("shared").waitFor();
    await a.settled();
    await visitor.context.setOffline(true);
    await a.add("written on the train");
    await a.item("shared").locator("input").check();
    await b.add("written at home");
    await b.rename("shared", "renamed at home");
    await b.settled();
    await page.reload();
    // The first paint comes from the store, with the offline writes on top.
    await a.item("written on the train").waitFor();
    await a.root.locator(".item.done", { hasText: "shared" }).waitFor();
    expect(await a.root.getAttribute("data-state")).not.toBe("live");
    expect(inDatabase()).toEqual(["renamed at home", "written at home"]);
    await visitor.context.setOffline(false);
    for (const device of [a, b]) {
      await device.settled();
      await device.item("written on the train").waitFor();
      await device.item("written at home").waitFor();
      await device.root.locator(".item.done", { hasText: "renamed at home" }).waitFor();
      expect(await device.titles()).toEqual(inDatabase());
    }
    expect(inDatabase()).toEqual(["renamed at home", "written at home", "written on the train"]);
  });

  test("two tabs share one connection; when the leader is closed, the other continues without loss", async () => {
    const visitor = await arrive();
    const first = await visitor.open();
    const a = new Device(first, "Ann");
    await a.settled();
    const second = await visitor.open();
    const b = new Device(second, "Ann");
    await b.settled();
    const sessions = async () => ((await (await fetch(`${server.sync}/status`)).json()) as { sessions: number }).sessions;
    // The page has two devices, each connected once, however many tabs show it.
    expect(await sessions()).toBe(2);
    await b.add("from the second tab");
    await a.item("from the second tab").waitFor();
    await b.settled();
    await first.close();
    await b.add("after the first was closed");
    await b.settled();
    server.sql("UPDATE todos SET done = true WHERE title = 'from the second tab';");
    await b.root.locator(".item.done", { hasText: "from the second tab" }).waitFor();
    expect(inDatabase()).toEqual(["after the first was closed", "from the second tab"]);
    expect(await sessions()).toBe(2);
  });

  test("a rejected write is shown, explained, and holds up nothing", async () => {
    const device = new Device(await (await arrive()).open(), "Ann");
    await device.settled();
    await device.root.locator(".refuse").click();
    await device.add("fine");
    const letter = device.root.locator(".rejected li");
    await letter.waitFor();
    expect(await letter.innerText()).toContain("constraint");
    await device.settled();
    expect(await device.titles()).toEqual(["fine"]);
    expect(inDatabase()).toEqual(["fine"]);
    await device.page.reload();
    await letter.waitFor(); // kept until somebody has dealt with it
    await letter.getByText("Dismiss").click();
    await device.root.locator(".rejected").waitFor({ state: "hidden" });
  });

  test("a rename of a row that was deleted elsewhere is a conflict: the title is shown, and may be added again", async () => {
    const device = new Device(await (await arrive()).open(), "Ann");
    await device.settled();
    await device.add("contested");
    await device.settled();
    await device.offline();
    await device.rename("contested", "kept, I hoped");
    server.sql("DELETE FROM todos;");
    // The switch stays where it was, and so do the writes.
    await device.page.reload();
    await device.item("kept, I hoped").waitFor();
    await device.state("offline");
    await device.online();
    const letter = device.root.locator(".gone li");
    await letter.waitFor();
    expect(await letter.innerText()).toContain("“kept, I hoped”");
    await device.settled();
    expect(await device.titles()).toEqual([]);
    expect(await device.root.locator(".rejected li").count()).toBe(0);
    await device.page.reload();
    await letter.waitFor(); // kept until somebody has dealt with it
    await letter.getByText("Add it again").click();
    await letter.waitFor({ state: "hidden" });
    await device.item("kept, I hoped").waitFor();
    await device.settled();
    expect(inDatabase()).toEqual(["kept, I hoped"]);
  });

  /** One item on two pages, both offline. */
  async function apart(): Promise<[Device, Device]> {
    const pages = [await (await arrive()).open(), await (await arrive()).open()];
    const [a, b] = pages.map((page) => new Device(page, "Ann")) as [Device, Device];
    for (const device of [a, b]) await device.settled();
    await a.add("milk");
    await b.item("milk").waitFor();
    for (const device of [a, b]) {
      await device.settled();
      await device.offline();
    }
    return [a, b];
  }

  test("two offline pages, of which one renames an item and the other ticks it off: both edits are there", async () => {
    const [a, b] = await apart();
    await a.rename("milk", "oat milk");
    await b.item("milk").locator("input").check();
    // A reload changes nothing: the writes were stamped when they were made.
    await a.page.reload();
    await a.item("oat milk").waitFor();
    expect(await a.root.locator(".item.done").count()).toBe(0);
    for (const device of [a, b]) await device.online();
    for (const device of [a, b]) {
      await device.root.locator(".item.done", { hasText: "oat milk" }).waitFor();
      await device.settled();
      expect(await device.titles()).toEqual(["oat milk"]);
      expect(await device.root.locator(".contested, .rejected li, .gone li").count()).toBe(0);
    }
    expect(server.sql("SELECT title FROM todos WHERE done;").trim()).toBe("oat milk");
  });

  // Both may decide: the one whose title stands, and the one whose title lost.
  test.each([[0, "Keep this"], [1, "Keep this"], [0, "Use the other"], [1, "Use the other"]] as const)(
    "two offline pages rename an item: both show the same title, and the other beside it, until page %i clicks “%s”",
    async (chooser, choice) => {
      const devices = await apart();
      const [a, b] = devices;
      await a.rename("milk", "oat milk");
      await b.rename("milk", "milk, 2 l");
      for (const device of devices) await device.online();
      for (const device of devices) {
        await device.conflict.waitFor();
        await device.settled();
      }
      const [stands] = inDatabase();
      const other = stands === "oat milk" ? "milk, 2 l" : "oat milk";
      for (const device of devices) {
        expect(await device.titles()).toEqual([stands]);
        expect(await device.conflict.locator("p").innerText()).toContain(`“${other}”`);
        await device.root.getByRole("status").filter({ hasText: "An item was renamed on two devices" }).waitFor();
      }
      // It is kept for those who come later, too.
      await a.page.reload();
      await a.conflict.waitFor();
      await a.settled();
      await devices[chooser].item(stands!).getByRole("group", { name: "Written on two devices" }).getByRole("button", { name: choice }).click();
      const chosen = choice === "Keep this" ? stands! : other;
      for (const device of devices) {
        await device.conflict.waitFor({ state: "detached" });
        await device.item(chosen).waitFor();
        await device.settled();
        expect(await device.titles()).toEqual([chosen]);
        expect(await device.root.locator(".choose:visible, .rejected li, .gone li").count()).toBe(0);
      }
      expect(inDatabase()).toEqual([chosen]);
    },
  );

  test("lists continue where they were after the server was killed", async () => {
    const page = await (await arrive()).open();
    const [ann, ben] = [new Device(page, "Ann"), new Device(page, "Ben")];
    await ann.settled();
    await ann.add("before");
    await ben.item("before").waitFor();
    await server.kill();
    await ann.state("connecting");
    await ann.add("while it was down");
    await ben.rename("before", "before, renamed while it was down");
    await server.start();
    await ann.settled();
    await ben.settled();
    await ben.item("while it was down").waitFor();
    await ann.item("before, renamed while it was down").waitFor();
    expect(await ann.titles()).toEqual(inDatabase());
  });

  test("an assigned item appears under Mine at once, offline too", async () => {
    const page = await (await arrive()).open();
    const [ann, ben] = [new Device(page, "Ann"), new Device(page, "Ben")];
    await ann.settled();
    await ann.add("for somebody");
    await ben.item("for somebody").waitFor();
    await ben.root.getByRole("button", { name: "Mine", exact: true }).click();
    await ann.item("for somebody").hover();
    await ann.item("for somebody").locator(".assign").click();
    await ann.item("for somebody").locator(".assign").click();
    await ben.item("for somebody").waitFor();
    await ben.offline();
    await ben.item("for somebody").locator("input").click();
    await ben.root.locator(".item").waitFor({ state: "detached" });
    await ben.online();
    await ann.root.locator(".item.done").waitFor();
    await ann.root.getByText("Ben is here").waitFor({ state: "hidden" });
  });

  test("ten thousand rows: first paint from the store after a reload, and scrolling (reported)", async () => {
    const values = Array.from({ length: 10_000 }, (_, index) => `('row-${index}', 'Item ${index}', ${index})`);
    server.sql(`INSERT INTO todos (id, title, position) VALUES ${values.join(",")};`);
    const page = await (await arrive()).open();
    const device = new Device(page, "Ann");
    await device.settled();
    await device.root.getByText("of 10000 done").waitFor();
    // Waits until the store has everything: a reload before that would show less.
    await page.waitForFunction(async () => {
      const open = indexedDB.open("rhtmx-sync-todo:ann");
      await new Promise((resolve) => (open.onsuccess = resolve));
      const database = open.result;
      const count = database.transaction("rows").objectStore("rows").count();
      await new Promise((resolve) => (count.onsuccess = resolve));
      database.close();
      return count.result >= 10_000;
    });
    await page.addInitScript(() => {
      const look = () => {
        const item = document.querySelector(".pane[data-device=Ann] .item");
        if (!item) return void requestAnimationFrame(look);
        Object.assign(window, { firstPaint: performance.now(), stateThen: document.querySelector<HTMLElement>(".pane")!.dataset["state"] });
      };
      requestAnimationFrame(look);
    });
    await server.kill();
    await page.reload();
    await device.root.locator(".item").first().waitFor();
    const { firstPaint, stateThen } = await page.evaluate(() => {
      const { firstPaint, stateThen } = window as unknown as { firstPaint: number; stateThen: string };
      return { firstPaint, stateThen };
    });
    const frames = await device.root.locator(".scroll").evaluate(async (scroll) => {
      const times: number[] = [];
      for (let last = performance.now(), i = 0; i < 90; i++) {
        scroll.scrollTop += 400;
        await new Promise((resolve) => requestAnimationFrame(resolve));
        times.push(performance.now() - last);
        last = performance.now();
      }
      return times.sort((a, b) => a - b);
    });
    await server.start();
    expect(stateThen).not.toBe("live");
    expect(await device.root.locator(".count").innerText()).toContain("of 10000 done");
    console.log(`first paint of 10,000 stored rows: ${firstPaint.toFixed(0)} ms; frames while scrolling: median ${frames[45]!.toFixed(1)} ms, 95 % ${frames[85]!.toFixed(1)} ms`);
  });
});
