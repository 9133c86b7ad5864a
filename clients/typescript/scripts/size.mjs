/**
 * Fails when a bundle that a page starts with is larger than allowed, minified and gzipped. `sync.js` has what
 * `client.js`, for plain HTML, does without: mutators, which take one KiB. `client-fields.js` is for pages that merge by
 * fields; `fields-merge.js` is the merge in it.
 */

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMITS_BYTES = { "client.js": 13 * 1024, "sync.js": 14 * 1024, "client-fields.js": 10 * 1024, "fields-merge.js": 6 * 1024 };
const size = (file) => gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
let failed = false;
for (const [file, limit] of Object.entries(LIMITS_BYTES)) {
  const bytes = size(file);
  failed ||= bytes > limit;
  console.log(`${file}: ${bytes} of ${limit} bytes${bytes > limit ? ", too large" : ""}`);
}
console.log(`client-network.js, loaded after: ${size("client-network.js")} bytes`);
process.exit(failed ? 1 : 0);
