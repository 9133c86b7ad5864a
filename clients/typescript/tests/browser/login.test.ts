/** The server's own demo: Ann and Ben sign in on one page. Needs `RHTMX_SYNC_BIN` and Chromium. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BINARY, ServerProcess } from "../server/process.js";
import { Device, Visitor } from "./browser.js";

describe.skipIf(!BINARY)("the demo's users", () => {
  let server: ServerProcess;
  let visitor: Visitor;
  beforeAll(async () => {
    server = await ServerProcess.demo();
  });
  beforeEach(async () => {
    visitor = await Visitor.arrive(server);
    // The page as the server gives it, which says that it has a login.
    await visitor.context.unroute(`${server.url}/`);
  });
  afterEach(async () => {
    expect(visitor.errors).toEqual([]);
    await visitor.leave();
  });
  afterAll(() => server?.stop());

  async function open() {
    const page = await visitor.open();
    const [ann, ben] = [new Device(page, "Ann"), new Device(page, "Ben")];
    await ann.settled();
    await ben.settled();
    return { page, ann, ben };
  }

  test("a list that is unshared disappears from the other device, which goes on with another", async () => {
    const { page, ann, ben } = await open();
    await ann.list("Surprise for Ben").waitFor();
    expect(await ben.list("Surprise for Ben").count()).toBe(0);

    await ann.root.getByRole("button", { name: "New list" }).click();
    await ann.root.getByRole("textbox", { name: "Name of the new list" }).fill("Plans");
    await page.keyboard.press("Enter");
    await ann.add("a secret");
    await ann.item("a secret").waitFor();
    await ann.settled();
    expect(await ben.list("Plans").count()).toBe(0);

    await ann.root.getByRole("button", { name: "Share this list" }).click();
    await ben.list("Plans").click();
    await ben.item("a secret").waitFor();
    expect(await ben.root.locator(".share").isVisible()).toBe(false);
    await ben.add("from Ben");
    await ann.item("from Ben").waitFor();

    await ann.root.getByRole("button", { name: "Unshare this list" }).click();
    await ben.list("Plans").waitFor({ state: "detached" });
    await ben.root.getByText("“Plans” is no longer shared with you.").waitFor();
    await ben.item("Write something in one pane, see it in the other").waitFor();
    expect(await ann.titles()).toEqual(["a secret", "from Ben"]);
  });

  test("of an item that both rename offline the other title is shown to both, until one of them chooses", async () => {
    const { ann, ben } = await open();
    await ann.add("milk");
    await ben.item("milk").waitFor();
    for (const device of [ann, ben]) {
      await device.settled();
      await device.offline();
    }
    await ann.rename("milk", "oat milk");
    await ben.rename("milk", "milk, 2 l");
    for (const device of [ann, ben]) await device.online();
    for (const device of [ann, ben]) await device.conflict.waitFor();
    const other = (await ben.conflict.locator("p").innerText()).includes("oat milk") ? "oat milk" : "milk, 2 l";
    await ben.root.getByRole("button", { name: "Use the other" }).click();
    for (const device of [ann, ben]) {
      await device.conflict.waitFor({ state: "detached" });
      await device.item(other).waitFor();
      await device.settled();
    }
  });

  test("where not everybody may write everything, a rename of an item that was deleted elsewhere is rejected", async () => {
    const { ann, ben } = await open();
    await ann.add("contested");
    await ben.item("contested").waitFor();
    await ann.settled();
    await ann.offline();
    await ann.rename("contested", "kept, I hoped");
    await ben.item("contested").hover();
    await ben.root.getByRole("button", { name: "Delete: contested" }).click();
    await ben.item("contested").waitFor({ state: "detached" });
    await ben.settled();
    await ann.online();
    const letter = ann.root.locator(".rejected li");
    await letter.waitFor();
    expect(await letter.innerText()).toContain("not_found");
    expect(await ann.item("kept, I hoped").count()).toBe(0);
  });

  test("who signs out has no device, also after a reload, until they sign in", async () => {
    const { page, ann, ben } = await open();
    await ben.root.getByRole("button", { name: "Sign out Ben" }).click();
    await page.getByRole("button", { name: "Sign in as Ben" }).waitFor();
    expect(await ben.root.count()).toBe(0);
    await page.reload();
    await ann.settled();
    await page.getByRole("button", { name: "Sign in as Ben" }).click();
    await ben.settled();
    await ann.add("to both");
    await ben.item("to both").waitFor();
  });

  test("a server that starts again has new tokens, and the page asks for them", async () => {
    const { ann, ben } = await open();
    await server.kill();
    await ann.add("while it was away");
    await server.start();
    await ben.item("while it was away").waitFor();
    await ann.settled();
  });
});
