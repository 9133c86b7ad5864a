/**
 * The life of one subscription on one connection, as a table of every phase and event.
 *
 *   asked ──snapshot──> filling ──subscribed──> live ──refetch──> asked
 *     └──────changes (own id), subscribed────────^
 *
 * `asked`: nothing or only the difference since our cursor has come. `filling`: pages of a snapshot
 * have come. In both, what comes is held back, and the user sees the rows that were there before.
 */

export type Phase = "asked" | "filling" | "live" | "refused";

/** The frames that concern one subscription; `changesById` and `changesByShape` by what they carry. */
export type PhaseEvent =
  | "snapshot" | "changesById" | "changesByShape" | "subscribed" | "cursor" | "refetch" | "refused";

/**
 * What to do: `hold` what the frame carries, `commit` what is held, `join` (commit and go live),
 * `restart` (forget what is held, wait for a snapshot), `refuse` (the server will send nothing more),
 * `ignore`, or `violation`: the server broke the protocol, so ask for everything anew.
 */
export type PhaseAction = "hold" | "commit" | "join" | "restart" | "refuse" | "ignore" | "violation";

export const PHASES: Record<Phase, Record<PhaseEvent, readonly [PhaseAction, Phase]>> = {
  asked: {
    snapshot: ["hold", "filling"],
    changesById: ["hold", "asked"],
    changesByShape: ["ignore", "asked"],
    subscribed: ["join", "live"],
    cursor: ["ignore", "asked"],
    refetch: ["restart", "asked"],
    refused: ["refuse", "refused"],
  },
  filling: {
    snapshot: ["hold", "filling"],
    changesById: ["hold", "filling"],
    changesByShape: ["ignore", "filling"],
    subscribed: ["join", "live"],
    cursor: ["ignore", "filling"],
    refetch: ["restart", "asked"],
    refused: ["refuse", "refused"],
  },
  live: {
    snapshot: ["violation", "asked"],
    changesById: ["violation", "asked"],
    changesByShape: ["hold", "live"],
    subscribed: ["violation", "asked"],
    cursor: ["commit", "live"],
    refetch: ["restart", "asked"],
    refused: ["refuse", "refused"],
  },
  refused: {
    snapshot: ["ignore", "refused"],
    changesById: ["ignore", "refused"],
    changesByShape: ["ignore", "refused"],
    subscribed: ["ignore", "refused"],
    cursor: ["ignore", "refused"],
    refetch: ["ignore", "refused"],
    refused: ["ignore", "refused"],
  },
};
