/** Proves that the committed page is what the sources make: builds it again and compares. */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

const page = "dist/index.html";
const read = () => (existsSync(page) ? readFileSync(page, "utf8") : undefined);
const committed = read();
const built = spawnSync(process.execPath, ["scripts/build.mjs"], { stdio: "inherit" });
const stale = read() !== committed;
if (stale) console.error(`${page} is not what the sources make: commit the result of npm run build`);
process.exit(built.status || stale ? 1 : 0);
