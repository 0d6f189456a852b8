// Puts Slack's own app framework, @slack/bolt, in control's place: it judges our signatures and
// payloads, and calls our Web API with Slack's own client.
//
//   node bolt_peer.mjs --stage-binary PATH
//
// @slack/bolt is looked up in $NODE_MODULES. Exit code 0 only if every step held.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({ options: { "stage-binary": { type: "string" } } });
const modules = process.env.NODE_MODULES ? join(process.env.NODE_MODULES, "x.js") : import.meta.url;
const { App } = createRequire(modules)("@slack/bolt");

const freePort = () => new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const text = (words) => ({ type: "plain_text", text: words });
const input = (block_id, element, more = {}) =>
  ({ type: "input", block_id, label: text(block_id), element: { action_id: "value", ...element }, ...more });
const option = (value) => ({ text: text(value), value });

const folder = mkdtempSync(join(tmpdir(), "powerpole-bolt-"));
const [port, appPort] = [await freePort(), await freePort()];
const base = `http://127.0.0.1:${port}`;
const start = (secret) => {
  writeFileSync(join(folder, "secret"), secret);
  writeFileSync(join(folder, "token"), "xoxb-1");
  return spawn(options["stage-binary"], ["workspace", "--listen", `127.0.0.1:${port}`, "--control", `http://127.0.0.1:${appPort}`,
    "--signing-secret-file", join(folder, "secret"), "--bot-token-file", join(folder, "token"), "--state", join(folder, "state")], { stdio: ["ignore", "ignore", "inherit"] });
};
const up = async () => {
  for (let n = 0; n < 100; n += 1) {
    if (await fetch(`${base}/_stage/health`).then((a) => a.ok, () => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the workspace did not come up");
};
const act = (name, body) => fetch(`${base}/_stage/act/${name}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).then((a) => a.json());

const seen = {};
const app = new App({
  signingSecret: "right", token: "xoxb-1", endpoints: ["/slack/commands", "/slack/interactions"],
  clientOptions: { slackApiUrl: `${base}/api/` }, logLevel: "error",
});
app.command("/powerpole", async ({ command, ack, client }) => {
  seen.command = command;
  await ack();
  await client.views.open({ trigger_id: command.trigger_id, view: {
    type: "modal", callback_id: "request", title: text("Request"), submit: text("Ask"), notify_on_close: true,
    blocks: [input("reason", { type: "plain_text_input" }), input("level", { type: "static_select", options: [option("READ"), option("WRITE")] }),
      input("start", { type: "datetimepicker" }, { optional: true })] } });
});
app.view("request", async ({ ack, view, body, client }) => {
  seen.view = view;
  if (view.state.values.reason.value.value === "bad") return ack({ response_action: "errors", errors: { reason: "no" } });
  await ack();
  await client.chat.postMessage({ channel: "C0APPROVALS", text: "card", blocks: [{ type: "actions", elements: [
    { type: "button", action_id: "approve", text: text("Approve"), value: body.user.id }] }] });
});
app.view({ callback_id: "request", type: "view_closed" }, async ({ ack, view }) => { seen.closed = view; await ack(); });
app.action("approve", async ({ ack, action, body, respond, say }) => {
  seen.action = { action, body };
  await ack();
  await respond({ text: "approved", replace_original: true, blocks: [] });
  await say({ text: "told", thread_ts: body.message.ts });
});
app.error(async (error) => { seen.error = error; });

let stage = start("right");
let code = 1;
try {
  await app.start({ port: appPort, host: "127.0.0.1" });
  await up();
  const opened = await act("command", { user: "alice", channel: "#powerpole", text: "/powerpole now" });
  assert.equal(seen.command.text, "now");
  assert.equal(seen.command.team_id, "T0POWERPOLE");
  assert.equal(opened.view?.callback_id, "request", JSON.stringify(opened));
  console.log("ok  a command opens a modal");
  const submit = (reason) => act("submit", { user: "alice", view_id: opened.view_id, values: { reason: { value: reason }, level: { value: "WRITE" }, start: { value: 1795428000 } } });
  assert.deepEqual((await submit("bad")).errors, { reason: "no" });
  assert.equal((await submit("good")).outcome, "closed");
  assert.equal(seen.view.state.values.level.value.selected_option.value, "WRITE");
  assert.equal(seen.view.state.values.start.value.selected_date_time, 1795428000);
  console.log("ok  a submission is refused and then taken");
  const messages = () => fetch(`${base}/_stage/messages`).then((a) => a.json()).then((a) => a.messages);
  let card;
  for (let n = 0; n < 50 && !card; n += 1) {
    card = (await messages()).find((message) => message.text === "card");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal((await act("click", { user: "carol", channel: card.channel, ts: card.ts, action_id: "approve" })).ack, "ok");
  let told;
  for (let n = 0; n < 50 && !told; n += 1) {
    told = (await messages()).find((message) => message.text === "told");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal(told.thread_ts, card.ts);
  assert.equal(seen.action.action.value, "U0ALICE0001");
  assert.equal(seen.action.body.team.id, "T0POWERPOLE");
  assert.equal((await messages()).find((message) => message.ts === card.ts).text, "approved");
  console.log("ok  a click is answered by response address and in the thread");
  const again = await act("command", { user: "alice", channel: "#powerpole", text: "/powerpole" });
  await act("close", { user: "alice", view_id: again.view_id });
  assert.equal(seen.closed.id, again.view_id);
  console.log("ok  a closed modal is told");
  assert.equal(seen.error, undefined);
  stage.kill();
  await new Promise((resolve) => stage.once("exit", resolve));
  stage = start("wrong");
  await up();
  assert.equal((await act("command", { user: "alice", channel: "#powerpole", text: "/powerpole" })).error, "dispatch_failed");
  console.log("ok  a wrong signing secret is refused by bolt");
  console.log("5 steps held");
  code = 0;
} catch (error) {
  console.error("FAILED:", error, seen.error);
} finally {
  stage.kill();
  await app.stop().catch(() => {});
  rmSync(folder, { recursive: true, force: true });
}
process.exit(code);
