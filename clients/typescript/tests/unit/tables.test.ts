import { expect, test } from "vitest";
import { EVENTS, STATES, TABLE } from "../../src/connection/states.js";
import { PHASES } from "../../src/session/phases.js";

test("SPEC 13: every state of the connection has an answer to every event", () => {
  expect(Object.keys(TABLE).sort()).toEqual([...STATES].sort());
  for (const state of STATES) {
    expect(Object.keys(TABLE[state]).sort()).toEqual([...EVENTS].sort());
    for (const event of EVENTS) expect(STATES).toContain(TABLE[state][event][1]);
  }
});

test("SPEC 13: from every state the application can stop, and from every state it can come back", () => {
  for (const state of STATES) expect(TABLE[state].stop[1]).toBe("off");
  for (const state of ["off", "waiting", "offline", "failed"] as const) expect(TABLE[state].start[1]).toBe("opening");
});

test("SPEC 13: what is ignored changes nothing, and only a welcome makes a connection", () => {
  for (const state of STATES) {
    for (const event of EVENTS) {
      const [action, next] = TABLE[state][event];
      if (action === "ignore") expect(next).toBe(state);
      if (next === "up" && state !== "up") expect(event).toBe("welcomed");
    }
  }
});

test("SPEC 1: the table of phases lets rows move at `subscribed` and `cursor` only", () => {
  for (const [phase, events] of Object.entries(PHASES)) {
    for (const [event, [action, next]] of Object.entries(events)) {
      if (action === "join") expect(event).toBe("subscribed");
      if (action === "commit") expect([phase, event]).toEqual(["live", "cursor"]);
      if (next === "live") expect(["subscribed", "changesByShape", "cursor"]).toContain(event);
    }
  }
});
