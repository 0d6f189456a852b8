// Modals and confirm dialogs, on the browser's own <dialog>: focus stays inside, Escape closes.

import { element, textNode, withEmoji } from "./mrkdwn.js";
import { renderBlocks } from "./blocks.js";
import { icon } from "./icons.js";

// What an updated view no longer offers cannot stay chosen.
function offered(draft, view) {
  for (const block of view.blocks) {
    for (const part of [block.element, block.accessory, ...(block.type === "actions" ? block.elements : [])]) {
      const options = part?.options ?? part?.option_groups?.flatMap((group) => group.options);
      const chosen = options && draft[block.block_id]?.[part.action_id];
      if (chosen === undefined || chosen === null || chosen === "") continue;
      const values = options.map((option) => option.value);
      if (Array.isArray(chosen)) draft[block.block_id][part.action_id] = chosen.filter((value) => values.includes(value));
      else if (!values.includes(chosen)) delete draft[block.block_id][part.action_id];
    }
  }
  return draft;
}

export function confirmDialog(confirm, names) {
  return new Promise((resolve) => {
    const yes = element("button", { type: "button", class: confirm.style === "danger" ? "danger-fill" : "primary" }, withEmoji(confirm.confirm.text));
    const no = element("button", { type: "button" }, withEmoji(confirm.deny.text));
    const dialog = element("dialog", { class: "modal small", "aria-labelledby": "confirm-title" },
      element("header", { class: "modal-head" }, element("h2", { id: "confirm-title" }, withEmoji(confirm.title.text))),
      element("div", { class: "modal-body" }, textNode(confirm.text, names)),
      element("footer", { class: "modal-foot" }, no, yes));
    const finish = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    yes.addEventListener("click", () => finish(true));
    no.addEventListener("click", () => finish(false));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); finish(false); });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}

// Shows the top modal of a person. What is typed lives in `drafts`, outside the DOM: it outlives
// errors, failures, updates by the app, and a reload of the page.
export class ModalHost {
  constructor(app) {
    this.app = app;
    this.dialog = null;
    this.shown = null;
    this.errors = {};
    this.failure = null;
    this.busy = false;
  }

  draft(viewId) {
    try { return JSON.parse(sessionStorage.getItem(`draft-${viewId}`)) ?? {}; } catch { return {}; }
  }

  keep(viewId, draft) {
    sessionStorage.setItem(`draft-${viewId}`, JSON.stringify(draft));
  }

  show(view) {
    if (!view) {
      this.hide();
      return;
    }
    if (this.shown?.id !== view.id) {
      this.errors = {};
      this.failure = null;
      this.busy = false;
    } else if (this.shown.hash === view.hash) {
      return;
    }
    this.shown = view;
    this.draw();
  }

  hide() {
    if (this.dialog) {
      this.dialog.close();
      this.dialog.remove();
      this.dialog = null;
      this.returnTo?.isConnected ? this.returnTo.focus() : document.getElementById("composer-text").focus();
    }
    if (this.shown) sessionStorage.removeItem(`draft-${this.shown.id}`);
    this.shown = null;
  }

  draw() {
    const view = this.shown;
    const first = !this.dialog;
    if (first) {
      this.returnTo = document.activeElement;
      this.dialog = element("dialog", { class: "modal", "aria-labelledby": "modal-title" });
      this.dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.close(); });
      document.body.append(this.dialog);
    }
    const before = first ? null : document.activeElement?.id;
    const draft = offered(this.draft(view.id), view);
    const context = {
      names: this.app.names,
      scope: "modal",
      form: {
        value: (block, action) => draft[block]?.[action],
        set: (block, action, value) => {
          (draft[block] ??= {})[action] = value;
          this.keep(view.id, draft);
        },
        error: (block) => this.errors[block],
      },
      act: (part, block, value) => this.app.click({ view_id: view.id, action_id: part.action_id, block_id: block.block_id, value: value ?? null, values: draft }),
    };
    const form = element("form", { class: "modal-form", novalidate: true },
      element("header", { class: "modal-head" },
        element("h2", { id: "modal-title" }, withEmoji(view.title.text)),
        element("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => this.close() }, icon("close"))),
      element("div", { class: "modal-body" },
        this.failure ? element("p", { class: "failure", role: "alert" }, this.failure) : null,
        ...renderBlocks(view.blocks, context)),
      element("footer", { class: "modal-foot" },
        element("button", { type: "button", onclick: () => this.close() }, withEmoji(view.close?.text ?? "Cancel")),
        view.submit ? element("button", { type: "submit", class: "primary", disabled: this.busy, "aria-busy": this.busy ? "true" : null }, this.busy ? "Sending…" : withEmoji(view.submit.text)) : null));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    // Enter in a text area of a modal is a new line; with Ctrl or ⌘ it submits, as in Slack.
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(); }
    });
    const scroll = this.dialog.querySelector(".modal-body")?.scrollTop ?? 0;
    this.dialog.replaceChildren(form);
    if (first) this.dialog.showModal();
    this.dialog.querySelector(".modal-body").scrollTop = scroll;
    const wrong = this.dialog.querySelector(".b-input.invalid input, .b-input.invalid select, .b-input.invalid textarea");
    const same = before ? this.dialog.querySelector(`#${CSS.escape(before)}`) : null;
    const start = this.dialog.querySelector(".modal-body input, .modal-body select, .modal-body textarea");
    (wrong && !this.busy ? wrong : same ?? start ?? this.dialog.querySelector(".modal-foot .primary"))?.focus();
  }

  async submit() {
    if (this.busy) return;
    const view = this.shown;
    this.busy = true;
    this.failure = null;
    const send = this.dialog.querySelector(".modal-foot .primary");
    if (send) { send.disabled = true; send.textContent = "Sending…"; }
    const answer = await this.app.send("submit", { view_id: view.id, values: offered(this.draft(view.id), view) });
    this.busy = false;
    if (this.shown?.id !== view.id) return;
    this.errors = answer.outcome === "errors" ? answer.errors : {};
    if (answer.outcome === "failed") this.failure = answer.error;
    else if (!answer.outcome) this.failure = answer.message ?? "The workspace could not be reached. What you typed is kept.";
    if (answer.outcome === "closed") this.hide();
    else if (answer.outcome === "updated") { this.shown = answer.view; this.draw(); }
    else if (answer.outcome !== "pushed") this.draw();
    this.app.refresh();
  }

  async close() {
    const view = this.shown;
    this.hide();
    if (view) await this.app.send("close", { view_id: view.id });
    this.app.refresh();
  }
}
