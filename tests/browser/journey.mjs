// A person's main job with the real control: ask, approve, read the DM, see it overwritten at the end.
//
//   node journey.mjs --page URL [--screenshots DIR] [--views DIR] [--chromium PATH]
//
// URL is the workspace page of a stage that runs; --views keeps control's modals as JSON, for
// tests/slack. The password is masked in every picture and never printed. playwright-core is looked up
// in $NODE_MODULES. Exit code 0 only if every step held.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PEOPLE, faintTexts, launch, picture } from "./browser.mjs";

const { values: options } = parseArgs({ options: {
  page: { type: "string" },
  screenshots: { type: "string" },
  views: { type: "string" },
  chromium: { type: "string", default: "/usr/bin/chromium" },
} });
const base = options.page.replace(/\/$/, "");
for (const folder of [options.screenshots, options.views]) if (folder) mkdirSync(folder, { recursive: true });

const WINDOW_S = 90;
const ASKING_MS = 20_000;
// Formatting, a mention and an emoji as somebody may type them: the approver must see the very characters.
const REASON = "Look into order 1003 for a *customer*, `soon`, <@U0BOB000001> :tada:";
const REQUIRED = ["cluster", "level", "schemas", "duration", "reason"];
const problems = [];
let browser, steps = 0, shots = 0, secret;

async function step(name, run) {
  const began = Date.now();
  await run();
  steps += 1;
  console.log(`ok  ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
}

async function main() {
  browser = await launch(options.chromium);
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, colorScheme: "light", locale: "en-GB", timezoneId: "UTC" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: base });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.on("console", (line) => { if (["error", "warning"].includes(line.type())) problems.push(line.text()); });
  page.on("pageerror", (error) => problems.push(String(error)));

  const shot = async (name) => {
    shots += 1;
    if (!options.screenshots) return;
    await picture(page, join(options.screenshots, `${String(shots).padStart(2, "0")}-${name}.png`));
  };
  const actAs = (name) => page.selectOption("#who-select", PEOPLE[name]);
  const go = (place) => page.click({ all: "[data-place=C0POWERPOLE]", approvals: "[data-place=C0APPROVALS]", dm: "#dms .place" }[place]);
  const dialog = page.locator("dialog.modal:not(.small)");
  const submit = page.locator("dialog .modal-foot .primary");
  const field = (name) => page.locator(`#i-modal-${name}`);
  const error = (name) => page.locator(`[data-block=${name}] .error`);
  const sent = page.locator("#messages .message");
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  const keepView = async (name, who) => {
    if (!options.views) return;
    const state = await fetch(`${base}/_stage/state?user=${PEOPLE[who]}`).then((answer) => answer.json());
    writeFileSync(join(options.views, `${name}.json`), JSON.stringify(state.views.at(-1)));
  };
  const inTheDark = async (name) => {
    await page.emulateMedia({ colorScheme: "dark" });
    await shot(`${name}-dark`);
    assert.deepEqual((await page.evaluate(faintTexts))[0], [], `${name}: too faint in the dark`);
    await page.emulateMedia({ colorScheme: "light" });
    assert.deepEqual((await page.evaluate(faintTexts))[0], [], `${name}: too faint in the light`);
  };
  const narrow = async (name) => {
    await page.setViewportSize({ width: 390, height: 844 });
    assert.equal(await overflow(), 0, `${name}: wider than a phone`);
    await shot(`${name}-390`);
    await inTheDark(`${name}-390`);
    await page.setViewportSize({ width: 1200, height: 800 });
  };

  await page.goto(base);
  await page.waitForSelector("#who-select option", { state: "attached" });
  await actAs("alice");
  await go("all");
  await shot("empty");

  let asking = 0;
  await step("alice types /powerpole, and control's modal opens", async () => {
    const began = Date.now();
    await page.fill("#composer-text", "/powerpole");
    await page.press("#composer-text", "Enter");
    await dialog.waitFor();
    asking += Date.now() - began;
    await keepView("request", "alice");
    await shot("modal");
  });

  await step("an empty form says beside each field what is missing", async () => {
    const began = Date.now();
    await submit.click();
    await error("reason").waitFor();
    asking += Date.now() - began;
    for (const name of REQUIRED) assert.equal(await error(name).count(), 1, `no error beside ${name}`);
    assert.equal(await error("start").count(), 0, "the start is optional");
    await shot("field-errors");
    await narrow("field-errors");
  });

  await step("alice fills it in; a schema of another cluster is refused beside its field", async () => {
    const began = Date.now();
    await field("cluster").selectOption("orders-prod");
    await field("level").selectOption("READ");
    await page.check('dialog input[value="archive-prod/orders"]');
    await field("duration").selectOption(String(WINDOW_S));
    await field("reason").fill(REASON);
    await submit.click();
    await error("schemas").waitFor();
    await page.uncheck('dialog input[value="archive-prod/orders"]');
    await page.check('dialog input[value="orders-prod/orders"]');
    asking += Date.now() - began;
    await shot("filled");
    assert.equal(await field("reason").inputValue(), REASON, "what was typed is kept");
  });

  await step(`alice asks; all of it took the page less than ${ASKING_MS / 1000} s`, async () => {
    const began = Date.now();
    await submit.click();
    await dialog.waitFor({ state: "detached" });
    asking += Date.now() - began;
    console.log(`    asking took ${(asking / 1000).toFixed(1)} s of page time`);
    assert.ok(asking <= ASKING_MS, `asking took ${asking} ms`);
    await page.waitForSelector("#dms .badge");
    await go("dm");
    await sent.filter({ hasText: "waits for an approver" }).waitFor();
    await shot("dm-waiting");
  });

  let request;
  await step("bob sees the card in #db-approvals", async () => {
    await actAs("bob");
    await go("approvals");
    const card = sent.filter({ hasText: "READ on Orders" }).last();
    await card.locator("[data-action=approve]").waitFor();
    const words = await card.innerText();
    for (const wanted of ["alice@example.com", "orders", "90 s", REASON]) assert.ok(words.includes(wanted), `the card lacks ${wanted}`);
    assert.equal(await card.locator("blockquote *").count(), 0, "the reason is shown as formatted");
    [request] = words.match(/req-[0-9a-z]{26}/);
    await shot("card");
    await narrow("card");
  });

  await step("bob looks at the denial's modal and leaves it", async () => {
    await page.locator("[data-action=deny]").last().click();
    await dialog.waitFor();
    await keepView("denial", "bob");
    await shot("denial");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  });

  await step("bob approves, and the card loses its buttons", async () => {
    await page.locator("[data-action=approve]").last().click();
    await page.waitForFunction((id) => [...document.querySelectorAll("#messages .message")].some((m) => m.textContent.includes(id) && /Approved by/.test(m.textContent)), request);
    assert.equal(await sent.filter({ hasText: request }).locator("[data-action=approve]").count(), 0);
    await shot("approved");
  });

  await step("alice gets a DM with three lines to copy", async () => {
    await actAs("alice");
    await go("dm");
    const ready = sent.filter({ hasText: "Your bastion is ready" }).filter({ hasText: request });
    await ready.waitFor({ timeout: 90_000 });
    assert.equal(await ready.locator(".code-block").count(), 3);
    const copied = [];
    for (let n = 0; n < 3; n += 1) {
      await ready.locator(".copy").nth(n).click();
      copied.push(await page.evaluate(() => navigator.clipboard.readText()));
    }
    assert.match(copied[0], /^aws ssm start-session .*--target i-[0-9a-f]{17}/);
    assert.match(copied[1], /^mysql .*-u alice/);
    secret = copied[2];
    assert.ok(secret.length >= 16 && !/\s/.test(secret), "the third line is no password");
    await page.evaluate(() => navigator.clipboard.writeText("nothing"));
    assert.equal(await ready.locator("[data-action=finish]").count(), 1);
    await shot("dm-ready");
    await narrow("dm-ready");
  });

  await step("nobody else sees that DM", async () => {
    for (const other of ["bob", "mallory"]) {
      await actAs(other);
      await page.waitForFunction((id) => document.getElementById("who-select").value === id, PEOPLE[other]);
      const state = await fetch(`${base}/_stage/state?user=${PEOPLE[other]}`).then((answer) => answer.text());
      assert.ok(!state.includes(secret), `${other} could read the password`);
    }
    await actAs("alice");
    await go("dm");
  });

  await step("alice is warned, and at the end the DM is overwritten", async () => {
    await sent.filter({ hasText: "Your window ends in" }).filter({ hasText: request }).first().waitFor({ timeout: WINDOW_S * 1000 });
    await shot("warned");
    const ended = sent.filter({ hasText: "Your window has ended" }).filter({ hasText: request });
    await ended.waitFor({ timeout: (WINDOW_S + 60) * 1000 });
    assert.equal(await ended.locator(".code-block").count(), 0);
    const state = await fetch(`${base}/_stage/state?user=${PEOPLE.alice}`).then((answer) => answer.text());
    assert.ok(!state.includes(secret) && !(await page.content()).includes(secret), "the password still shows");
    await shot("dm-ended");
    await inTheDark("dm-ended");
  });

  await step("the receipt is in the approval's thread", async () => {
    await actAs("bob");
    await go("approvals");
    await sent.filter({ hasText: request }).locator(".replies").click({ timeout: 60_000 });
    const receipt = page.locator("#thread-messages .message", { hasText: "Receipt" });
    await receipt.filter({ hasText: "Final head" }).waitFor({ timeout: 60_000 });
    assert.match(await receipt.innerText(), /Evidence: sealed, shipped and anchored[^]*Account: read back as gone/);
    await shot("receipt");
    await narrow("receipt");
  });

  await step("the console has nothing to complain of", async () => {
    assert.deepEqual(problems, []);
  });
}

let code = 1;
try {
  await main();
  console.log(`${steps} steps held, ${shots} screens looked at`);
  code = 0;
} catch (error) {
  const words = String(error?.stack ?? error);
  console.error("FAILED:", secret ? words.replaceAll(secret, "(password)") : words);
  console.error("console:", problems);
  const page = browser?.contexts()[0]?.pages()[0];
  if (page && options.screenshots) await picture(page, join(options.screenshots, "failed.png")).catch(() => {});
} finally {
  await browser?.close();
}
process.exit(code);
