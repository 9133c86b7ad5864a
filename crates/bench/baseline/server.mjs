// What people write by hand: LISTEN, and send every notification to every client.
import pg from "pg";
import { WebSocketServer } from "ws";

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
await client.query("LISTEN items");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("connection", (socket) => socket.on("error", () => socket.terminate()));
server.on("listening", () => console.log(`127.0.0.1:${server.address().port}`));

client.on("notification", ({ payload }) => {
  for (const socket of server.clients) socket.send(payload);
});
