/** Fails when a bundle that a page starts with is larger than allowed, minified and gzipped. */

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 12 * 1024;
const size = (file) => gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
let failed = false;
for (const file of ["client.js", "sync.js"]) {
  const bytes = size(file);
  failed ||= bytes > LIMIT_BYTES;
  console.log(`${file}: ${bytes} of ${LIMIT_BYTES} bytes${bytes > LIMIT_BYTES ? ", too large" : ""}`);
}
console.log(`client-network.js, loaded after: ${size("client-network.js")} bytes`);
process.exit(failed ? 1 : 0);
