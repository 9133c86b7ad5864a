/** The example application with users and a mutator, in two browsers. Needs `RHTMX_SYNC_BIN`, `multi_user` beside it, and Chromium. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { has, ServerProcess } from "../server/process.js";
import { Visitor } from "./browser.js";

describe.skipIf(!has("multi_user"))("the example with users", () => {
  let app: ServerProcess;
  const visitors: Visitor[] = [];
  beforeAll(async () => {
    app = await ServerProcess.example("multi_user");
  });
  afterEach(async () => {
    for (const visitor of visitors.splice(0)) {
      expect(visitor.errors).toEqual([]);
      await visitor.leave();
    }
  });
  afterAll(() => app?.stop());

  async function signIn(user: string) {
    const visitor = await Visitor.arrive(app);
    visitors.push(visitor);
    return { page: await visitor.signIn(user), context: visitor.context };
  }

  test("SPEC 19: a call of one user, made offline, is shown there at once and does on the server what the other then sees", async () => {
    const [ann, ben] = [await signIn("ann"), await signIn("ben")];
    await ann.page.locator("[name=title]").fill("Bread");
    await ann.page.keyboard.press("Enter");
    await ann.page.locator("#mine").getByRole("button", { name: "Share" }).click();
    const [theirs, own] = [ben.page.locator("#others").getByLabel("Done: Bread"), ann.page.locator("#mine").getByLabel("Done: Bread")];
    await theirs.waitFor();

    await ben.context.setOffline(true);
    await ben.page.locator("#state", { hasText: /^live$/ }).waitFor({ state: "detached" });
    await theirs.check();
    await ben.page.locator("#others .done", { hasText: "Bread" }).waitFor();
    expect(await own.isChecked()).toBe(false);
    await ben.context.setOffline(false);
    await ann.page.locator("#mine .done", { hasText: "Bread" }).waitFor();
    expect([await own.isChecked(), await theirs.isChecked()]).toEqual([true, true]);

    await ann.page.locator("#mine").getByRole("button", { name: "Unshare" }).click();
    await theirs.waitFor({ state: "detached" });
  });
});
