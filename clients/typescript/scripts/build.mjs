/** Builds `dist/`: modules for bundlers, types, and the two bundles that a server serves as they are. */

import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { build } from "esbuild";

const shared = { bundle: true, format: "esm", target: "es2022", logLevel: "warning", legalComments: "none" };
rmSync("dist", { recursive: true, force: true });

// For bundlers: readable, with idb and react left to them.
await build({
  ...shared,
  entryPoints: { index: "src/index.ts", react: "src/react.ts", htmx: "src/htmx.ts" },
  outdir: "dist",
  splitting: true,
  chunkNames: "[name]-[hash]",
  external: ["idb", "react"],
  sourcemap: true,
});

// For pages without a build: one file to begin with, and one that it loads behind the first paint.
const behind = {
  name: "behind",
  setup: (build) => build.onResolve({ filter: /\/network\.js$/ }, () => ({ path: "./client-network.js", external: true })),
};
const small = { ...shared, outdir: "dist", minify: true };
// Works with and without type="module", so it exports nothing: it is `window.rhtmx`. Wrapped by hand,
// because esbuild's own wrapping turns import() into require().
const wrapped = { banner: { js: "(()=>{" }, footer: { js: "})();" } };
await build({ ...small, ...wrapped, entryPoints: { client: "src/client.ts" }, plugins: [behind] });
await build({ ...small, entryPoints: { sync: "src/index.ts" }, plugins: [behind] });
await build({ ...small, entryPoints: { "client-network": "src/network.ts" } });

const types = spawnSync("node_modules/.bin/tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });
process.exit(types.status ?? 1);
