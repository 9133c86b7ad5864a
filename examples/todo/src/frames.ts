/** The panel of frames; drawn only while it is open. */

import type { ClientFrame, ServerFrame } from "@rhtmx/sync";
import { make } from "./dom.js";

const KEPT = 80;
const CHARS_SHOWN = 600;

interface Line {
  time: string;
  device: string;
  direction: "sent" | "received";
  type: string;
  text: string;
}

export class FramesPanel {
  readonly #panel: HTMLElement;
  readonly #list: HTMLElement;
  #lines: Line[] = [];
  #asked = false;

  constructor(panel: HTMLElement, list: HTMLElement, button: HTMLElement, clear: HTMLElement) {
    this.#panel = panel;
    this.#list = list;
    button.onclick = () => {
      panel.hidden = !panel.hidden;
      button.ariaExpanded = String(!panel.hidden);
      document.body.classList.toggle("with-frames", !panel.hidden);
      this.#draw();
    };
    clear.onclick = () => {
      this.#lines = [];
      this.#draw();
    };
  }

  add(device: string, direction: "sent" | "received", frame: ClientFrame | ServerFrame): void {
    if (frame.type === "ping" || frame.type === "pong") return;
    const { type, ...rest } = frame;
    const json = JSON.stringify(rest);
    const text = json.length > CHARS_SHOWN ? `${json.slice(0, CHARS_SHOWN)}…` : json;
    this.#lines.unshift({ time: new Date().toLocaleTimeString([], { hour12: false }), device, direction, type, text });
    this.#lines.length = Math.min(this.#lines.length, KEPT);
    if (this.#asked || this.#panel.hidden) return;
    this.#asked = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#asked = false;
    this.#list.replaceChildren(
      ...this.#lines.map(({ time, device, direction, type, text }) => {
        const item = make(
          "li",
          { className: direction },
          make("span", { className: "when", textContent: time }),
          make("span", { className: "who", textContent: `${device} ${direction === "sent" ? "→" : "←"}` }),
          make("b", { textContent: type }),
          make("code", { textContent: text }),
        );
        item.dataset["type"] = type;
        return item;
      }),
    );
  }
}
