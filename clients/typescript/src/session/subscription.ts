/** One selection on one connection: its phase, and what is held back for it. */

import type { SubscriptionId } from "../protocol/generated.js";
import type { Row, RowKey } from "../protocol/json.js";
import type { QueryCommit, RowsCommit, Schema } from "../replica/commit.js";
import type { Selection } from "../replica/selection.js";
import { HeldChanges } from "./held.js";
import type { Phase } from "./phases.js";

export class Subscription {
  phase: Phase = "asked";
  held = new HeldChanges();
  shape: string | undefined;
  /** The server cannot read its rows for now and keeps trying; nothing else waits for it. */
  unavailable = false;
  /** Its rows contain the acks up to this one, as the session counts them. */
  covers = -1;

  /**
   * @param askedAt the session's count of acks when the server was asked: whatever the server reads
   *   from then on contains those before.
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

  /** Drops what is held: a snapshot follows. */
  restart(askedAt: number): void {
    this.held = new HeldChanges();
    this.held.reset();
    this.shape = undefined;
    this.askedAt = askedAt;
  }

  /** @param before the rows as they are. */
  release(cursor: string, settled: string[], before: ReadonlyMap<RowKey, Row>, schema?: Schema): QueryCommit {
    const rows: RowsCommit = { ...this.held.release(this.selection.limit !== undefined, before), cursor };
    if (schema) rows.schema = schema;
    return { name: this.selection.name, phase: "live", rows, settled };
  }
}
