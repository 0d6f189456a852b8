// Drives the workspace page with a real browser against a fake control.
//
//   node workspace.mjs --stage-binary PATH [--screenshots DIR] [--chromium PATH]
//
// playwright-core is looked up in $NODE_MODULES. Exit code 0 only if every step held. Ends only what it
// started.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { FakeControl } from "./fake_control.mjs";
import { PEOPLE, faintTexts, launch } from "./browser.mjs";

const { values: options } = parseArgs({ options: {
  "stage-binary": { type: "string" },
  screenshots: { type: "string" },
  chromium: { type: "string", default: "/usr/bin/chromium" },
} });
const SECRET = "signing-secret-of-the-test";
const TOKEN = "xoxb-of-the-test";
const HOSTILE = `<img src=x onerror="window.owned=1"><script>window.owned=1</script> & "quotes"`;

const freePort = () => new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});

const folder = mkdtempSync(join(tmpdir(), "powerpole-browser-"));
const shots = options.screenshots ?? join(folder, "shots");
mkdirSync(shots, { recursive: true });
writeFileSync(join(folder, "secret"), `${SECRET}\n`);
writeFileSync(join(folder, "token"), `${TOKEN}\n`);

const port = await freePort();
const base = `http://127.0.0.1:${port}`;
const control = new FakeControl({ secret: SECRET, token: TOKEN, port: await freePort(), api: `${base}/api` });
let stage, browser;
const problems = [];
let steps = 0;

async function step(name, run) {
  const began = Date.now();
  await run();
  steps += 1;
  console.log(`ok  ${name} (${Date.now() - began} ms)`);
}

async function waitFor(check, what) {
  for (let n = 0; n < 100; n += 1) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited in vain for ${what}`);
}

async function main() {
  await control.start();
  stage = spawn(options["stage-binary"], ["workspace", "--listen", `127.0.0.1:${port}`, "--control", `http://127.0.0.1:${control.port}`,
    "--signing-secret-file", join(folder, "secret"), "--bot-token-file", join(folder, "token"), "--state", join(folder, "state")], { stdio: ["ignore", "ignore", "inherit"] });
  await waitFor(() => fetch(`${base}/_stage/health`).then((a) => a.ok, () => false), "the workspace");
  browser = await launch(options.chromium);
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, colorScheme: "light", locale: "en-GB", timezoneId: "UTC" });
  const page = await context.newPage();
  page.setDefaultTimeout(8000);
  page.on("console", (line) => { if (["error", "warning"].includes(line.type())) problems.push(line.text()); });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) problems.push(`outside request: ${request.url()}`); });
  const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
  const actAs = (name) => page.selectOption("#who-select", PEOPLE[name]);
  const places = { all: '[data-place=C0POWERPOLE]', approvals: '[data-place=C0APPROVALS]', dm: "#dms .place" };
  const place = (name) => page.click(places[name]);
  const dialog = page.locator("dialog.modal:not(.small)");

  await step("the page says that it stands in for Slack", async () => {
    await page.goto(base);
    await page.waitForSelector("#who-select option", { state: "attached" });
    assert.match(await page.textContent(".standin"), /stand-in for Slack/);
    await shot("01-empty");
  });

  await step("typing a slash completes the command, and control opens the modal", async () => {
    await page.fill("#composer-text", "/po");
    assert.equal(await page.locator("#suggestions li").count(), 1);
    await shot("02-completion");
    await page.press("#composer-text", "Tab");
    assert.equal(await page.inputValue("#composer-text"), "/powerpole ");
    await page.press("#composer-text", "Enter");
    await dialog.waitFor();
    assert.equal(control.seen.at(-1).command, "/powerpole");
    assert.equal(control.seen.at(-1).user_id, "U0ALICE0001");
    assert.deepEqual(await page.locator("dialog .choice-group").allTextContents(), ["of orders-prod", "of billing-prod"]);
    await shot("03-modal");
  });

  await step("an empty field is refused by the client, beside the field", async () => {
    const before = control.seen.length;
    await page.click("dialog .modal-foot .primary");
    await page.waitForSelector(`[data-block=reason] .error:has-text("required")`);
    assert.equal(control.seen.length, before, "nothing was sent");
    const focused = await page.evaluate(() => document.activeElement.id);
    assert.equal(focused, "i-modal-reason", "the wrong field has the focus");
  });

  await step("control's error stands beside its field, and nothing typed is lost", async () => {
    await page.fill("#i-modal-reason", "short");
    await page.check("dialog input[value=WRITE]");
    await page.check("dialog input[value=billing]");
    await page.fill("#i-modal-minutes", "45");
    await page.click("dialog .modal-foot .primary");
    await page.waitForSelector(`[data-block=reason] .error:has-text("at least 10")`);
    assert.equal(await page.inputValue("#i-modal-reason"), "short");
    assert.equal(await page.inputValue("#i-modal-minutes"), "45");
    assert.ok(await page.isChecked("dialog input[value=WRITE]"));
    assert.equal(await page.getAttribute("#i-modal-reason", "aria-invalid"), "true");
    await shot("04-field-error");
  });

  await step("a late and a broken control show Slack's words, and the modal stays", async () => {
    control.faults.push("broken");
    await page.click("dialog .modal-foot .primary");
    await page.waitForSelector(`.failure:has-text("We had some trouble connecting")`);
    control.faults.push("late");
    await page.click("dialog .modal-foot .primary");
    await page.waitForSelector(`.failure:has-text("We had some trouble connecting")`);
    await waitFor(() => page.isEnabled("dialog .modal-foot .primary"), "the end of the 3 s");
    assert.equal(await page.inputValue("#i-modal-minutes"), "45");
  });

  await step("what is typed outlives an update by control, and what is no longer offered goes", async () => {
    await page.selectOption("#i-modal-cluster", "billing-prod");
    await page.waitForSelector("dialog input[value=ledger]");
    assert.equal(await page.inputValue("#i-modal-reason"), "short");
    assert.equal(await page.inputValue("#i-modal-minutes"), "45");
    assert.ok(await page.isChecked("dialog input[value=billing]"), "still offered, still chosen");
    assert.equal(await page.evaluate(() => document.activeElement.id), "i-modal-cluster", "the focus stays");
    await page.selectOption("#i-modal-cluster", "orders-prod");
    await page.waitForSelector("dialog input[value=orders]");
    await page.check("dialog input[value=orders]");
  });

  await step("what is typed outlives a reload", async () => {
    await page.fill("#i-modal-reason", `repair orders for the night run ${HOSTILE}`);
    await page.reload();
    await dialog.waitFor();
    assert.match(await page.inputValue("#i-modal-reason"), /night run/);
    assert.equal(await page.inputValue("#i-modal-minutes"), "45");
  });

  await step("the submission has Slack's shapes and closes the modal", async () => {
    await page.click("dialog .modal-foot .primary");
    await dialog.waitFor({ state: "detached" });
    const { values } = control.seen.findLast((found) => found.type === "view_submission").view.state;
    assert.equal(values.level.value.selected_option.value, "WRITE");
    assert.deepEqual(values.schemas.value.selected_options.map((item) => item.value), ["orders", "billing"]);
    assert.deepEqual(values.minutes.value, { type: "number_input", value: "45" });
    assert.deepEqual(values.start.value, { type: "datetimepicker", selected_date_time: null });
  });

  await step("a DM appears, unread, by itself", async () => {
    await page.waitForSelector("#dms .badge");
    await place("dm");
    await page.waitForSelector(`#messages :text("waits for an approver")`);
  });

  await step("mallory does not see the approvers' channel", async () => {
    await actAs("mallory");
    await waitFor(async () => (await page.locator("#channels .place").count()) === 1, "one channel");
    await page.waitForFunction(() => !document.body.textContent.includes("db-approvals"));
  });

  await step("hostile text stays text", async () => {
    await actAs("carol");
    await place("approvals");
    await page.waitForSelector(`#messages :text("onerror")`);
    assert.equal(await page.evaluate(() => window.owned), undefined);
    assert.equal(await page.locator(`#messages img[src="x"], #messages script`).count(), 0);
    await shot("05-approval");
  });

  await step("every kind of block takes hostile text as text, and no link runs a script", async () => {
    const plain = { type: "plain_text", text: HOSTILE.slice(0, 70) };
    const evil = "javascript:window.owned=1";
    await control.call("chat.postMessage", { channel: "C0APPROVALS", text: "hostile", blocks: [
      { type: "header", text: plain },
      { type: "section", text: { type: "mrkdwn", text: `${HOSTILE} <${evil}|click> <!date^1795428000^{date}^${evil}|x> <@U0<b>> \`<${evil}>\` *${HOSTILE}* \`\`\`${HOSTILE}\`\`\`` },
        fields: [plain], accessory: { type: "button", action_id: "evil", text: plain, url: evil } },
      { type: "context", elements: [{ type: "mrkdwn", text: HOSTILE }, { type: "image", image_url: "https://example.com/pixel.png", alt_text: HOSTILE }] },
      { type: "actions", elements: [{ type: "static_select", action_id: "s", placeholder: plain, options: [{ text: plain, value: HOSTILE }] }] },
      { type: "rich_text", elements: [{ type: "rich_text_section", elements: [{ type: "text", text: HOSTILE, style: { bold: true } }, { type: "link", url: evil, text: HOSTILE }] }] },
      { type: "section", text: { type: "mrkdwn", text: `a <https://example.com/?q=1&amp;r=2|safe link> and &lt;b&gt; :lock:` } },
    ] });
    await page.waitForSelector(`#messages a:text("safe link")`);
    const found = await page.evaluate(() => ({
      owned: window.owned,
      bad: document.querySelectorAll("#messages script, #messages b, #messages img:not([src='icon.svg'])").length,
      hrefs: [...document.querySelectorAll("#messages a")].map((a) => a.href),
    }));
    assert.deepEqual(found, { owned: undefined, bad: 0, hrefs: ["https://example.com/?q=1&r=2"] });
    await shot("05b-hostile");
  });

  await step("a late control shows Slack's words beside the button", async () => {
    control.faults.push("late");
    await page.click("[data-action=approve]");
    await page.click("dialog.small .primary");
    await page.waitForSelector(`#messages .failure:has-text("Apps need to respond within 3 seconds")`);
  });

  await step("a confirm dialog can be left, then approves", async () => {
    const before = control.seen.length;
    await page.click("[data-action=approve]");
    await page.waitForSelector("dialog.small");
    await shot("06-confirm");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog.small", { state: "detached" });
    assert.equal(control.seen.length, before, "nothing was sent");
    await page.click("[data-action=approve]");
    await page.click("dialog.small .primary");
    await page.waitForSelector(`#messages .b-header:has-text("Request approved")`);
    const sent = control.seen.at(-1);
    assert.equal(sent.type, "block_actions");
    assert.equal(sent.user.id, "U0CAROL0001");
    assert.equal(sent.container.message_ts, sent.message.ts);
  });

  await step("the updated message is marked, and its thread tells who", async () => {
    await page.waitForSelector("#messages .edited");
    assert.equal(await page.locator("[data-action=approve]").count(), 0);
    await page.click("#messages .replies");
    await page.waitForSelector(`#thread-messages :text("approved by")`);
    assert.match(await page.textContent("#thread-messages"), /approved by @carol/);
    await page.fill("#thread-text", "thank you");
    await page.press("#thread-text", "Enter");
    await page.waitForSelector(`#thread-messages :text("thank you")`);
    await shot("07-thread");
    await page.click("#thread-close");
  });

  await step("the operator reads the DM and copies a line", async () => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: base });
    await actAs("alice");
    await place("dm");
    await page.waitForSelector(`#messages :text("is ready until")`);
    await page.locator("#messages .copy").first().click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^aws ssm start-session .* --reason 'REQ'$/);
    await shot("08-dm");
  });

  await step("a command's own answer and a dead control are shown only to who asked", async () => {
    await place("all");
    await page.fill("#composer-text", "/powerpole help");
    await page.press("#composer-text", "Enter");
    await page.waitForSelector(`.ephemeral:has-text("PowerPole helps")`);
    control.faults.push("broken");
    await page.fill("#composer-text", "/powerpole");
    await page.press("#composer-text", "Enter");
    await page.waitForSelector(`.ephemeral:has-text('failed with the error "dispatch_failed"')`);
    await actAs("bob");
    await waitFor(async () => (await page.locator(".ephemeral").count()) === 0, "bob's empty channel");
  });

  await step("a denial asks for its reason in a modal", async () => {
    await fetch(`${base}/_stage/act/command`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ user: "alice", channel: "#powerpole", text: "/powerpole" }) })
      .then((answer) => answer.json())
      .then(async (opened) => {
        assert.ok(opened.view_id, "the scripted way opens the same modal");
        const answer = await fetch(`${base}/_stage/act/submit`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ user: "alice", view_id: opened.view_id, values: { reason: { value: "a second piece of work" } } }) });
        assert.equal((await answer.json()).outcome, "closed");
      });
    await place("approvals");
    await page.click("[data-action=deny]");
    await dialog.waitFor();
    await page.keyboard.type("not on a Friday");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#messages .b-header:has-text("Request denied")`);
  });

  await step("a person who knows only the keyboard makes a request", async () => {
    await actAs("alice");
    const began = Date.now();
    await place("all");
    await page.keyboard.type("/powerpole");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.focus("#i-modal-reason");
    await page.keyboard.type("check the index of orders");
    await page.keyboard.press("Control+Enter");
    await dialog.waitFor({ state: "detached" });
    assert.ok(Date.now() - began < 20000);
    assert.equal(await page.evaluate(() => document.activeElement.id), "composer-text", "focus comes back");
  });

  await step("closing a modal tells control", async () => {
    await page.click("#new-request");
    await dialog.waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    await waitFor(() => control.seen.at(-1).type === "view_closed", "view_closed");
  });

  await step("at 390 px everything fits", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await overflow(), 0);
    await page.click("#menu");
    await page.waitForTimeout(250);
    await shot("09-narrow-menu");
    await page.click("#side-close");
    assert.equal(await page.getAttribute("#menu", "aria-expanded"), "false", "the menu's own button closes it");
    await page.waitForTimeout(250);
    // What the field says before one types must not be cut off.
    const cut = await page.evaluate(() => {
      const field = document.getElementById("composer-text");
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = getComputedStyle(field).font;
      return pen.measureText(field.placeholder).width - field.clientWidth;
    });
    assert.ok(cut <= 0, `the placeholder is ${cut} px too long`);
    await page.click("#menu");
    await page.waitForTimeout(250);
    await place("dm");
    await page.waitForTimeout(250);
    await shot("10-narrow-dm");
    assert.equal(await overflow(), 0);
    await page.click("#new-request");
    await dialog.waitFor();
    await shot("11-narrow-modal");
    assert.equal(await overflow(), 0);
    const box = await page.locator("dialog .modal-foot .primary").boundingBox();
    assert.ok(box.y + box.height <= 844, "the submit button is in sight");
  });

  await step("in the dark it is dark", async () => {
    await page.emulateMedia({ colorScheme: "dark" });
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.ok(ground.match(/\d+/g).slice(0, 3).every((part) => Number(part) < 60), ground);
    await shot("12-narrow-dark");
    await page.keyboard.press("Escape");
    await page.setViewportSize({ width: 1200, height: 800 });
    await shot("13-dark");
  });

  await step("every word can be read against its ground, in the light and in the dark", async () => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const [faint, looked] = await page.evaluate(faintTexts);
      assert.ok(looked > 20, `only ${looked} texts were looked at`);
      assert.deepEqual(faint, [], colorScheme);
    }
  });

  await step("nothing was complained of in the console, and nothing went outside", async () => {
    assert.deepEqual(problems, []);
  });
}

let code = 1;
try {
  await main();
  console.log(`${steps} steps held; screenshots in ${options.screenshots ? shots : "a temporary folder"}`);
  code = 0;
} catch (error) {
  console.error("FAILED:", error);
  console.error("console:", problems);
  const page = browser?.contexts()[0]?.pages()[0];
  await page?.screenshot({ path: join(shots, "failed.png") }).catch(() => {});
} finally {
  await browser?.close();
  control.stop();
  stage?.kill();
  if (options.screenshots || code === 0) rmSync(folder, { recursive: true, force: true });
}
process.exit(code);
