/** The part of a tab without the connection: it applies the steps that the leader sends. */

import { emptyCommit, type Commit } from "../replica/commit.js";
import type { Replica } from "../replica/replica.js";
import type { Selection } from "../replica/selection.js";
import type { Message, QueryState, SharedStatus } from "./message.js";

export interface FollowerPorts {
  post(message: Message): void;
  status(status: SharedStatus): void;
}

export class Follower {
  readonly #id: string;
  readonly #replica: Replica;
  /** What this tab shows, by name. */
  readonly #wanted: ReadonlyMap<string, Selection>;
  readonly #ports: FollowerPorts;
  /** How many of the leader's steps this tab has applied; undefined before its first answer. */
  #count: number | undefined;
  /** The queries whose state the leader has sent. */
  readonly #followed = new Set<string>();

  constructor(id: string, replica: Replica, wanted: ReadonlyMap<string, Selection>, ports: FollowerPorts) {
    this.#id = id;
    this.#replica = replica;
    this.#wanted = wanted;
    this.#ports = ports;
  }

  /** Sends the leader what this tab shows. */
  want(): void {
    this.#ports.post({ type: "want", selections: [...this.#wanted.values()], again: this.#count === undefined });
  }

  unwant(name: string): void {
    this.#followed.delete(name);
    this.#replica.drop(name);
    this.want();
  }

  /** Asks for everything again: there is a new leader, or steps were missed. */
  restart(): void {
    this.#count = undefined;
    this.#followed.clear();
    this.want();
  }

  receive(_from: string, message: Message): void {
    switch (message.type) {
      case "lead":
        return this.restart();
      case "rows":
        if (message.to === this.#id) this.#take(message.query);
        return;
      case "commit":
        return this.#apply(message.count, message.commit);
      case "numbered":
        return this.#replica.number(message.assigned);
      case "forked":
        return this.#replica.unnumber();
      case "status":
        return this.#ports.status(message.status);
    }
  }

  #apply(count: number, commit: Commit): void {
    if (this.#count !== undefined && count !== this.#count + 1) this.restart();
    else if (this.#count !== undefined) this.#count = count;
    // A step continues the leader's state of a query, so it fits only queries whose state it sent.
    const queries = commit.queries.filter(({ name }) => this.#followed.has(name));
    this.#replica.apply({ ...commit, queries });
  }

  #take({ name, rows, phase, error, cursor, schema, order, settled, count }: QueryState): void {
    this.#count = Math.max(this.#count ?? 0, count);
    if (!this.#wanted.has(name)) return;
    this.#followed.add(name);
    const whole = { reset: true, puts: rows, gone: [], ...(cursor !== undefined && { cursor }), ...(schema && { schema }), ...(order && { order }) };
    // A leader that is still loading has less than the store.
    const query = { name, settled, ...(error && { error }), ...(phase !== "loading" && { phase, rows: whole }) };
    this.#replica.apply({ ...emptyCommit(), queries: [query] });
  }
}
