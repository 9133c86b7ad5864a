/** Whether a row belongs to a query, as far as the client can tell. Filters are parsed once. */

import type { Row } from "../protocol/value.js";
import type { Copy } from "../replica/copy.js";
import { evaluate, Undecidable, type ColumnType } from "./evaluate.js";
import { parseFilter, type Expression } from "./parse.js";

export class Matcher {
  #parsed = new Map<string, Expression | undefined>();

  /** True or false; undefined when only the server can tell. */
  matches({ query }: Copy, row: Row, typeOf: ColumnType): boolean | undefined {
    if (query.where === undefined) return true;
    const expression = this.#expression(query.where);
    if (!expression) return undefined;
    try {
      return evaluate(expression, row, query.params ?? [], typeOf) === true;
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
