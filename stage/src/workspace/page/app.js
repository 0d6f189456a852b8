// The page: who acts, where, what is said. State comes whole from the server after every change;
// messages that did not change keep their DOM nodes, so that focus and selection stay.

import { element } from "./mrkdwn.js";
import { drawIcons, icon } from "./icons.js";
import { messageBody } from "./blocks.js";
import { ModalHost } from "./dialogs.js";

const byId = (id) => document.getElementById(id);
const NARROW = window.matchMedia("(max-width: 700px)");
const COMMANDS = [{ command: "/powerpole", hint: "Request a bastion for a database" }];

class App {
  constructor() {
    this.me = sessionStorage.getItem("me") ?? "U0ALICE0001";
    this.place = sessionStorage.getItem("place") ?? "C0POWERPOLE";
    this.thread = null;
    this.state = null;
    this.drawn = new Map();
    this.failed = new Map();
    this.seen = JSON.parse(sessionStorage.getItem("seen") ?? "{}");
    this.modal = new ModalHost(this);
    this.names = {
      person: (id) => this.person(id)?.name ?? (id === "U0POWERPOLE" ? "PowerPole" : null),
      channel: (id) => this.state.channels.find((found) => found.id === id)?.name,
      people: () => this.state.people,
    };
  }

  person(id) { return this.state?.people.find((found) => found.id === id || found.name === id); }

  async send(act, body) {
    try {
      const answer = await fetch(`_stage/act/${act}`, {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ user: this.me, ...body }),
      });
      return await answer.json();
    } catch {
      return { ok: false, message: "The workspace could not be reached." };
    }
  }

  async refresh() {
    if (this.loading) { this.again = true; return; }
    this.loading = true;
    try {
      const answer = await fetch(`_stage/state?user=${encodeURIComponent(this.me)}`);
      const state = await answer.json();
      if (state.me === this.me) { this.state = state; this.draw(); }
    } catch {
      this.toast("The workspace could not be reached.");
    } finally {
      this.loading = false;
      if (this.again) { this.again = false; this.refresh(); }
    }
  }

  listen() {
    const events = new EventSource("_stage/events");
    events.addEventListener("message", () => this.refresh());
  }

  actAs(id) {
    this.me = id;
    sessionStorage.setItem("me", id);
    this.closeThread();
    this.modal.hide();
    this.refresh();
  }

  go(id) {
    this.place = id;
    sessionStorage.setItem("place", id);
    this.closeThread();
    this.toggleSide(false);
    this.draw(true);
    byId("composer-text").focus();
  }

  // Requests made while the page is narrow cover the list of channels.
  toggleSide(open) {
    document.body.classList.toggle("side-open", open);
    byId("menu").setAttribute("aria-expanded", String(open));
    if (open) byId("side-close").focus();
  }

  placeTitle(place) { return place.dm ? "PowerPole" : `#${place.name}`; }

  draw(jump = false) {
    const { channels, people } = this.state;
    if (!channels.some((found) => found.id === this.place)) this.place = channels[0].id;
    const place = channels.find((found) => found.id === this.place);
    this.drawWho(people);
    this.drawPlaces(channels);
    byId("place-name").textContent = this.placeTitle(place);
    byId("place-about").textContent = place.dm
      ? "Direct messages with the app · only you see them"
      : `${place.members.map((id) => this.person(id).name).join(", ")} and PowerPole`;
    const field = byId("composer-text");
    const whom = place.dm ? "PowerPole" : `#${place.name}`;
    field.placeholder = NARROW.matches ? `Message ${whom}` : `Message ${whom}, or type /powerpole`;
    document.title = `${this.placeTitle(place)} · PowerPole workspace`;
    const here = this.state.messages.filter((message) => message.channel === this.place);
    this.drawList(byId("messages"), here.filter((message) => !message.thread_ts || message.thread_ts === message.ts), here, jump);
    this.drawThread(here);
    this.modal.show(this.state.views.at(-1));
  }

  drawWho(people) {
    const select = byId("who-select");
    if (select.options.length === 0) {
      people.forEach((person) => select.append(element("option", { value: person.id }, `${person.name} – ${person.role}`)));
    }
    select.value = this.me;
    const me = this.person(this.me);
    byId("who-avatar").textContent = me.real_name[0];
    byId("who-avatar").className = `avatar tone-${people.indexOf(me) % 5}`;
    byId("who-role").textContent = me.email;
  }

  unread(place) {
    const key = `${this.me}/${place.id}`;
    const since = this.seen[key] ?? "0";
    return this.state.messages.filter((message) => message.channel === place.id && message.ts > since && message.user !== this.me).length;
  }

  drawPlaces(channels) {
    const newest = this.state.messages.filter((message) => message.channel === this.place).at(-1)?.ts ?? "0";
    this.seen[`${this.me}/${this.place}`] = newest;
    sessionStorage.setItem("seen", JSON.stringify(this.seen));
    for (const [list, wanted] of [["channels", false], ["dms", true]]) {
      const focused = document.activeElement?.dataset?.place;
      byId(list).replaceChildren(...channels.filter((place) => place.dm === wanted).map((place) => {
        const count = this.unread(place);
        const node = element("button", {
          type: "button", class: `place${count ? " unread" : ""}`, "data-place": place.id,
          "aria-current": place.id === this.place ? "true" : null, onclick: () => this.go(place.id),
        }, element("span", { class: "sign", "aria-hidden": "true" }, place.dm ? icon("person") : "#"),
          element("span", { class: "place-label" }, place.dm ? "PowerPole" : place.name),
          count ? element("span", { class: "badge" }, String(count), element("span", { class: "hidden" }, " unread")) : null);
        return element("li", {}, node);
      }));
      if (focused) byId(list).querySelector(`[data-place="${CSS.escape(focused)}"]`)?.focus();
    }
    document.body.classList.toggle("has-unread", channels.some((place) => place.id !== this.place && this.unread(place)));
  }

  drawList(box, messages, all, jump) {
    const scope = box.id;
    const atEnd = jump || box.scrollHeight - box.scrollTop - box.clientHeight < 80 || box.dataset.place !== this.place + this.me;
    box.dataset.place = this.place + this.me;
    const wanted = [];
    let day = null;
    let last = null;
    for (const message of messages) {
      const date = new Date(Number(message.ts) * 1000);
      const thisDay = date.toDateString();
      if (thisDay !== day) {
        day = thisDay;
        last = null;
        wanted.push(this.keyed(`${scope}-day-${thisDay}`, thisDay, () => {
          const today = thisDay === new Date().toDateString();
          const words = today ? "Today" : new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" }).format(date);
          return element("div", { class: "day", role: "separator" }, element("span", {}, words));
        }));
      }
      const replies = scope === "messages" ? all.filter((other) => other.thread_ts === message.ts && other.ts !== message.ts) : [];
      const grouped = Boolean(last) && last.user === message.user && Number(message.ts) - Number(last.ts) < 300 && !message.ephemeral && !last.ephemeral && !message.blocks && !last.blocks;
      const failure = this.failed.get(message.ts);
      const mark = JSON.stringify([message, replies.length, replies.at(-1)?.ts, grouped, failure, this.me]);
      wanted.push(this.keyed(`${scope}-${message.ts}`, mark, () => this.messageNode(message, replies, grouped, failure, scope)));
      last = message;
    }
    if (wanted.length === 0) wanted.push(this.keyed(`${scope}-empty`, this.place, () => this.emptyNode()));
    const keep = new Set(wanted);
    [...box.children].forEach((child) => { if (!keep.has(child)) child.remove(); });
    wanted.forEach((node, index) => { if (box.children[index] !== node) box.insertBefore(node, box.children[index] ?? null); });
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  keyed(key, mark, build) {
    const old = this.drawn.get(key);
    if (old?.mark === mark) return old.node;
    const focus = old?.node.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const node = build();
    this.drawn.set(key, { mark, node });
    if (focus) queueMicrotask(() => (node.querySelector(`[data-action="${CSS.escape(focus)}"]`) ?? node.querySelector("button"))?.focus());
    return node;
  }

  emptyNode() {
    const place = this.state.channels.find((found) => found.id === this.place);
    const words = place.dm ? "PowerPole writes to you here: your bastion's login lines, warnings, and the end of your time." : place.name === "db-approvals" ? "Requests that wait for an approver appear here." : "Press “New request”, or type /powerpole below.";
    return element("div", { class: "empty" }, element("p", {}, words));
  }

  messageNode(message, replies, grouped, failure, scope) {
    const author = message.from_slack ? "Slackbot" : message.by_app ? "PowerPole" : this.person(message.user)?.real_name ?? message.user;
    const date = new Date(Number(message.ts) * 1000);
    const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }).format(date);
    const tone = this.state.people.findIndex((person) => person.id === message.user);
    const context = {
      names: this.names, scope: `${scope}-${message.ts.replace(".", "-")}`,
      act: (part, block, value) => this.click({ channel: message.channel, ts: message.ts, action_id: part.action_id, block_id: block.block_id, value: value ?? null }),
    };
    const body = element("div", { class: "body" });
    if (message.ephemeral) body.append(element("p", { class: "only-you" }, icon("eye"), "Only visible to you"));
    if (!grouped) {
      body.append(element("p", { class: "byline" }, element("strong", {}, author),
        message.by_app ? element("span", { class: "app-tag" }, "APP") : null,
        element("time", { datetime: date.toISOString(), title: date.toUTCString() }, time)));
    }
    body.append(...messageBody(message, context));
    if (message.edited) body.append(element("span", { class: "edited", title: `Edited ${new Date(Number(message.edited.ts) * 1000).toUTCString()}` }, "(edited)"));
    if (failure) body.append(element("p", { class: "failure", role: "alert" }, icon("warning"), failure));
    if (replies.length) {
      const latest = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }).format(new Date(Number(replies.at(-1).ts) * 1000));
      body.append(element("button", { type: "button", class: "replies", onclick: () => this.openThread(message.ts) },
        `${replies.length} ${replies.length === 1 ? "reply" : "replies"}`, element("span", { class: "dim" }, ` · last at ${latest}`)));
    }
    const gutter = grouped
      ? element("span", { class: "gutter-time", "aria-hidden": "true" }, time)
      : message.by_app
        ? element("img", { class: "avatar", src: "icon.svg", alt: "", width: "36", height: "36" })
        : element("span", { class: `avatar tone-${tone < 0 ? 4 : tone}`, "aria-hidden": "true" }, author[0]);
    const node = element("article", { class: `message${grouped ? " grouped" : ""}${message.ephemeral ? " ephemeral" : ""}`, "data-ts": message.ts, "aria-label": `${author}, ${time}` }, element("div", { class: "gutter" }, gutter), body);
    if (scope === "messages" && !message.ephemeral && !replies.length) {
      node.append(element("button", { type: "button", class: "reply-button", "aria-label": "Reply in a thread", onclick: () => this.openThread(message.ts) }, icon("reply")));
    }
    return node;
  }

  openThread(ts) {
    this.thread = ts;
    byId("thread").hidden = false;
    document.body.classList.add("thread-open");
    this.draw();
    byId("thread-text").focus();
  }

  closeThread() {
    this.thread = null;
    byId("thread").hidden = true;
    document.body.classList.remove("thread-open");
  }

  drawThread(here) {
    if (!this.thread) return;
    const all = here.filter((message) => message.ts === this.thread || message.thread_ts === this.thread);
    if (all.length === 0) { this.closeThread(); return; }
    this.drawList(byId("thread-messages"), all, all, false);
  }

  async click(body) {
    const answer = await this.send("click", body);
    if (body.ts) {
      if (answer.ok) this.failed.delete(body.ts);
      else this.failed.set(body.ts, answer.error ?? answer.message);
    } else if (!answer.ok) this.toast(answer.error ?? answer.message);
    await this.refresh();
  }

  async say(text, thread) {
    const trimmed = text.trim();
    if (!trimmed) return;
    if (/^\/\S/.test(trimmed)) {
      const name = trimmed.split(/\s/)[0];
      if (!COMMANDS.some((known) => known.command === name)) {
        this.toast(`${name} is not a valid command here. Try /powerpole.`);
        return false;
      }
      if (thread) {
        this.toast(`${name} is not supported in threads. Sorry!`);
        return false;
      }
      await this.command(trimmed);
      return;
    }
    await this.send("post", { channel: this.place, text: trimmed, thread_ts: thread });
    this.refresh();
  }

  async command(text) {
    const hint = byId("composer-hint");
    hint.textContent = "Asking PowerPole…";
    const answer = await this.send("command", { channel: this.place, text });
    hint.textContent = answer.message && typeof answer.message === "string" ? answer.message : "";
    this.refresh();
  }

  toast(words) {
    const node = element("div", { class: "toast" }, words);
    byId("toasts").append(node);
    setTimeout(() => node.remove(), 6000);
  }

  bindComposer(form, field, thread) {
    const grow = () => { field.style.height = "auto"; field.style.height = `${Math.min(field.scrollHeight, 160)}px`; };
    const submit = async () => {
      const text = field.value;
      field.value = "";
      grow();
      this.suggest("");
      if ((await this.say(text, thread())) === false) field.value = text;
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
    field.addEventListener("input", () => { grow(); if (form.id === "composer") this.suggest(field.value); });
    field.addEventListener("keydown", (event) => {
      const first = form.id === "composer" && !byId("suggestions").hidden ? COMMANDS.find((known) => known.command.startsWith(field.value)) : null;
      if (first && (event.key === "Tab" || (event.key === "Enter" && field.value !== first.command))) {
        event.preventDefault();
        this.complete(field, first.command);
      } else if (event.key === "Escape") this.suggest("");
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
    });
  }

  complete(field, command) {
    field.value = `${command} `;
    this.suggest("");
    field.focus();
  }

  suggest(text) {
    const list = byId("suggestions");
    const found = text.startsWith("/") && !text.includes(" ") ? COMMANDS.filter((known) => known.command.startsWith(text)) : [];
    list.hidden = found.length === 0;
    list.replaceChildren(...found.map((known) => {
      const node = element("li", { role: "option", "aria-selected": "true" }, element("strong", {}, known.command), " ", element("span", { class: "dim" }, known.hint));
      node.addEventListener("mousedown", (event) => { event.preventDefault(); this.complete(byId("composer-text"), known.command); });
      return node;
    }));
    byId("composer-text").setAttribute("aria-expanded", String(found.length > 0));
  }

  start() {
    drawIcons(document);
    byId("who-select").addEventListener("change", (event) => this.actAs(event.target.value));
    byId("menu").addEventListener("click", () => this.toggleSide(!document.body.classList.contains("side-open")));
    byId("side-close").addEventListener("click", () => { this.toggleSide(false); byId("menu").focus(); });
    NARROW.addEventListener("change", () => { if (this.state) this.draw(); });
    byId("new-request").addEventListener("click", () => this.command("/powerpole"));
    byId("thread-close").addEventListener("click", () => { this.closeThread(); byId("composer-text").focus(); });
    byId("thread").addEventListener("keydown", (event) => { if (event.key === "Escape") { this.closeThread(); byId("composer-text").focus(); } });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.toggleSide(false); });
    byId("main").addEventListener("click", (event) => { if (!event.target.closest("#menu")) this.toggleSide(false); });
    this.bindComposer(byId("composer"), byId("composer-text"), () => null);
    this.bindComposer(byId("thread-composer"), byId("thread-text"), () => this.thread);
    this.listen();
    this.refresh();
  }
}

new App().start();
