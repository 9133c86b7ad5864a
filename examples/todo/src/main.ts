/** Two devices side by side, and the frames between them and the server. */

import { FramesPanel } from "./frames.js";
import { isSignedIn, PEOPLE, sign, type Person } from "./login.js";
import { openDevice } from "./model.js";
import { Pane } from "./pane.js";
import { byId, find, fromTemplate } from "./dom.js";

const frames = new FramesPanel(byId("frames-panel"), byId("frames"), byId("show-frames"), byId("clear-frames"));
for (const name of PEOPLE) byId("panes").append(placeOf(name));

/** The device of somebody who is signed in, or where they sign in. */
function placeOf(name: Person): HTMLElement {
  if (!isSignedIn(name)) {
    const root = fromTemplate("login-template");
    root.dataset["person"] = name;
    const button = find<HTMLButtonElement>(root, ".sign-in");
    button.textContent = `Sign in as ${name}`;
    button.onclick = () => {
      sign(name, "in");
      root.replaceWith(placeOf(name));
    };
    return root;
  }
  const device = openDevice(name);
  device.on("frame", ({ direction, frame }) => frames.add(name, direction, frame));
  const pane = new Pane(device, name, () => {
    sign(name, "out");
    pane.close();
    pane.root.replaceWith(placeOf(name));
  });
  return pane.root;
}

// The hint is for SQLite, the default; PostgreSQL has another.
fetch("/api/sync/status")
  .then((answer) => answer.json())
  .then((status: { database?: string }) => {
    if (!/postgres/i.test(status.database ?? "")) return;
    byId("hint").textContent = `psql "$DATABASE_URL" -c "INSERT INTO todos (id, title) VALUES (gen_random_uuid(), 'from outside')"`;
  })
  .catch(() => {}); // The page works without the hint, and without a network.
