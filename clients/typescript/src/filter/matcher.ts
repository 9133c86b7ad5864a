/** Tells whether a row fulfils a condition, as far as the client can. Parses each filter once. */

import type { Json, Row } from "../protocol/json.js";
import { evaluate, Undecidable, type ColumnType } from "./evaluate.js";
import { parseFilter, type Expression } from "./parse.js";

/** A filter and the values of its `$1…`. */
export interface Condition {
  where?: string;
  params?: readonly Json[];
}

export class Matcher {
  #parsed = new Map<string, Expression | undefined>();

  /** Undefined when only the server can tell. */
  matches({ where, params = [] }: Condition, row: Row, typeOf: ColumnType): boolean | undefined {
    if (where === undefined) return true;
    const expression = this.#expression(where);
    if (!expression) return undefined;
    try {
      return evaluate(expression, row, params, typeOf) === true;
    } catch (error) {
      if (error instanceof Undecidable) return undefined;
      throw error;
    }
  }

  #expression(where: string): Expression | undefined {
    if (!this.#parsed.has(where)) this.#parsed.set(where, parseFilter(where));
    return this.#parsed.get(where);
  }
}
