/**
 * The life of one subscription on one connection, as a table of every phase and event.
 *
 *   asked ──snapshot──> filling ──subscribed──> live ──refetch──> asked
 *     └──────changes (own id), subscribed────────^
 *
 * `asked`: nothing has come, or only changes since the cursor. `filling`: pages of a snapshot have come.
 * In both, what comes is held back, and the user sees the previous rows.
 */

export type Phase = "asked" | "filling" | "live" | "failed";

/** The frames for one subscription; `changes` by whether they carry its id or its shape. */
export type PhaseEvent =
  | "snapshot" | "changesById" | "changesByShape" | "subscribed" | "cursor" | "refetch" | "error";

/**
 * What to do: `hold` what the frame carries, `commit` what is held, `join` (commit and go live),
 * `restart` (drop what is held, wait for a snapshot), `fail` (the server will send nothing more),
 * `ignore`, or `violation`: the server broke the protocol, so ask for the rows again.
 */
export type PhaseAction = "hold" | "commit" | "join" | "restart" | "fail" | "ignore" | "violation";

export const PHASES: Record<Phase, Record<PhaseEvent, readonly [PhaseAction, Phase]>> = {
  asked: {
    snapshot: ["hold", "filling"],
    changesById: ["hold", "asked"],
    changesByShape: ["ignore", "asked"],
    subscribed: ["join", "live"],
    cursor: ["ignore", "asked"],
    refetch: ["restart", "asked"],
    error: ["fail", "failed"],
  },
  filling: {
    snapshot: ["hold", "filling"],
    changesById: ["hold", "filling"],
    changesByShape: ["ignore", "filling"],
    subscribed: ["join", "live"],
    cursor: ["ignore", "filling"],
    refetch: ["restart", "asked"],
    error: ["fail", "failed"],
  },
  live: {
    snapshot: ["violation", "asked"],
    changesById: ["violation", "asked"],
    changesByShape: ["hold", "live"],
    subscribed: ["violation", "asked"],
    cursor: ["commit", "live"],
    refetch: ["restart", "asked"],
    error: ["fail", "failed"],
  },
  failed: {
    snapshot: ["ignore", "failed"],
    changesById: ["ignore", "failed"],
    changesByShape: ["ignore", "failed"],
    subscribed: ["ignore", "failed"],
    cursor: ["ignore", "failed"],
    refetch: ["ignore", "failed"],
    error: ["ignore", "failed"],
  },
};
