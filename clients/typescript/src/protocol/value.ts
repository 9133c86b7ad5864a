/** What both sides of the protocol carry: JSON, rows and the names of things. */

export type { SubscriptionId } from "./generated.js";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A row as it comes from the server: column by column, JSON values. */
export type Row = { [column: string]: Json };

/** The canonical text of a primary key. */
export type RowKey = string;
