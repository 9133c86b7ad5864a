/** Who else looks at this list, and what they are editing: live rows, written at intervals. */

import type { View } from "@rhtmx/sync";
import { say } from "./dom.js";
import { recall, remember } from "./memory.js";
import type { Device, Viewer } from "./model.js";

const BEAT_MS = 15_000;
/** A viewer without a sign of life for so long is not shown. */
const PRESENT_MS = 40_000;
/** Rows that are older are deleted by the next viewer. */
const FORGOTTEN_MS = 60 * 60 * 1000;

export class ViewersLine {
  readonly #device: Device;
  readonly #id: string;
  readonly #name: string;
  readonly #line: HTMLElement;
  readonly #others: View<Viewer>;
  #list: string | null = null;
  #editing: string | null = null;
  #tidied = false;
  readonly #beat: ReturnType<typeof setInterval>;

  constructor(device: Device, name: string, line: HTMLElement) {
    this.#device = device;
    this.#name = name;
    this.#line = line;
    this.#id = deviceId(name);
    this.#others = device.viewers.live();
    this.#others.subscribe(() => this.#draw());
    device.on("status", ({ state }) => state === "live" && this.#write());
    this.#beat = setInterval(() => this.#write(), BEAT_MS);
  }

  close(): void {
    clearInterval(this.#beat);
  }

  at(list: string | null): void {
    this.#list = list;
    this.#write();
    this.#draw();
  }

  editing(todo: string | null): void {
    this.#editing = todo;
    this.#write();
  }

  /** Writes only while connected: what was true an hour ago on the train is of no use. */
  #write(): void {
    const mine = this.#others.get(this.#id);
    const said = mine && mine.list_id === this.#list && mine.todo_id === this.#editing;
    const recent = mine && Date.now() - Date.parse(mine.seen_at) < BEAT_MS - 1_000;
    if (this.#device.status.state !== "live" || (said && recent) || document.hidden) return;
    const seen_at = new Date().toISOString();
    this.#device.viewers.upsert({ id: this.#id, name: this.#name, list_id: this.#list, todo_id: this.#editing, seen_at });
    if (!this.#tidied) this.#tidy();
  }

  #tidy(): void {
    this.#tidied = true;
    for (const { id, seen_at } of this.#others.rows) {
      if (Date.now() - Date.parse(seen_at) > FORGOTTEN_MS) this.#device.viewers.delete(id);
    }
  }

  #draw(): void {
    const here = this.#others.rows.filter(
      ({ id, list_id, seen_at }) => id !== this.#id && list_id === this.#list && Date.now() - Date.parse(seen_at) < PRESENT_MS,
    );
    const names = [...new Set(here.map(({ name, todo_id }) => {
      const title = todo_id ? this.#device.todos.get(todo_id)?.title : undefined;
      return title ? `${name} is editing “${title}”` : `${name} is here`;
    }))];
    say(this.#line, names.join(" · "));
  }
}

/** The same after a reload; another in each browser. */
function deviceId(name: string): string {
  const key = `${name.toLowerCase()}:viewer`;
  const id = recall(key) ?? crypto.randomUUID?.() ?? `${name}-${Math.random().toString(36).slice(2)}`;
  remember(key, id);
  return id;
}
