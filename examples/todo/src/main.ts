/** Two devices side by side, and the frames between them and the server. */

import { FramesPanel } from "./frames.js";
import { openDevice, PEOPLE } from "./model.js";
import { Pane } from "./pane.js";
import { byId } from "./dom.js";

const frames = new FramesPanel(byId("frames-panel"), byId("frames"), byId("show-frames"), byId("clear-frames"));
for (const name of PEOPLE) {
  const device = openDevice(name.toLowerCase());
  device.on("frame", ({ direction, frame }) => frames.add(name, direction, frame));
  byId("panes").append(new Pane(device, name).root);
}

// The hint is for SQLite, the default; PostgreSQL has another.
fetch("/api/sync/status")
  .then((answer) => answer.json())
  .then((status: { database?: string }) => {
    if (!/postgres/i.test(status.database ?? "")) return;
    byId("hint").textContent = `psql "$DATABASE_URL" -c "INSERT INTO todos (id, title) VALUES (gen_random_uuid(), 'from outside')"`;
  })
  .catch(() => {}); // The page works without the hint, and without a network.
