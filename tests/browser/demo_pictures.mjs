// Takes pictures of the demo's story: one line on standard input asks for one, one line answers.
//
//   node demo_pictures.mjs --page URL --out DIR [--chromium PATH]
//
// Asked for: `modal`, `card`, `dm`, `ended`, `receipt`, each with the request's id. Answered: `ok` or
// `failed: …`. It acts for nobody: it opens no modal and presses no button of a message. The password is
// in no picture. Ends with its input. playwright-core is looked up in $NODE_MODULES.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { PEOPLE, launch, picture } from "./browser.mjs";

const { values: options } = parseArgs({ options: {
  page: { type: "string" },
  out: { type: "string" },
  chromium: { type: "string", default: "/usr/bin/chromium" },
} });
mkdirSync(options.out, { recursive: true });
const browser = await launch(options.chromium);
const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, colorScheme: "light", locale: "en-GB" });
const page = await context.newPage();
page.setDefaultTimeout(20000);
await page.goto(options.page);
await page.waitForSelector("#who-select option", { state: "attached" });

const message = (...words) => words.reduce((found, hasText) => found.filter({ hasText }), page.locator("#messages .message"));
const see = async (who, place) => {
  await page.selectOption("#who-select", PEOPLE[who]);
  await page.click(place);
};
const APPROVALS = "[data-place=C0APPROVALS]";

const scenes = {
  modal: async () => {
    const field = (name) => page.locator(`#i-modal-${name}`);
    await page.selectOption("#who-select", PEOPLE.alice);
    await field("reason").waitFor();
    await field("cluster").selectOption("orders-prod");
    await field("level").selectOption("READ");
    await page.check('dialog input[value="orders-prod/orders"]');
    await field("duration").selectOption("90");
    await field("reason").fill("Look into order 1003 for a customer");
    // The whole form in one picture.
    await page.setViewportSize({ width: 1200, height: 1000 });
  },
  card: async (request) => {
    await see("bob", APPROVALS);
    await message(request).locator("[data-action=approve]").waitFor();
  },
  dm: async (request) => {
    await see("alice", "#dms .place");
    await message(request, "Your bastion is ready").waitFor();
  },
  ended: async (request) => {
    await see("alice", "#dms .place");
    await message(request, "Your window has ended").waitFor();
  },
  receipt: async (request) => {
    await see("bob", APPROVALS);
    await message(request).locator(".replies").click();
    await page.locator("#thread-messages .message", { hasText: "Final head" }).waitFor();
  },
};

// What was asked before this waits in the pipe.
for await (const line of createInterface({ input: process.stdin })) {
  const [name, request] = line.trim().split(" ");
  try {
    await page.setViewportSize({ width: 1200, height: 800 });
    await scenes[name](request);
    await picture(page, join(options.out, `${Object.keys(scenes).indexOf(name) + 1}-${name}.png`));
    console.log("ok");
  } catch (error) {
    console.log(`failed: ${String(error?.message ?? error).split("\n")[0]}`);
  }
}
await browser.close();
