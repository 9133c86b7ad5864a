/** One item: shows a row, and turns what the user does with it into writes. */

import type { FieldConflict } from "@rhtmx/sync/fields";
import { find, fromTemplate, make, say } from "./dom.js";
import { PEOPLE } from "./login.js";
import type { Device, Todo } from "./model.js";

/** A clock begins with its moment. */
const MOMENT_CHARS = 24;

export interface ItemActions {
  move(todo: Todo, by: 1 | -1): void;
  /** The item that is being edited, or none. */
  editing(id: string | null): void;
}

export class Item {
  readonly root = fromTemplate("item-template");
  readonly #device: Device;
  readonly #actions: ItemActions;
  readonly #title = find<HTMLButtonElement>(this.root, ".title");
  readonly #notice = find(this.root, ".conflict");
  #todo: Todo | undefined;
  #conflict: FieldConflict | undefined;
  isEditing = false;

  constructor(device: Device, actions: ItemActions) {
    this.#device = device;
    this.#actions = actions;
    this.#button("input").onchange = () => this.#write({ done: find<HTMLInputElement>(this.root, "input").checked });
    this.#title.onclick = () => this.#edit();
    this.#button(".up").onclick = () => this.#todo && actions.move(this.#todo, -1);
    this.#button(".down").onclick = () => this.#todo && actions.move(this.#todo, 1);
    // On a touch screen these appear while the title is edited, and must not end that before their click.
    for (const button of this.root.querySelectorAll<HTMLElement>(".move")) button.onmousedown = (event) => event.preventDefault();
    this.#button(".assign").onclick = () => this.#write({ assignee: this.#next() });
    this.#button(".remove").onclick = () => this.#todo && device.todos.delete(this.#todo.id);
    this.#button(".keep").onclick = () => this.#resolve("keep");
    this.#button(".take").onclick = () => this.#resolve("take");
  }

  place(top: number, pending: boolean): void {
    this.root.style.transform = `translateY(${top}px)`;
    this.root.classList.toggle("pending", pending);
  }

  /** Says what was written besides, and asks which of both shall stand. */
  drawConflict(conflict: FieldConflict | undefined): void {
    if (this.#conflict?.id === conflict?.id) return;
    this.#conflict = conflict;
    this.root.classList.toggle("contested", conflict !== undefined);
    this.#notice.hidden = conflict === undefined;
    if (!conflict) return;
    const { field, lost } = conflict;
    const other = `“${String(lost.value)}”`;
    const at = new Date(lost.hlc.slice(0, MOMENT_CHARS)).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const text = find(this.#notice, "p");
    say(text, `Also written meanwhile, at ${at}${field === "title" ? "" : ` (${field})`}: ${other}`);
    text.title = other;
    this.#button(".take").ariaLabel = `Use the other: ${other}`;
  }

  draw(todo: Todo, animate: boolean): void {
    if (this.#todo === todo) return;
    const known = this.#todo !== undefined;
    this.#todo = todo;
    this.root.dataset["key"] = todo.id;
    this.root.classList.toggle("done", todo.done);
    const check = find<HTMLInputElement>(this.root, "input");
    check.checked = todo.done;
    say(this.#title, todo.title);
    this.#title.title = todo.title;
    const assign = this.#button(".assign");
    say(assign, todo.assignee?.[0] ?? "+");
    assign.dataset["person"] = todo.assignee ?? "";
    check.ariaLabel = `Done: ${todo.title}`;
    this.#title.ariaLabel = `Rename: ${todo.title}`;
    assign.ariaLabel = `${todo.assignee ?? "Nobody"} does it: ${todo.title}`;
    this.#button(".remove").ariaLabel = `Delete: ${todo.title}`;
    if (!animate) return;
    this.root.classList.remove("fresh", "changed");
    void this.root.offsetWidth; // restarts the animation
    this.root.classList.add(known ? "changed" : "fresh");
  }

  #write(values: Partial<Todo>): void {
    if (this.#todo) this.#device.todos.update(this.#todo.id, values);
  }

  #resolve(how: "keep" | "take"): void {
    if (!this.#conflict) return;
    void this.#device.todos.conflicts.resolve(this.#conflict, how);
    this.#title.focus(); // the button is gone
  }

  /** The next assignee: nobody, the first, the second, nobody. */
  #next(): string | null {
    const at = PEOPLE.findIndex((person) => person === this.#todo?.assignee);
    return PEOPLE[at + 1] ?? null;
  }

  #edit(): void {
    const before = this.#todo?.title ?? "";
    const input = make("input", { type: "text", value: before, maxLength: 400, className: "edit", ariaLabel: `New title for ${before}` });
    const finish = (save: boolean) => {
      if (!this.isEditing) return;
      this.isEditing = false;
      const after = input.value.trim();
      input.replaceWith(this.#title);
      this.#actions.editing(null);
      if (save && after && after !== before) this.#write({ title: after });
    };
    input.onblur = () => finish(true);
    input.onkeydown = (event) => {
      const { key, isComposing } = event;
      if (isComposing || (key !== "Enter" && key !== "Escape")) return;
      event.preventDefault(); // or Enter would press the button that gets the focus
      finish(key === "Enter");
      this.#title.focus();
    };
    this.isEditing = true;
    this.#actions.editing(this.#todo?.id ?? null);
    this.#title.replaceWith(input);
    input.select();
    input.focus();
  }

  #button(selector: string): HTMLElement {
    return find(this.root, selector);
  }
}
