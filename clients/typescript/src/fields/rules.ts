/** How an entity's rows merge, as the server tells it; `Rules` of the server's own code as JSON. */

/**
 * What happens when two wrote the same field and neither had seen the other's value: the later clock wins, what the server
 * has is kept, what the client wrote is kept, or the later wins and the other value is kept beside it.
 */
export type FieldMergeStrategy = "last_write_wins" | "server_wins" | "client_wins" | "keep_both";

/** How the values of a column compare, where the greatest or the least is kept. */
export type Comparison = "number" | "timestamp" | "date" | "json";

/**
 * What a column's values are: one value with a clock, a number to which increments add up, an array as a set in which
 * adding wins, the greatest or the least that was written, or the text of a document, which is a register here.
 */
export type ColumnMerge = "register" | "counter" | "set" | "text" | { readonly max: Comparison } | { readonly min: Comparison };

export interface ColumnRule {
  readonly merge: ColumnMerge;
  /** Another strategy than the entity's. */
  readonly strategy?: FieldMergeStrategy;
}

/** All replicas of an entity must have the same. */
export interface Rules {
  /** For the columns that have none of their own. */
  readonly strategy: FieldMergeStrategy;
  /** Whether a row stays deleted when somebody edits it later without having seen that, or comes back. */
  readonly deletes: "win" | "revive";
  /** The columns that are more than a register with the entity's strategy. */
  readonly columns: { readonly [column: string]: ColumnRule };
}

export function mergeOf(rules: Rules, column: string): ColumnMerge {
  return ruleOf(rules, column)?.merge ?? "register";
}

export function strategyOf(rules: Rules, column: string): FieldMergeStrategy {
  return ruleOf(rules, column)?.strategy ?? rules.strategy;
}

/** A column may have the name of what every object has. */
function ruleOf({ columns }: Rules, column: string): ColumnRule | undefined {
  return Object.hasOwn(columns, column) ? columns[column] : undefined;
}
