/** One item: shows a row, and turns what the user does with it into writes. */

import { find, fromTemplate, make, say } from "./dom.js";
import { PEOPLE } from "./login.js";
import type { Device, Todo } from "./model.js";

export const ITEM_HEIGHT_PX = 44;

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
  #todo: Todo | undefined;
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
  }

  draw(todo: Todo, index: number, pending: boolean, animate: boolean): void {
    this.root.style.transform = `translateY(${index * ITEM_HEIGHT_PX}px)`;
    this.root.classList.toggle("pending", pending);
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
