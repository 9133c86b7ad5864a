/** One selection on one connection: its phase, and what is held back for it. */

import type { SchemaSummary, SubscriptionId } from "../protocol/generated.js";
import type { Selection } from "../replica/selection.js";
import type { QueryCommit, RowsCommit } from "../replica/commit.js";
import { HeldChanges } from "./held.js";
import type { Phase } from "./phases.js";

export class Subscription {
  phase: Phase = "asked";
  held = new HeldChanges();
  shape: string | undefined;
  /** The server cannot read its rows for now and goes on trying; nobody else waits for it. */
  unavailable = false;
  /** Acks up to this one (counted by the session) are contained in its rows. */
  covers = -1;

  /**
   * @param askedAt the session's count of acks when the server was asked: what was acked before is
   *   in whatever the server reads from then on.
   */
  constructor(
    readonly id: SubscriptionId,
    readonly selection: Selection,
    public askedAt: number,
    resumes: boolean,
  ) {
    if (!resumes) this.held.reset();
  }

  get isLive(): boolean {
    return this.phase === "live";
  }

  /** Whether its rows are on their way. */
  get isJoining(): boolean {
    return (this.phase === "asked" || this.phase === "filling") && !this.unavailable;
  }

  /** Forgets what is held: a snapshot follows. */
  restart(askedAt: number): void {
    this.held = new HeldChanges();
    this.held.reset();
    this.shape = undefined;
    this.askedAt = askedAt;
  }

  release(cursor: string, settled: string[], schema?: SchemaSummary): QueryCommit {
    const rows: RowsCommit = { ...this.held.release(), cursor };
    if (schema) rows.schema = schema;
    return { name: this.selection.name, phase: "live", rows, settled };
  }
}
