/** The mutations that wait for the server, and those that it rejected. */

import type { Mutation, Rejection, Step } from "@rhtmx/sync";
import { find, make, say } from "./dom.js";
import type { Device } from "./model.js";

/** A quick answer is not worth a flash on the screen. */
const SHOWN_AFTER_MS = 300;
const SHOWN_MAX = 5;

export class QueueView {
  readonly #device: Device;
  readonly #queue: HTMLElement;
  readonly #rejected: HTMLElement;
  #drawn: readonly Rejection[] | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(device: Device, queue: HTMLElement, rejected: HTMLElement) {
    this.#device = device;
    this.#queue = queue;
    this.#rejected = rejected;
    const draw = () => {
      this.#drawRejected();
      if (device.pending.length === 0 || !this.#queue.hidden) this.#drawQueue();
      else this.#timer ??= setTimeout(() => this.#drawQueue(), SHOWN_AFTER_MS);
    };
    device.on("status", draw);
    draw();
  }

  #drawQueue(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#device.pending.filter(({ writes }) => writes.some((step) => "mutator" in step || step.entity !== "viewers"));
    this.#queue.hidden = waiting.length === 0;
    say(find(this.#queue, "h3"), `Waiting for the server: ${waiting.length}`);
    const lines = waiting.slice(0, SHOWN_MAX).map((mutation) => make("li", { textContent: this.#describe(mutation) }));
    if (waiting.length > SHOWN_MAX) lines.push(make("li", { textContent: `and ${waiting.length - SHOWN_MAX} more` }));
    find(this.#queue, "ol").replaceChildren(...lines);
  }

  #drawRejected(): void {
    const { rejected } = this.#device;
    if (rejected === this.#drawn) return; // screen readers would read it out again
    this.#drawn = rejected;
    this.#rejected.hidden = rejected.length === 0;
    find(this.#rejected, "ul").replaceChildren(...rejected.map((rejection) => this.#letter(rejection)));
  }

  #letter(rejection: Rejection): HTMLElement {
    const { id, message, column, code } = rejection;
    return make(
      "li",
      {},
      make("span", { textContent: this.#describe(rejection) }),
      make("small", { textContent: `${code}${column ? ` (${column})` : ""}: ${message}` }),
      make("span", { className: "actions" },
        make("button", { type: "button", className: "quiet", textContent: "Try again", onclick: () => this.#device.retry(id) }),
        make("button", { type: "button", className: "quiet", textContent: "Dismiss", onclick: () => this.#device.dismiss(id) }),
      ),
    );
  }

  #describe({ writes }: Mutation | Rejection): string {
    return writes.map((step) => this.#sentence(step)).join(", ");
  }

  #sentence(step: Step): string {
    if ("mutator" in step) return step.mutator.replaceAll("_", " ");
    const { op, entity, key, values = {}, resolves } = step;
    const known = entity === "todos" && key != null ? this.#device.todos.get(String(key))?.title : undefined;
    const title = values["title"] ?? values["name"] ?? known;
    const what = typeof title === "string" ? `“${title.length > 60 ? `${title.slice(0, 60)}…` : title}”` : entity;
    const columns = op === "update" ? ` (${Object.keys({ ...values, ...resolves }).join(", ")})` : "";
    return `${op} ${what}${columns}`;
  }
}
