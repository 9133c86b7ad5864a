/** Builds the application into one HTML file without any request but those to the server itself. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const bundle = (entry) =>
  build({ entryPoints: [entry], bundle: true, minify: true, format: "esm", target: "es2022", write: false, legalComments: "none" });
const [script, style] = await Promise.all([bundle("src/main.ts"), bundle("src/style.css")]);
const text = ({ outputFiles }) => outputFiles[0].text.trim();
const html = readFileSync("index.html", "utf8")
  .replace('<link rel="stylesheet" href="src/style.css">', () => `<style>${text(style)}</style>`)
  // A closing tag inside a string would end the script.
  .replace('<script type="module" src="src/main.ts"></script>', () => `<script type="module">${text(script).replaceAll("</script", "<\\/script")}</script>`);
mkdirSync("dist", { recursive: true });
writeFileSync("dist/index.html", html);
console.log(`dist/index.html: ${Buffer.byteLength(html)} bytes`);
