/** Frames over a WebSocket. */

import { FrameError, SyncError } from "../errors.js";
import { CLOSE, SUBPROTOCOL } from "../protocol/generated.js";
import { readFrame } from "./read.js";
import { canUnzip, unzip } from "./gzip.js";
import type { Link, Transport, TransportHandlers } from "./transport.js";

/** @param url of the server's prefix, http or https. */
export function webSocket(url: URL): Transport {
  const address = new URL(`${url.pathname.replace(/\/$/, "")}/ws`, url);
  address.protocol = address.protocol.replace("http", "ws");
  return { name: "websocket", open: (handlers) => new SocketLink(new WebSocket(address, SUBPROTOCOL), handlers) };
}

class SocketLink implements Link {
  readonly #socket: WebSocket;
  #handlers: TransportHandlers | undefined;
  /** Keeps frames in order while one is being unzipped. */
  #queue: Promise<void> | undefined;
  /** What a close before the socket was open means. The browser does not say more. */
  #refusal: string;

  constructor(socket: WebSocket, handlers: TransportHandlers) {
    this.#socket = socket;
    this.#refusal = `no WebSocket connection to ${socket.url}`;
    this.#handlers = handlers;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#refusal = "";
      this.#handlers?.opened();
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.#receive(data);
    // A close follows and says as much; outside browsers an error without a listener is thrown.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => this.#inOrder(async () => this.#closed(code, reason || this.#refusal));
  }

  send(frame: { type: string }): void {
    // A frame for a socket that is closing is sent again on the next one.
    if (this.#socket.readyState !== 1) return;
    const accept = frame.type === "hello" && canUnzip() ? { accept: ["gzip"] } : undefined;
    this.#socket.send(JSON.stringify({ ...frame, ...accept }));
  }

  close(): void {
    this.#handlers = undefined;
    this.#socket.close(1000);
  }

  #receive(data: string | ArrayBuffer): void {
    this.#handlers?.received();
    if (typeof data === "string" && !this.#queue) return this.#read(data);
    this.#inOrder(async () => this.#read(typeof data === "string" ? data : await unzip(data)));
  }

  #inOrder(act: () => Promise<void>): void {
    const queue = (this.#queue ?? Promise.resolve())
      .then(act)
      .catch(() => this.#broken(new FrameError("bytes that cannot be unzipped")))
      .finally(() => {
        if (this.#queue === queue) this.#queue = undefined;
      });
    this.#queue = queue;
  }

  #read(text: string): void {
    try {
      const frame = readFrame(text);
      if (frame) this.#handlers?.frame(frame);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#broken(error);
    }
  }

  /** A frame was missed, and only a new connection can say which. */
  #broken(error: SyncError): void {
    const handlers = this.#handlers;
    handlers?.problem(error);
    this.close();
    handlers?.closed(1006, error.message);
  }

  #closed(code: number, reason: string): void {
    const handlers = this.#handlers;
    this.#handlers = undefined;
    handlers?.closed(code || CLOSE.shutting_down, reason);
  }
}
