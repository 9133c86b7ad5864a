import { gzipSync } from "node:zlib";
import { afterEach, expect, test, vi } from "vitest";
import { webSocket } from "../../src/connection/websocket.js";

class FakeSocket {
  static last: FakeSocket;
  binaryType = "";
  readyState = 1;
  readonly sent: string[] = [];
  closed = false;
  onopen = () => {};
  onmessage: (event: { data: string | ArrayBuffer }) => void = () => {};
  onclose: (event: { code: number; reason: string }) => void = () => {};
  constructor(readonly url: URL, readonly protocol: string) {
    FakeSocket.last = this;
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
}

function open() {
  vi.stubGlobal("WebSocket", FakeSocket);
  const seen: string[] = [];
  const closed = new Promise<number>((resolve) => {
    link = webSocket(new URL("https://server.test/api/sync/")).open({
      opened: () => seen.push("opened"),
      received: () => {},
      frame: (frame) => seen.push(frame.type === "cursor" ? frame.cursor : frame.type),
      problem: ({ message }) => seen.push(message),
      closed: (code) => {
        seen.push(`closed ${code}`);
        resolve(code);
      },
    });
  });
  return { seen, closed, link: link!, socket: FakeSocket.last };
}
let link: ReturnType<ReturnType<typeof webSocket>["open"]> | undefined;

const cursor = (name: string) => JSON.stringify({ type: "cursor", cursor: name });
const zipped = (text: string) => new Uint8Array(gzipSync(text)).buffer as ArrayBuffer;

afterEach(() => void vi.unstubAllGlobals());

test("opens the route of the prefix, over TLS where the prefix is, and offers gzip", () => {
  const { link, socket } = open();
  expect(socket.url.href).toBe("wss://server.test/api/sync/ws");
  expect(socket.protocol).toBe("rhtmx-sync.v1");
  link.send({ type: "hello", protocol: 1, client_id: "c" });
  expect(JSON.parse(socket.sent[0]!)).toEqual({ type: "hello", protocol: 1, client_id: "c", accept: ["gzip"] });
});

test("SPEC 1: frames stay in order, zipped or not, and the close comes last", async () => {
  const { seen, closed, socket } = open();
  socket.onmessage({ data: cursor("1") });
  socket.onmessage({ data: zipped(cursor("2")) });
  socket.onmessage({ data: cursor("3") });
  socket.onmessage({ data: zipped(cursor("4")) });
  socket.onclose({ code: 1001, reason: "" });
  expect(await closed).toBe(1001);
  expect(seen).toEqual(["1", "2", "3", "4", "closed 1001"]);
});

test.each<[string, string | ArrayBuffer]>([
  ["text that is no frame", "nonsense"],
  ["bytes that are not gzip", new Uint8Array([1, 2, 3]).buffer as ArrayBuffer],
  ["gzip of no frame", zipped("nonsense")],
])("SPEC 12: %s ends the connection, and later messages are ignored", async (_name, data) => {
  const { seen, closed, socket } = open();
  socket.onmessage({ data });
  socket.onmessage({ data: cursor("later") });
  expect(await closed).toBe(1006);
  expect(socket.closed).toBe(true);
  expect(seen).toHaveLength(2);
  expect(seen).not.toContain("later");
});
