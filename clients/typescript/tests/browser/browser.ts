/** A real browser on the real server, showing the example application. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type BrowserContext, type Locator, type Page } from "playwright-core";
import { ServerProcess } from "../server/process.js";

const PAGE = process.env["TODO_PAGE"] ?? fileURLToPath(new URL("../../../../examples/todo/dist/index.html", import.meta.url));
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  // The page comes from this test and not from the server's address, which counts as crossing networks.
  "--disable-features=LocalNetworkAccessChecks",
];

const TABLES = (text: string, real: string, time: string) => `
CREATE TABLE lists (id ${text} PRIMARY KEY NOT NULL, name ${text} NOT NULL, position ${real} NOT NULL DEFAULT 0);
CREATE TABLE todos (
  id ${text} PRIMARY KEY NOT NULL,
  list_id ${text} NOT NULL DEFAULT 'inbox' REFERENCES lists (id) ON DELETE CASCADE,
  title ${text} NOT NULL CHECK (length(title) BETWEEN 1 AND 120),
  done boolean NOT NULL DEFAULT false,
  position ${real} NOT NULL DEFAULT 0,
  assignee ${text},
  created_at ${time});
CREATE TABLE viewers (id ${text} PRIMARY KEY NOT NULL, name ${text} NOT NULL, list_id ${text}, todo_id ${text}, seen_at ${time});
INSERT INTO lists (id, name, position) VALUES ('inbox', 'Inbox', 0), ('groceries', 'Groceries', 1);`;

export const SCHEMA = {
  sqlite: TABLES("TEXT", "REAL", "TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"),
  postgres: `DROP TABLE IF EXISTS todos, lists, viewers CASCADE;${TABLES("text", "double precision", "timestamptz NOT NULL DEFAULT now()")}`,
};

/** As the demo for Docker is configured. */
const CONFIG = readFileSync(new URL("../../../../examples/docker/rhtmx-sync.toml", import.meta.url), "utf8");

export function startServer(): Promise<ServerProcess> {
  return ServerProcess.start(SCHEMA, [], CONFIG);
}

/** A browser with its own profile: another person, another machine. */
export class Visitor {
  readonly #profile: string;
  readonly errors: string[] = [];

  private constructor(readonly context: BrowserContext, profile: string, readonly server: ServerProcess) {
    this.#profile = profile;
  }

  static async arrive(server: ServerProcess, options: Parameters<typeof chromium.launchPersistentContext>[1] = {}): Promise<Visitor> {
    const profile = mkdtempSync(join(tmpdir(), "rhtmx-sync-browser-"));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: FLAGS, ...options,
    });
    context.setDefaultTimeout(30_000);
    const visitor = new Visitor(context, profile, server);
    // Serves the page also while the server is down, as a service worker would.
    await context.route(`${server.url}/`, (route) => route.fulfill({ path: PAGE, contentType: "text/html" }));
    return visitor;
  }

  async open(): Promise<Page> {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.errors.push(error.message));
    await page.goto(`${this.server.url}/`);
    return page;
  }

  /** Opens an example application as one of its users. */
  async signIn(user: string): Promise<Page> {
    await this.context.unroute(`${this.server.url}/`);
    const page = await this.open();
    await page.locator("[name=user]").fill(user);
    await page.locator("[name=password]").fill(`${user}'s password`);
    await page.keyboard.press("Enter");
    await page.getByText("live", { exact: true }).waitFor();
    return page;
  }

  async leave(): Promise<void> {
    await this.context.close();
    rmSync(this.#profile, { recursive: true, force: true });
  }
}

/** One of the two devices on a page. */
export class Device {
  readonly root: Locator;

  constructor(readonly page: Page, name: "Ann" | "Ben") {
    this.root = page.locator(`.pane[data-device=${name}]`);
  }

  state(state: "live" | "offline" | "connecting"): Promise<void> {
    return this.root.and(this.page.locator(`[data-state=${state}]`)).waitFor();
  }

  /** Waits until it is connected and nothing is pending. */
  async settled(): Promise<void> {
    await this.state("live");
    await this.root.locator(".state", { hasText: /^live$/ }).waitFor();
  }

  async add(title: string): Promise<void> {
    await this.root.locator(".composer input").fill(title);
    await this.root.locator(".composer input").press("Enter");
  }

  list(name: string): Locator {
    return this.root.locator(".lists").getByRole("button", { name, exact: true });
  }

  item(title: string): Locator {
    return this.root.locator(".item", { has: this.page.getByText(title, { exact: true }) });
  }

  /** The notice at the item of which two values were written. */
  get conflict(): Locator {
    return this.root.locator(".item.contested .conflict");
  }

  async rename(title: string, to: string): Promise<void> {
    await this.item(title).locator(".title").click();
    await this.root.locator(".item .edit").fill(to);
    await this.root.locator(".item .edit").press("Enter");
  }

  async offline(): Promise<void> {
    await this.root.locator(".switch input").check();
    await this.state("offline");
  }

  async online(): Promise<void> {
    await this.root.locator(".switch input").uncheck();
  }

  titles(): Promise<string[]> {
    return this.root.locator(".item .title").allTextContents().then((titles) => titles.sort());
  }
}
