// What the scripts of this folder share: the browser, the stage's people, and a look at contrasts.

import { createRequire } from "node:module";
import { join } from "node:path";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

// Slack ids of the stage's people.
export const PEOPLE = { alice: "U0ALICE0001", bob: "U0BOB000001", carol: "U0CAROL0001", dave: "U0DAVE00001", mallory: "U0MALLORY01" };

// playwright-core is looked up in $NODE_MODULES, or beside this file.
export function launch(executablePath) {
  const from = process.env.NODE_MODULES ? join(process.env.NODE_MODULES, "x.js") : import.meta.url;
  const { chromium } = createRequire(from)("playwright-core");
  return chromium.launch({ executablePath, args: FLAGS });
}

// Keeps a picture of the page without the password: its block is masked by its words, and hidden by its
// place right above the DM's button. A DM whose block is not found is not pictured at all.
export async function picture(page, path) {
  const mask = page.locator(".b-section", { hasText: "The password, for this window only" }).locator(".code-block");
  const held = await page.locator("#messages .message:has([data-action=finish])").count();
  if (await mask.count() !== held) throw new Error("no picture was kept: the password's block was not found");
  // By the page's object model: its content policy refuses style sheets from outside, also a test's.
  const show = (visibility) => page.evaluate((wanted) => {
    for (const node of document.querySelectorAll(".b-section:has(+ .b-actions [data-action=finish]) .code-block")) node.style.visibility = wanted;
  }, visibility);
  await show("hidden");
  await page.screenshot({ path, mask: [mask], maskColor: "#5b5f66" });
  await show("");
}

// Runs in the page: visible texts with a contrast below 4.5 (3 if large), and how many were looked at.
export function faintTexts() {
  const parts = (colour) => (colour.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let looked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const words = walker.currentNode.textContent.trim();
    if (!words || !node.checkVisibility({ opacityProperty: true }) || node.closest(".hidden, option, .gutter, .skip, noscript, [aria-hidden]")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parts(style.color)), light(ground(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    looked += 1;
    if (contrast < (large ? 3 : 4.5)) faint.push(`${words.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return [faint, looked];
}
