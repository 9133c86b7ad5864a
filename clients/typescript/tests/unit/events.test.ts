import { afterEach, describe, expect, test, vi } from "vitest";
import { serverSentEvents } from "../../src/connection/events.js";
import type { Link } from "../../src/connection/transport.js";
import { ManualClock, rest } from "../simulated/harness.js";

const SCHEMA = { key: ["id"], columns: {} };

/** A server of streams and posts, which the test drives. */
function setup(answers: { status?: number; post?: (body: { mutation: number }) => [number, object] } = {}) {
  const clock = new ManualClock();
  const requests: string[] = [];
  const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  vi.stubGlobal("fetch", async (url: string, { method, body }: RequestInit) => {
    requests.push(`${method ?? "GET"} ${url.replace("http://server.test/api/sync", "")}`);
    if (url.endsWith("/status")) return new Response('{"features":["rows"]}', { status: answers.status ?? 200 });
    if (method === "POST") {
      const [status, said] = answers.post!(JSON.parse(String(body)));
      return new Response(JSON.stringify(said), { status });
    }
    if (url.includes("entity=unknown")) return new Response('{"code":"unknown_entity","message":"none"}', { status: 404 });
    return new Response(new ReadableStream<Uint8Array>({ start: (controller) => void streams.push(controller) }));
  });
  const frames: object[] = [];
  const closed: number[] = [];
  const transport = serverSentEvents(new URL("http://server.test/api/sync"), clock);
  const open = async (): Promise<Link> => {
    const link = transport.open({
      opened: () => {},
      received: () => {},
      frame: (frame) => frames.push(frame),
      problem: () => {},
      closed: (code) => closed.push(code),
    });
    link.send({ type: "hello", protocol: 1, client_id: "me", token: "secret" });
    await rest();
    return link;
  };
  const say = async (stream: number, ...said: object[]) => {
    for (const frame of said) streams[stream]!.enqueue(new TextEncoder().encode(`id: x\ndata: ${JSON.stringify(frame)}\n\n`));
    await rest();
  };
  const taken = () => frames.splice(0);
  return { clock, requests, streams, frames, closed, open, say, taken };
}

afterEach(() => void vi.unstubAllGlobals());

describe("SPEC 6: over server-sent events", () => {
  async function subscribed() {
    const world = setup({ post: ({ mutation }) => [200, { type: "ack", mutation }] });
    const link = await world.open();
    link.send({ type: "subscribe", id: 7, entity: "todos", where: "a = $1", params: ["ä&"], columns: ["id", "a"], cursor: "c0" });
    await rest();
    await world.say(0, { type: "subscribed", id: "todos", shape: "s", cursor: "c1", schema: SCHEMA });
    world.taken();
    return { ...world, link };
  }
  test("an answer has the conflicts before the ack, and the clocks in it; a list is asked for with its mode", async () => {
    const conflict = { entity: "todos", key: "1", field: "title", lost: { value: "a", hlc: "c" }, strategy: "last_write_wins", mutation: 1, write: 0 };
    const stamps = [{ write: 0, hlc: "d" }];
    const { open, requests, clock, taken } = setup({ post: ({ mutation }) => [200, { type: "ack", mutation, stamps, conflicts: [conflict] }] });
    const link = await open();
    link.send({ type: "subscribe", id: 7, entity: "todos", mode: "fields" });
    await rest();
    expect(requests.at(-1)).toBe("GET /events?entity=todos&mode=fields");
    taken();
    push(link, 1);
    await rest();
    expect(taken()).toEqual([{ type: "conflict", ...conflict }]);
    clock.pass(2000);
    expect(taken()).toEqual([{ type: "ack", mutation: 1, stamps }]);
  });

  const mine = (mutation: number) => ({ type: "changes", shape: "s", changes: [{ op: "put", key: "1", row: {}, client_id: "me", mutation }] });
  const push = (link: Link, mutation: number) => {
    link.send({ type: "push", mutation, writes: [{ entity: "todos", op: "delete", key: 1 }] });
    return rest();
  };

  test("a subscription is a stream, whose frames get its id", async () => {
    const { requests, say, taken } = await subscribed();
    expect(requests[1]).toBe("GET /events?entity=todos&where=a+%3D+%241&params=%5B%22%C3%A4%26%22%5D&columns=id%2Ca&cursor=c0");
    await say(0, { type: "changes", shape: "s", changes: [] }, { type: "cursor", cursor: "c2" }, { type: "refetch", id: "todos", reason: "schema" });
    expect(taken()).toEqual([
      { type: "changes", shape: "7", changes: [] },
      { type: "cursor", cursor: "c2", id: 7 },
      { type: "refetch", id: 7, reason: "schema" },
    ]);
  });

  test("an ack waits for the change with its mutation's id, and comes just before the cursor", async () => {
    const { link, say, taken } = await subscribed();
    await push(link, 3);
    expect(taken()).toEqual([]);
    await say(0, { type: "cursor", cursor: "c2" });
    expect(taken()).toEqual([{ type: "cursor", cursor: "c2", id: 7 }]);
    await say(0, mine(3), { type: "cursor", cursor: "c3" });
    expect(taken().slice(1)).toEqual([{ type: "ack", mutation: 3 }, { type: "cursor", cursor: "c3", id: 7 }]);
  });

  test("an ack that is slower than its change comes at once", async () => {
    const { link, say, taken } = await subscribed();
    await say(0, mine(3), { type: "cursor", cursor: "c2" });
    taken();
    await push(link, 3);
    expect(taken()).toEqual([{ type: "ack", mutation: 3 }, { type: "cursor", cursor: "c2", id: 7 }]);
  });

  test("SPEC 19: a mutation is posted to the entity of its first write, one of calls alone to the mutators", async () => {
    const { link, requests } = await subscribed();
    link.send({ type: "push", mutation: 1, writes: [{ mutator: "a" }, { entity: "todos", op: "delete", key: 1 }, { entity: "lists", op: "delete", key: 1 }] });
    await rest();
    link.send({ type: "push", mutation: 2, writes: [{ mutator: "a" }, { mutator: "b", args: [1] }] });
    await rest();
    expect(requests.slice(-2)).toEqual(["POST /todos", "POST /mutators"]);
  });

  test("an ack whose change was overwritten comes after a while, without making half a step visible", async () => {
    const { clock, link, say, taken } = await subscribed();
    await push(link, 3);
    await say(0, { type: "changes", shape: "s", changes: [{ op: "put", key: "1", row: {} }] });
    taken();
    clock.pass(2_000);
    expect(taken()).toEqual([{ type: "ack", mutation: 3 }]);
    await say(0, { type: "cursor", cursor: "c2" });
    expect(taken()).toEqual([{ type: "cursor", cursor: "c2", id: 7 }]);
  });
});

describe("SPEC 12: over server-sent events", () => {
  test.each([[401, 4401], [403, 4403], [503, 1006]])("a server that answers %d closes with %d", async (status, code) => {
    const { open, closed } = setup({ status });
    await open();
    expect(closed).toEqual([code]);
  });

  test("an impossible list is an error of that list; a stream that ends ends the connection", async () => {
    const { open, streams, frames, closed } = setup();
    const link = await open();
    link.send({ type: "subscribe", id: 1, entity: "unknown" });
    link.send({ type: "subscribe", id: 2, entity: "todos" });
    await rest();
    expect(frames.at(-1)).toMatchObject({ type: "error", code: "unknown_entity", id: 1, fatal: false });
    expect(closed).toEqual([]);
    streams[0]!.close();
    await rest();
    expect(closed).toEqual([1006]);
  });

  test("more lists than a browser has connections are errors, and do not hang", async () => {
    const { open, frames } = setup();
    const link = await open();
    for (let id = 1; id <= 6; id++) link.send({ type: "subscribe", id, entity: "todos" });
    await rest();
    expect(frames.filter((frame) => "code" in frame)).toMatchObject([{ code: "too_many_subscriptions", id: 6 }]);
  });

  test("after `out_of_order` the next connection continues from the server's count", async () => {
    const { open, frames } = setup({ post: ({ mutation }) => [409, { type: "reject", mutation, code: "out_of_order", message: "", expected: 5 }] });
    const link = await open();
    expect(frames.at(-1)).toMatchObject({ type: "welcome", last_mutation: -1, features: ["rows"] });
    link.send({ type: "push", mutation: 9, writes: [] });
    await rest();
    expect(frames.at(-1)).toMatchObject({ type: "reject", code: "out_of_order" });
    link.close();
    await open();
    expect(frames.at(-1)).toMatchObject({ type: "welcome", last_mutation: 4 });
  });
});

describe("SPEC 16: over server-sent events", () => {
  const push = async (status: number, said: object) => {
    const world = setup({ post: () => [status, said] });
    const link = await world.open();
    world.taken();
    link.send({ type: "push", mutation: 9, writes: [{ entity: "todos", op: "delete", key: "1" }] });
    await rest();
    return world;
  };

  test.each([
    [400, "protocol", { code: "protocol", message: "not a mutation" }],
    [404, "unknown_entity", { code: "unknown_entity", message: "none" }],
    [413, "too_large", {}],
  ])("a POST that is answered with %d is refused for good as %s, with its number", async (status, code, said) => {
    const { frames, closed } = await push(status, said);
    expect(frames).toMatchObject([{ type: "error", code, mutation: 9, fatal: false }]);
    expect(closed).toEqual([]);
  });

  test.each([[404, {}], [503, { code: "unavailable" }]])("a POST that is answered with %d by whatever is in between is tried again", async (status, said) => {
    const { frames, closed } = await push(status, said);
    expect(frames).toEqual([]);
    expect(closed).toEqual([1006]);
  });
});

describe("SPEC 17: over server-sent events", () => {
  /** A page at `origin`, and what `fetch` does with requests that a page of that origin may read or not. */
  function page(origin: string, answers: (mode: RequestMode | undefined) => Promise<Response>) {
    vi.stubGlobal("location", { origin });
    vi.stubGlobal("fetch", async (_url: string, { mode }: RequestInit) => answers(mode));
    return new Promise<[number, string]>((resolve) => {
      const handlers = { opened: () => link.send({ type: "hello", protocol: 1, client_id: "me" }), received() {}, frame() {}, problem() {} };
      const link = serverSentEvents(new URL("http://server.test/api/sync"), new ManualClock()).open({ ...handlers, closed: (code, reason) => resolve([code, reason]) });
    });
  }
  const refuse = () => Promise.reject(new TypeError("Failed to fetch"));

  test("a server that does not admit the page's origin is told from one that does not answer", async () => {
    const admitted = page("http://other.test", (mode) => (mode === "no-cors" ? Promise.resolve(new Response()) : refuse()));
    expect(await admitted).toEqual([1006, expect.stringContaining("does not admit pages of http://other.test")]);
    expect(await page("http://other.test", refuse)).toEqual([1006, "nothing answers at http://server.test/api/sync"]);
    expect(await page("http://server.test", refuse)).toEqual([1006, "nothing answers at http://server.test/api/sync"]);
  });

  test("an answer that is no success is repeated in the reason", async () => {
    const answer = page("http://server.test", async () => new Response("this server answers only to its names", { status: 421 }));
    expect(await answer).toEqual([1006, expect.stringMatching(/421 this server answers only/)]);
  });
});
