/** JSON as the wire carries it, and the rows and keys made of it. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A row as it comes from the server: column by column, JSON values. */
export type Row = { [column: string]: Json };

/** The canonical text of a primary key. */
export type RowKey = string;
