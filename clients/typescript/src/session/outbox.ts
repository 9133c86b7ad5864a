/**
 * Sends the queue: numbers mutations, sends them in order, and matches answers.
 *
 * A mutation gets its number, and the chain up to it, just before it is first sent, and both are stored before
 * that. So a mutation that is sent again has the same number, and no number stands for two, unless two stores
 * have one client id. That the chain finds out: then those that the server may know are sent once more, to learn
 * which it applied, and the others go on under a new client id.
 */

import { isCall, type ChainLink, type Mutation, type Numbering, type Rejection } from "../replica/mutation.js";
import { LAST_MUTATION_UNKNOWN, type PushFrame, type RejectFrame, type WelcomeFrame } from "../protocol/frames.js";
import { CHAIN_START, chainAfter } from "./chain.js";
import { REJECT_CODES, type Limits, type RejectCode, type Step } from "../protocol/generated.js";

/** How many mutations may wait for answers: half of those whose chain the server keeps. */
const WINDOW = 32;
/** A push without its writes, at most: also in a POST, where the client's id is part of it. */
const ENVELOPE_BYTES = 256;

export interface OutboxPorts {
  /** Every mutation without an answer, oldest first. */
  queue(): readonly Mutation[];
  send(push: PushFrame): void;
  /** Stores numbers. */
  number(assigned: readonly Numbering[]): Promise<void>;
  /** The highest number that was ever assigned. */
  lastNumber(): number;
  /** The newest mutation that the server has answered, if it is known. */
  last(): ChainLink | undefined;
  /** Takes a new client id, and connects again; no mutation has a number then. */
  fork(): void;
  rejected(rejection: Rejection): void;
  /** Whether the store is still taking it, so that its writes may become others. */
  isSaving(id: string): boolean;
  /** The writes as this client may send them. */
  writes(mutation: Mutation): Step[];
  /** Whether rows are on their way that an ack would have to come after. */
  mustWait(): boolean;
}

export class Outbox {
  readonly #ports: OutboxPorts;
  #connection = 0;
  #open = false;
  #numbering = false;
  #lastMutation = 0;
  /** The highest number that the server is known to have seen. */
  #head: ChainLink = { number: 0 };
  /** The chains of the numbers up to the head that may still be taken back. */
  readonly #links = new Map<number, ChainLink>();
  /** The server knows other mutations under the numbers of this client. */
  #forked = false;
  /** Mutations whose numbers the server knows for others. */
  readonly #free = new Set<string>();
  #limits: Limits = { frame_bytes_max: Infinity, subscriptions_max: Infinity, writes_max: Infinity };
  #features: readonly string[] = [];
  /** The mutations that were sent on this connection and not answered. */
  #waiting = new Map<number, Mutation>();
  /** Answered mutations that stay in the queue until the rows of every query contain them. */
  #answered = new Set<string>();
  /** Mutations that were checked against the limits of this connection. */
  #checked = new Set<string>();
  /** How many mutations may be the one that the server did not understand; they are sent one by one. */
  #suspects = 0;

  constructor(ports: OutboxPorts) {
    this.#ports = ports;
  }

  welcome(welcome: WelcomeFrame): void {
    this.#connection += 1;
    this.#open = true;
    this.#numbering = false;
    this.#lastMutation = welcome.last_mutation;
    this.#compare(welcome);
    this.#limits = welcome.limits;
    this.#features = welcome.features;
    this.#checked.clear();
    this.pump();
  }

  lost(): void {
    this.#connection += 1;
    this.#open = false;
    this.#waiting.clear();
  }

  /** Sends what can be sent. To be called whenever that may have changed. */
  pump(): void {
    if (!this.#open || this.#numbering || this.#ports.mustWait()) return;
    this.#rejectUnsendable();
    const unanswered = this.#unanswered();
    if (this.#forked) return this.#ask(unanswered);
    const assigned = this.#misnumbered(unanswered);
    if (assigned.length === 0) return this.#send(unanswered);
    const connection = this.#connection;
    this.#numbering = true;
    this.#ports.number(assigned).then(
      () => {
        if (connection !== this.#connection) return;
        this.#numbering = false;
        this.pump();
      },
      // Numbers that cannot be stored cannot be used: the next connection tries again.
      () => {
        if (connection === this.#connection) this.#numbering = false;
      },
    );
  }

  /** Takes an ack; returns its mutation. */
  acked(number: number): Mutation | undefined {
    const mutation = this.#take(number);
    this.pump();
    return mutation;
  }

  /** Takes a reject; undefined when it belongs to no mutation here, or is not final. */
  rejected(frame: RejectFrame): { mutation: Mutation; rejection: Rejection } | undefined {
    if (frame.code === "out_of_order") return undefined;
    if (frame.code === "forked") return void this.#forkedAt(frame.mutation);
    const mutation = this.#take(frame.mutation);
    this.pump();
    return mutation && { mutation, rejection: rejection(mutation, frame) };
  }

  /**
   * Takes an error that answers a push without being its reject: the server did not understand the frame, or
   * it was too large, so the number is still free. Sent again it would fail again, so it becomes a dead
   * letter.
   *
   * @returns `none`: no push can be meant; `found`: it was this one, or the one with `number`; `unsure`: it is
   *   one of several, which are sent one by one on the next connection.
   */
  blame(code: string, message: string, number?: number): "none" | "found" | "unsure" {
    const mutation = number === undefined && this.#waiting.size === 1 ? [...this.#waiting.values()][0] : this.#waiting.get(number ?? -1);
    if (!mutation) {
      this.#suspects = Math.max(this.#suspects, this.#waiting.size);
      return this.#waiting.size ? "unsure" : "none";
    }
    this.#take(mutation.number ?? 0);
    this.#suspects = 0;
    // Later numbers that are under way will be `out_of_order`, and the next `welcome` sorts them out.
    const before = (mutation.number ?? 1) - 1;
    if (this.#waiting.size === 0) this.#head = this.#links.get(before) ?? { number: before };
    const known = (REJECT_CODES as readonly string[]).includes(code);
    this.#ports.rejected(rejection(mutation, { code: known ? (code as RejectCode) : "invalid", message }));
    this.pump();
    return "found";
  }

  #take(number: number): Mutation | undefined {
    const mutation = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (!mutation) return undefined;
    this.#answered.add(mutation.id);
    this.#suspects = Math.max(0, this.#suspects - 1);
    return mutation;
  }

  /** Whether a mutation has been answered, and only waits for its rows. */
  hasAnswered(id: string): boolean {
    return this.#answered.has(id);
  }

  /** Finds out whether the server and this store mean the same by the numbers of this client. */
  #compare({ last_mutation: number, last_chain: chain }: WelcomeFrame): void {
    const highest = this.#ports.lastNumber();
    const known = number === LAST_MUTATION_UNKNOWN ? highest : number;
    const own = this.#chainAt(known);
    // A store from before there were chains has none to compare, and takes the server's.
    const hasChains = this.#ports.last() !== undefined || this.#ports.queue().some((mutation) => mutation.chain !== undefined);
    this.#forked = known > highest || (chain !== undefined && own !== chain && hasChains);
    this.#free.clear();
    this.#links.clear();
    const before = chain ?? own;
    this.#advance({ number: known, ...(before !== undefined && { chain: before }) });
  }

  /** The chain up to a number, as far as this store knows. */
  #chainAt(number: number): string | undefined {
    if (number === 0) return CHAIN_START;
    const last = this.#ports.last();
    return last?.number === number ? last.chain : this.#ports.queue().find((mutation) => mutation.number === number)?.chain;
  }

  #advance(link: ChainLink): void {
    this.#head = link;
    this.#links.set(link.number, link);
    this.#links.delete(link.number - 2 * WINDOW);
  }

  /** Sends again what has a number that the server knows, and nothing else; then begins under a new id. */
  #ask(unanswered: readonly Mutation[]): void {
    const asked = unanswered.filter(({ id, number }) => number !== undefined && number <= this.#lastMutation && !this.#free.has(id));
    if (asked.length || this.#waiting.size) return this.#send(asked);
    this.#open = false;
    this.#ports.fork();
  }

  #forkedAt(number: number): void {
    const mutation = this.#waiting.get(number);
    if (!mutation) return;
    this.#waiting.delete(number);
    this.#free.add(mutation.id);
    this.#forked = true;
    this.pump();
  }

  #unanswered(): Mutation[] {
    const queue = this.#ports.queue();
    for (const id of this.#answered) {
      if (!queue.some((mutation) => mutation.id === id)) this.#answered.delete(id);
    }
    const saving = queue.findIndex(({ id }) => this.#ports.isSaving(id));
    const unanswered = queue.filter(({ id, number }, index) => !this.#answered.has(id) && (saving < 0 || index < saving || number !== undefined));
    // Numbered mutations come first, in whatever order other tabs' writes arrived.
    return unanswered.sort((a, b) => (a.number ?? Infinity) - (b.number ?? Infinity) || 0);
  }

  /**
   * The mutations that need a number, or another one: a server that does not know the numbers below
   * one of these is another database or an older copy of it, and continues from its own count.
   */
  #misnumbered(unanswered: readonly Mutation[]): Numbering[] {
    const known = this.#lastMutation !== LAST_MUTATION_UNKNOWN;
    let { number: last, chain } = this.#head;
    const assigned: Numbering[] = [];
    for (const mutation of unanswered) {
      const { id, number, chain: stored } = mutation;
      const settled = number !== undefined && (number <= this.#lastMutation || !known || this.#waiting.has(number));
      if (settled) {
        // It may have been stored and not sent yet.
        if (number > last) [last, chain] = [number, stored];
        continue;
      }
      last += 1;
      const writes = this.#ports.writes(mutation);
      if (chain !== undefined) chain = chainAfter(chain, writes);
      if (number === last && stored === chain) continue;
      assigned.push({ id, number: last, ...(chain !== undefined && { chain }), ...(writes !== mutation.writes && { writes }) });
    }
    return assigned;
  }

  #send(unanswered: readonly Mutation[]): void {
    for (const mutation of unanswered) {
      if (this.#waiting.size >= (this.#suspects ? 1 : WINDOW)) return;
      const { number, chain, writes } = mutation;
      if (number === undefined || this.#waiting.has(number)) continue;
      const link: ChainLink = { number, ...(chain !== undefined && { chain }) };
      this.#waiting.set(number, mutation);
      if (number > this.#head.number) this.#advance(link);
      this.#ports.send({ type: "push", mutation: number, ...(chain !== undefined && { chain }), writes });
    }
  }

  /** Rejects here what cannot be sent, or would end the connection, so that it holds up nothing. */
  #rejectUnsendable(): void {
    for (const mutation of this.#unanswered()) {
      const { id, number } = mutation;
      if (this.#checked.has(id) || (number !== undefined && this.#waiting.has(number))) continue;
      this.#checked.add(id);
      const fault = this.#fault(mutation);
      if (!fault) continue;
      this.#answered.add(id);
      this.#ports.rejected(rejection(mutation, fault));
    }
  }

  /** Why a mutation cannot be sent. */
  #fault({ writes, number, fault }: Mutation): { code: RejectCode; message: string } | undefined {
    if (fault !== undefined) return { code: "invalid", message: fault };
    // One with a number may have been sent, and the server then knows the answer.
    if (number === undefined && writes.some(isCall) && !this.#features.includes("mutators")) {
      return { code: "unknown_mutator", message: "the server has no mutators" };
    }
    const { writes_max: writesMax, frame_bytes_max: bytesMax } = this.#limits;
    let bytes: number;
    try {
      bytes = new TextEncoder().encode(JSON.stringify(writes)).length + ENVELOPE_BYTES;
    } catch (cause) {
      return { code: "invalid", message: `this cannot be sent: ${String(cause)}` };
    }
    if (writes.length <= writesMax && bytes <= bytesMax) return undefined;
    const before = number !== undefined && number <= this.#lastMutation ? "; the server has decided on it, with an answer that did not arrive" : "";
    return { code: "too_large", message: `at most ${writesMax} writes and ${bytesMax} bytes in one mutation${before}` };
  }
}

function rejection(
  { id, writes, madeAt }: Mutation,
  { code, message, write, column, reason }: { code: RejectCode; message: string; write?: number; column?: string; reason?: string },
): Rejection {
  const rejected: Rejection = { id, writes, madeAt, code, message };
  if (write !== undefined) rejected.write = write;
  if (column !== undefined) rejected.column = column;
  if (reason !== undefined) rejected.reason = reason;
  return rejected;
}
