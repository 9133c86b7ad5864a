/** The real server as a child process, on a database of its own. */

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** The binary: `RHTMX_SYNC_BIN`. Without it the tests that need it are skipped. */
export const BINARY = process.env["RHTMX_SYNC_BIN"];
/** The example applications with users, each with its tables. */
const EXAMPLES = {
  multi_user: ["todos"],
  teams: ["organisations", "organisation_admins", "teams", "team_members", "documents", "invitations"],
};
export type Example = keyof typeof EXAMPLES;

function pathOf(example: Example): string {
  return join(dirname(BINARY!), example);
}

/** Whether an example was built beside the server. */
export function has(example: Example): boolean {
  return BINARY !== undefined && existsSync(pathOf(example));
}

/** `DATABASE_URL`: a PostgreSQL database for these tests alone. Without it each server has its own SQLite file. */
const POSTGRES = process.env["DATABASE_URL"];

export class ServerProcess {
  #child: ChildProcess | undefined;
  #folder = mkdtempSync(join(tmpdir(), "rhtmx-sync-test-"));

  /** Whether it has a database to serve; otherwise it serves its demo. */
  #hasTables = false;

  private constructor(
    readonly port: number, readonly entities: readonly string[], readonly program = BINARY!, readonly postgres: string | null = POSTGRES ?? null,
  ) {}

  /** Makes the tables and starts the server, with a configuration file if there is one; on a SQLite file if that is asked for. */
  static async start(
    schema: { sqlite: string; postgres: string }, entities: readonly string[], config = "", isFile = POSTGRES === undefined,
  ): Promise<ServerProcess> {
    const server = new ServerProcess(await freePort(), entities, BINARY!, isFile ? null : POSTGRES ?? null);
    writeFileSync(join(server.#folder, "rhtmx-sync.toml"), config);
    server.sql(server.postgres ? schema.postgres : schema.sqlite);
    server.#hasTables = true;
    await server.start();
    return server;
  }

  /** Starts the server without a database: its demo, on a SQLite file of its own. */
  static async demo(): Promise<ServerProcess> {
    const server = new ServerProcess(await freePort(), []);
    await server.start();
    return server;
  }

  /** Starts an example application, with a database of its own. */
  static async example(example: Example): Promise<ServerProcess> {
    const server = new ServerProcess(await freePort(), [], pathOf(example));
    if (POSTGRES) server.sql(`DROP TABLE IF EXISTS ${EXAMPLES[example].join(", ")} CASCADE;`);
    await server.start();
    return server;
  }

  /** Signs a user of an example application in; returns the cookie. */
  async signIn(user: string): Promise<string> {
    const body = new URLSearchParams({ user, password: `${user}'s password` });
    const answer = await fetch(`${this.url}/login`, { method: "POST", body, redirect: "manual" });
    return answer.headers.get("set-cookie")!.split(";")[0]!;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get sync(): string {
    return `${this.url}/api/sync`;
  }

  async start(): Promise<void> {
    const [bind, database] = [`127.0.0.1:${this.port}`, this.#database];
    const isServer = this.program === BINARY;
    const flags = isServer ? ["serve", "--bind", bind] : [];
    if (this.#hasTables) flags.push("--database-url", database);
    for (const entity of this.entities) flags.push("--entity", entity);
    const env = { ...process.env, ...(isServer ? { DATABASE_URL: "" } : { DATABASE_URL: database, BIND: bind }) };
    this.#child = spawn(this.program, flags, { cwd: this.#folder, env, stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    this.#child.stderr!.on("data", (data) => (log += String(data)));
    const exited = new Promise<never>((_, reject) =>
      this.#child!.once("exit", (code) => reject(new Error(`the server ended with ${code}\n${log}`))),
    );
    exited.catch(() => {});
    await Promise.race([exited, this.#ready()]);
  }

  /** Kills it, as a crash does. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Runs SQL as another program would; returns what it prints. */
  sql(text: string): string {
    if (this.postgres) return execFileSync("psql", [this.postgres, "-qAtX", "-v", "ON_ERROR_STOP=1"], { input: text, encoding: "utf8" });
    return execFileSync("sqlite3", ["-cmd", ".timeout 5000", this.#file], { input: text, encoding: "utf8" });
  }

  /** Brings its database together with another server's, with the rules of its configuration file. */
  replicate(other: ServerProcess, entity: string): void {
    const flags = ["replicate", "--once", "--from", this.#database, "--to", other.#database, "--entity", entity];
    execFileSync(BINARY!, flags, { cwd: this.#folder, env: { ...process.env, DATABASE_URL: "" }, stdio: "pipe" });
  }

  get #database(): string {
    return this.postgres ?? `sqlite://${this.#file}`;
  }

  get #file(): string {
    return join(this.#folder, "test.db");
  }

  async #ready(): Promise<void> {
    for (;;) {
      const answer = await fetch(this.url + (this.program === BINARY ? "/readyz" : "/login")).catch(() => undefined);
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
