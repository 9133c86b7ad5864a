/**
 * The code that a tab needs only after the first paint. It loads while the store is being read, so that the
 * first paint does not wait for it.
 */

import type { Clock } from "./connection/clock.js";
import { serverSentEvents } from "./connection/events.js";
import type { Transport } from "./connection/transport.js";
import { webSocket } from "./connection/websocket.js";

export { bringBack } from "./store/return.js";
export { Follower } from "./tabs/follower.js";
export { Leader } from "./tabs/leader.js";

/** The transports, in the order in which they are tried. Some runtimes, such as Node 20, have no WebSockets. */
export function transportsTo(url: URL, clock: Clock): Transport[] {
  const events = serverSentEvents(url, clock);
  return typeof WebSocket === "undefined" ? [events] : [webSocket(url), events];
}
