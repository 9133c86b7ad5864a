/**
 * The code that only the tab with the connection needs. It loads while the store is being read, so that
 * the first paint does not wait for it.
 */

import type { Clock } from "./connection/clock.js";
import { serverSentEvents } from "./connection/events.js";
import type { Transport } from "./connection/transport.js";
import { webSocket } from "./connection/websocket.js";

export { Leader } from "./tabs/leader.js";

/** The transports, in the order in which they are tried. */
export function transportsTo(url: URL, clock: Clock): Transport[] {
  return [webSocket(url), serverSentEvents(url, clock)];
}
