/** The example application with teams, in two browsers. Needs `RHTMX_SYNC_BIN`, `teams` beside it, and Chromium. */

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { has, ServerProcess } from "../server/process.js";
import { Visitor } from "./browser.js";

describe.skipIf(!has("teams"))("the example with teams", () => {
  let app: ServerProcess;
  const visitors: Visitor[] = [];
  beforeAll(async () => {
    app = await ServerProcess.example("teams");
  });
  afterEach(async () => {
    for (const visitor of visitors.splice(0)) {
      expect(visitor.errors).toEqual([]);
      await visitor.leave();
    }
  });
  afterAll(() => app?.stop());

  async function signIn(user: string): Promise<Page> {
    const visitor = await Visitor.arrive(app);
    visitors.push(visitor);
    return visitor.signIn(user);
  }

  const team = (page: Page, name: string) => page.locator("#nav").getByRole("button", { name, exact: true });
  const document = (page: Page, title: string) => page.locator("#documents li", { hasText: title });

  async function enter(page: Page, label: string, text: string): Promise<void> {
    await page.getByLabel(label, { exact: true }).fill(text);
    await page.keyboard.press("Enter");
  }

  test("a page fills when its user is added to a team, and empties while it is looked at when they are removed", async () => {
    const [ann, cat] = [await signIn("ann"), await signIn("cat")];
    await cat.getByText("You are in no team.").waitFor();
    await team(ann, "Design").click();
    await enter(ann, "Name of a new member", "cat");
    await document(cat, "Which colours we use").waitFor();
    expect(await team(cat, "Engines").count()).toBe(0);
    expect(await cat.getByLabel("Name of a new member").isVisible()).toBe(false);

    await enter(cat, "Title of a new document", "From cat");
    await document(cat, "From cat").waitFor();
    await document(ann, "From cat").waitFor();
    await ann.getByRole("button", { name: "Remove: cat" }).click();
    await cat.getByText("You are in no team.").waitFor();
    expect([await cat.locator("#documents li").count(), await cat.locator("#nav button").count()]).toEqual([0, 0]);
    expect(await cat.locator("#team").isVisible()).toBe(false);
  });

  test("who was removed while there was no connection has nothing left of the team when there is one", async () => {
    const [ann, cat] = [await signIn("ann"), await signIn("cat")];
    await team(ann, "Design").click();
    await enter(ann, "Name of a new member", "cat");
    await document(cat, "Which colours we use").waitFor();
    const isLive = cat.locator("#state", { hasText: /^live$/ });
    await cat.context().setOffline(true);
    await isLive.waitFor({ state: "detached" });
    await ann.getByRole("button", { name: "Remove: cat" }).click();
    await ann.getByRole("button", { name: "Remove: cat" }).waitFor({ state: "detached" });
    await enter(ann, "Title of a new document", "Not for cat");
    await document(ann, "Not for cat").waitFor();
    expect(await document(cat, "Which colours we use").count()).toBe(1);

    await cat.context().setOffline(false);
    await isLive.waitFor();
    await cat.getByText("You are in no team.").waitFor();
    expect([await cat.locator("#documents li").count(), await cat.locator("#nav button").count()]).toEqual([0, 0]);
  });

  test("an invitation that is accepted brings the team, and a list by a subquery follows", async () => {
    const [ann, cat] = [await signIn("ann"), await signIn("cat")];
    await team(ann, "All of Acme").click();
    await document(ann, "How to fit a piston").waitFor();
    await document(ann, "Which colours we use").waitFor();
    await team(ann, "Engines").click();
    await document(ann, "Which colours we use").waitFor({ state: "detached" });
    await enter(ann, "E-mail of somebody to invite", "cat@example.com");

    await cat.getByText("You are invited to Engines.").waitFor();
    expect(await cat.locator("#documents li").count()).toBe(0);
    await cat.getByRole("button", { name: "Accept" }).click();
    await document(cat, "How to fit a piston").waitFor();
    await ann.getByRole("button", { name: "Remove: cat" }).waitFor();
    expect(await ann.getByRole("button", { name: "Withdraw: cat@example.com" }).count()).toBe(0);

    // Written by another program: a second team, and with it the list of the organisation.
    app.sql("INSERT INTO team_members VALUES ('design', 'cat');");
    await team(cat, "All of Acme").click();
    await document(cat, "Which colours we use").waitFor();
    await document(cat, "How to fit a piston").waitFor();
    app.sql("DELETE FROM team_members WHERE person = 'cat' AND team_id = 'engines';");
    await document(cat, "Which colours we use").waitFor();
    await document(cat, "How to fit a piston").waitFor({ state: "detached" });
  });
});
