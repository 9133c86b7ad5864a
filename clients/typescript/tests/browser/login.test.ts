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
