/** Builds `dist/`: modules for bundlers, types, and the bundles that the engine serves. */

import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { build } from "esbuild";

const shared = { bundle: true, format: "esm", target: "es2022", logLevel: "warning", legalComments: "none" };
rmSync("dist", { recursive: true, force: true });

// For bundlers: readable, without react.
await build({
  ...shared,
  entryPoints: { index: "src/index.ts", react: "src/react.ts", htmx: "src/htmx.ts", fields: "src/fields.ts" },
  outdir: "dist",
  splitting: true,
  chunkNames: "[name]-[hash]",
  external: ["react"],
  sourcemap: true,
});

// For pages without a build: one file to start with, one that it loads after the first paint, and one for fields.
const later = {
  name: "later",
  setup: (build) =>
    build.onResolve({ filter: /\/(network|fields)\.js$/ }, ({ path }) => ({ path: path.replace("./", "./client-"), external: true })),
};
const small = { ...shared, outdir: "dist", minify: true };
// Works with and without type="module", so it sets `window.rhtmx` and exports nothing. Wrapped by hand,
// because esbuild's own wrapping turns import() into require().
const wrapped = { banner: { js: "(()=>{" }, footer: { js: "})();" } };
await build({ ...small, ...wrapped, entryPoints: { client: "src/client.ts" }, plugins: [later] });
await build({ ...small, entryPoints: { sync: "src/index.ts" }, plugins: [later] });
await build({ ...small, entryPoints: { "client-network": "src/network.ts" } });
// Fields, which pages without them do not load, and of them the merge alone, to be measured.
await build({ ...small, entryPoints: { "client-fields": "src/fields.ts", "fields-merge": "src/fields/index.ts" } });

const types = spawnSync("node_modules/.bin/tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });
process.exit(types.status ?? 1);
