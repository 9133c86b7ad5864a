/** Proves that the committed bundles are what the sources make: builds them again and compares. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const files = ["client.js", "client-fields.js", "client-network.js", "sync.js"].map((name) => `dist/${name}`);
const read = (file) => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
};
const committed = files.map(read);
const built = spawnSync(process.execPath, ["scripts/build.mjs"], { stdio: "inherit" });
const stale = files.filter((file, index) => read(file) !== committed[index]);
for (const file of stale) console.error(`${file} is not what the sources make: commit the result of npm run build`);
process.exit(built.status || stale.length ? 1 : 0);
