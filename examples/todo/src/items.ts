/**
 * The items of a list. Only the visible ones are in the document, so that ten thousand scroll like ten;
 * each keeps its element, so that focus and edits survive a change from elsewhere.
 */

import type { View } from "@rhtmx/sync";
import type { ConflictsView } from "./conflicts.js";
import { find } from "./dom.js";
import { Item, type ItemActions } from "./item.js";
import { ITEM_HEIGHT_PX, Layout } from "./layout.js";
import type { Device, Todo } from "./model.js";

/** Items beyond each edge of the visible part. */
const OVERSCAN = 6;

export class ItemList {
  readonly #scroll: HTMLElement;
  readonly #list: HTMLElement;
  readonly #device: Device;
  readonly #actions: ItemActions;
  readonly #conflicts: ConflictsView;
  readonly #items = new Map<string, Item>();
  #view: View<Todo> | undefined;
  #reveal = false;
  #fresh = true;

  constructor(scroll: HTMLElement, device: Device, conflicts: ConflictsView, actions: ItemActions) {
    this.#scroll = scroll;
    this.#list = find(scroll, ".items");
    this.#device = device;
    this.#conflicts = conflicts;
    this.#actions = actions;
    let asked = false;
    const drawSoon = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        this.draw();
      });
    };
    scroll.addEventListener("scroll", drawSoon, { passive: true });
    new ResizeObserver(drawSoon).observe(scroll);
  }

  /** Shows another list. */
  show(view: View<Todo>): void {
    this.#view = view;
    this.#fresh = true;
    for (const item of this.#items.values()) item.root.remove();
    this.#items.clear();
    this.#scroll.scrollTop = 0;
  }

  /** Scrolls to the item that is added next. */
  reveal(): void {
    this.#reveal = true;
    this.draw();
  }

  draw(): void {
    const view = this.#view;
    if (!view) return;
    const { rows } = view;
    const layout = this.#layout(rows);
    this.#list.style.height = `${layout.height}px`;
    if (this.#reveal) this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#reveal = false;
    const first = Math.max(0, layout.at(this.#scroll.scrollTop) - OVERSCAN);
    const seen = Math.ceil(this.#scroll.clientHeight / ITEM_HEIGHT_PX) + 2 * OVERSCAN;
    const gone = new Set(this.#items.keys());
    for (let index = first; index < Math.min(rows.length, first + seen); index++) {
      const todo = rows[index]!;
      gone.delete(todo.id);
      let item = this.#items.get(todo.id);
      if (!item) {
        item = new Item(this.#device, this.#actions);
        this.#items.set(todo.id, item);
        this.#list.append(item.root);
      }
      item.place(layout.top(index), view.isPending(todo.id));
      item.drawConflict(this.#conflicts.of(todo.id));
      item.draw(todo, !this.#fresh);
    }
    for (const key of gone) {
      // An item that is being edited stays where it was until then.
      const item = this.#items.get(key)!;
      if (item.isEditing && view.get(key)) continue;
      item.root.remove();
      this.#items.delete(key);
    }
    if (rows.length) this.#fresh = false;
  }

  #layout(rows: readonly Todo[]): Layout {
    const conflicts = this.#conflicts;
    const contested = conflicts.isEmpty ? [] : rows.flatMap(({ id }, index) => (conflicts.of(id) ? [index] : []));
    conflicts.count(contested.length);
    return new Layout(rows.length, contested);
  }
}
