// A small honest stand-in for control: it checks every signature, keeps Slack's 3 s, and calls the
// Web API back as control does. `faults` makes it late, broken or wrong, on request.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const text = (words) => ({ type: "plain_text", text: words });
const md = (words) => ({ type: "mrkdwn", text: words });
const TEAM = "T0POWERPOLE";
const option = (label, value) => ({ text: text(label), value });

export class FakeControl {
  constructor({ secret, token, port, api }) {
    Object.assign(this, { secret, token, port, api });
    this.seen = [];
    this.faults = [];
    this.requests = new Map();
    this.count = 0;
  }

  start() {
    this.server = createServer((request, answer) => this.handle(request, answer));
    return new Promise((resolve) => this.server.listen(this.port, "127.0.0.1", resolve));
  }

  stop() { this.server.closeAllConnections(); this.server.close(); }

  async call(method, body) {
    const answer = await fetch(`${this.api}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json; charset=utf-8", authorization: `Bearer ${this.token}` },
      body: JSON.stringify(body),
    });
    const said = await answer.json();
    if (!said.ok) throw new Error(`${method}: ${JSON.stringify(said)}`);
    return said;
  }

  verify(request, body) {
    const stamp = request.headers["x-slack-request-timestamp"] ?? "";
    if (Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
    const wanted = Buffer.from(`v0=${createHmac("sha256", this.secret).update(`v0:${stamp}:${body}`).digest("hex")}`);
    const given = Buffer.from(request.headers["x-slack-signature"] ?? "");
    return wanted.length === given.length && timingSafeEqual(wanted, given);
  }

  async handle(request, answer) {
    let body = "";
    for await (const chunk of request) body += chunk;
    const say = (status, value) => {
      answer.writeHead(status, { "content-type": "application/json" });
      answer.end(value === undefined ? "" : JSON.stringify(value));
    };
    if (!this.verify(request, body)) return say(401, { error: "bad signature" });
    if (request.headers["content-type"] !== "application/x-www-form-urlencoded") return say(415);
    const form = Object.fromEntries(new URLSearchParams(body));
    // One workspace alone is ours, as for control.
    const team = form.payload ? JSON.parse(form.payload).team?.id : form.team_id;
    if (team !== TEAM) return say(403, { error: "another workspace" });
    const fault = this.faults.shift();
    if (fault === "late") return setTimeout(() => say(200), 3600);
    if (fault === "broken") return say(500, { error: "on request" });
    try {
      if (request.url === "/slack/commands") { this.seen.push({ type: "command", ...form }); return await this.command(form, say); }
      const payload = JSON.parse(form.payload);
      this.seen.push(payload);
      if (payload.type === "view_submission") return await this.submission(payload, say);
      if (payload.type === "block_actions") return await this.action(payload, say);
      return say(200);
    } catch (error) {
      console.error("fake control:", error);
      if (!answer.headersSent) say(500);
    }
  }

  async command(form, say) {
    if (form.text === "help") return say(200, { response_type: "ephemeral", text: "*PowerPole* helps: type `/powerpole`." });
    say(200);
    await this.call("views.open", { trigger_id: form.trigger_id, view: this.modal() });
  }

  // Another cluster has other schemas: the modal is updated while it is being filled in.
  modal(schemas = ["orders", "billing"]) {
    const input = (block_id, label, element, more = {}) =>
      ({ type: "input", block_id, label: text(label), element: { action_id: "value", ...element }, ...more });
    return {
      type: "modal", callback_id: "request", private_metadata: "{}", notify_on_close: true,
      title: text("Request a bastion"), submit: text("Ask for approval"), close: text("Cancel"),
      blocks: [
        { type: "section", text: md("A throw-away bastion for *one* piece of work. You get a DM when it is ready.") },
        input("cluster", "Cluster", { type: "static_select", options: [option("orders-prod", "orders-prod"), option("billing-prod", "billing-prod")], initial_option: option("orders-prod", "orders-prod") }, { dispatch_action: true }),
        input("level", "Access", { type: "radio_buttons", initial_option: { ...option("READ", "READ"), description: text("SELECT and SHOW VIEW") }, options: [
          { ...option("READ", "READ"), description: text("SELECT and SHOW VIEW") },
          { ...option("WRITE", "WRITE"), description: text("also INSERT, UPDATE, DELETE") },
          { ...option("ADMIN", "ADMIN"), description: text("also CREATE, ALTER, DROP") }] }),
        input("schemas", "Schemas", { type: "multi_static_select", option_groups: schemas.map((name) => ({ label: text(`of ${name}-prod`), options: [option(name, name)] })), initial_options: [option(schemas[0], schemas[0])] }),
        input("minutes", "Minutes", { type: "number_input", is_decimal_allowed: false, min_value: "1", max_value: "240", initial_value: "30" }),
        input("start", "Start", { type: "datetimepicker" }, { optional: true, hint: text("Empty: as soon as it is approved.") }),
        input("reason", "Reason", { type: "plain_text_input", multiline: true, max_length: 500, placeholder: text("What is the work, and for whom?") }, { hint: text("Approvers and auditors read this.") }),
      ],
    };
  }

  card(request, decided) {
    const blocks = [
      { type: "header", text: text(decided ? `Request ${decided}` : "Request for a bastion") },
      { type: "section", fields: [md(`*Who*\n<@${request.user}>`), md(`*Where*\n\`${request.cluster}\``), md(`*Access*\n${request.level} on ${request.schemas.join(", ")}`), md(`*How long*\n${request.minutes} minutes`)] },
      { type: "section", text: md(`*Why*\n>${request.reason.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")}`) },
      { type: "context", elements: [md(`\`${request.id}\` · <!date^1795428000^asked {date_short_pretty} at {time}|asked 10:00 UTC>`)] },
    ];
    if (!decided) blocks.push({ type: "actions", block_id: "decide", elements: [
      { type: "button", action_id: "approve", style: "primary", text: text("Approve"), value: request.id, confirm: { title: text("Approve this?"), text: md(`A bastion for *${request.cluster}* starts at once.`), confirm: text("Approve"), deny: text("Not yet") } },
      { type: "button", action_id: "deny", style: "danger", text: text("Deny"), value: request.id }] });
    return blocks;
  }

  async submission(payload, say) {
    const values = payload.view.state.values;
    if (payload.view.callback_id === "deny") {
      say(200);
      const request = this.requests.get(payload.view.private_metadata);
      await this.decide(request, `denied by <@${payload.user.id}>: ${values.why.value.value}`, "denied");
      return;
    }
    const request = {
      id: `req-test${String(++this.count).padStart(22, "0")}`, user: payload.user.id,
      cluster: values.cluster.value.selected_option.value, level: values.level.value.selected_option.value,
      schemas: values.schemas.value.selected_options.map((item) => item.value),
      minutes: Number(values.minutes.value.value), reason: values.reason.value.value,
    };
    if (request.reason.length < 10) return say(200, { response_action: "errors", errors: { reason: "Say in at least 10 characters what the work is." } });
    say(200);
    this.requests.set(request.id, request);
    const posted = await this.call("chat.postMessage", { channel: "C0APPROVALS", text: `Request ${request.id}`, blocks: this.card(request) });
    Object.assign(request, { channel: posted.channel, ts: posted.ts });
    await this.call("chat.postMessage", { channel: request.user, text: `Your request \`${request.id}\` waits for an approver.` });
  }

  async action(payload, say) {
    const [action] = payload.actions;
    if (payload.view) {
      say(200);
      const schemas = action.selected_option.value === "orders-prod" ? ["orders", "billing"] : ["billing", "ledger"];
      await this.call("views.update", { view_id: payload.view.id, hash: payload.view.hash, view: this.modal(schemas) });
      return;
    }
    const request = this.requests.get(action.value);
    if (action.action_id === "deny") {
      say(200);
      await this.call("views.open", { trigger_id: payload.trigger_id, view: { type: "modal", callback_id: "deny", private_metadata: request.id, title: text("Deny the request"), submit: text("Deny"), blocks: [
        { type: "input", block_id: "why", label: text("Why not?"), element: { type: "plain_text_input", action_id: "value" } }] } });
      return;
    }
    say(200);
    if (payload.user.id === request.user) {
      await this.call("chat.postEphemeral", { channel: payload.channel.id, user: payload.user.id, text: "You cannot approve your own request." });
      return;
    }
    await this.decide(request, `approved by <@${payload.user.id}>`, "approved");
    const dm = await this.call("conversations.open", { users: request.user });
    await this.call("chat.postMessage", { channel: dm.channel.id, text: "Your bastion is ready", blocks: [
      { type: "section", text: md(`Your bastion for *${request.cluster}* is ready until <!date^1795431600^{time}|11:00 UTC>.`) },
      { type: "section", text: md("*1. Log in*\n```aws ssm start-session --region us-east-1 --target i-0123456789abcdef0 --reason 'REQ'```") },
      { type: "section", text: md("*2. Connect*\n```mysql -h 127.0.0.1 -P 3306 -u alice -p --ssl```\nPassword: `correct-horse-battery`") },
      { type: "context", elements: [md("Everything in the session is recorded. <https://example.com/runbook|Runbook>")] }] });
  }

  async decide(request, words, state) {
    await this.call("chat.update", { channel: request.channel, ts: request.ts, text: `Request ${state}`, blocks: this.card(request, state) });
    await this.call("chat.postMessage", { channel: request.channel, thread_ts: request.ts, text: `Request ${words}` });
  }
}
