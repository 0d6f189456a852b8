// Slack's mrkdwn as DOM nodes. Text only ever becomes text nodes: nothing is parsed as HTML.

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const unescape = (text) =>
  text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

// Slack draws these; here their names do, since not every machine has a font with them. What PowerPole sends has none.
export function withEmoji(text) {
  return text.replace(/:([a-z0-9_+-]+):/g, (whole, name) => (EMOJI.has(name) ? `[${name.replaceAll("_", " ")}]` : whole));
}

const EMOJI = new Set(["white_check_mark", "x", "warning", "lock", "unlock", "key", "hourglass", "rocket", "no_entry",
  "rotating_light", "alarm_clock", "memo", "bell", "eyes", "information_source", "tada"]);

// An address is only followed if it is http, https or mailto.
export function safeHref(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(address, label) {
  const href = safeHref(address);
  if (!href) return document.createTextNode(label);
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);
}

export function dateText(seconds, format) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return null;
  const show = (options) => new Intl.DateTimeFormat(undefined, options).format(date);
  const long = { year: "numeric", month: "long", day: "numeric" };
  const time = { hour: "2-digit", minute: "2-digit" };
  const days = Math.round(
    (new Date(date).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 86400000,
  );
  const near = { 0: "today", 1: "tomorrow", "-1": "yesterday" }[days];
  const tokens = {
    date_num: () => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`,
    date: () => show(long),
    date_short: () => show({ ...long, month: "short" }),
    date_long: () => show({ ...long, weekday: "long" }),
    date_pretty: () => near ?? show(long),
    date_short_pretty: () => near ?? show({ ...long, month: "short" }),
    date_long_pretty: () => near ?? show({ ...long, weekday: "long" }),
    time: () => show(time),
    time_secs: () => show({ ...time, second: "2-digit" }),
    ago: () => near ?? show(long),
  };
  return format.replace(/\{([a-z_]+)\}/g, (whole, name) => tokens[name]?.() ?? whole);
}

function reference(inside, names) {
  const bar = inside.indexOf("|");
  const target = bar < 0 ? inside : inside.slice(0, bar);
  const label = bar < 0 ? null : unescape(inside.slice(bar + 1));
  if (target.startsWith("!date^")) {
    const [, seconds, format, address] = target.split("^");
    const text = dateText(seconds, unescape(format ?? "")) ?? label ?? "";
    const iso = new Date(Number(seconds) * 1000);
    const valid = !Number.isNaN(iso.getTime());
    const node = element("time", { datetime: valid ? iso.toISOString() : null, title: valid ? iso.toUTCString() : null }, text);
    return address ? element("span", {}, link(unescape(address), text)) : node;
  }
  if (target.startsWith("@")) {
    const id = target.slice(1);
    return element("span", { class: "mention" }, `@${names.person(id) ?? label ?? id}`);
  }
  if (target.startsWith("#")) {
    const id = target.slice(1);
    return element("span", { class: "mention" }, `#${names.channel(id) ?? label ?? id}`);
  }
  if (target.startsWith("!")) return element("span", { class: "mention" }, `@${label ?? target.slice(1)}`);
  const address = unescape(target);
  return link(address, label ?? address.replace(/^mailto:/, ""));
}

export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = element("textarea", { class: "hidden" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

export function codeBlock(text) {
  const copy = element("button", { type: "button", class: "copy", "aria-label": "Copy this code" }, "Copy");
  copy.addEventListener("click", () => copyText(text, copy));
  // A line breaks between words, not after the hyphens of an option or an id.
  const words = text.split(/(\s+)/).map((part) => (/\S/.test(part) ? element("span", { class: "word" }, part) : part));
  // A single word, a password for example, stays whole: the button goes below it where there is no room beside it.
  return element("div", { class: `code-block${/\s/.test(text.trim()) ? "" : " single"}` }, element("pre", { tabindex: "0" }, element("code", {}, ...words)), copy);
}

const INLINE = /`([^`\n]+)`|<([^<>\n]+)>|(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])|(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])|(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])/g;

function inline(text, names, depth = 0) {
  const out = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > at) out.push(withEmoji(unescape(text.slice(at, match.index))));
    const [whole, code, inside, bold, italic, struck] = match;
    if (code !== undefined) out.push(element("code", {}, ...inlineCode(code)));
    else if (inside !== undefined) out.push(reference(inside, names));
    else if (depth > 4) out.push(unescape(whole));
    else {
      const tag = bold !== undefined ? "strong" : italic !== undefined ? "em" : "s";
      out.push(element(tag, {}, ...inline(bold ?? italic ?? struck, names, depth + 1)));
    }
    at = match.index + whole.length;
  }
  if (at < text.length) out.push(withEmoji(unescape(text.slice(at))));
  return out;
}

function inlineCode(code) {
  return [unescape(code.replace(/<([^<>|]+)\|([^<>]*)>/g, "$2").replace(/<(https?:[^<>]+)>/g, "$1"))];
}

export function mrkdwn(text, names) {
  const box = element("div", { class: "mrkdwn" });
  const parts = String(text).split(/```\n?([\s\S]*?)\n?```/);
  parts.forEach((part, index) => {
    if (index % 2 === 1) {
      box.append(codeBlock(inlineCode(part)[0]));
      return;
    }
    const trimmed = part.replace(/^\n|\n$/g, "");
    if (trimmed === "") return;
    let quote = null;
    let lines = [];
    const flush = () => {
      if (lines.length === 0) return;
      const target = quote ? element("blockquote") : element("p");
      lines.forEach((line, n) => {
        if (n > 0) target.append(document.createElement("br"));
        target.append(...inline(line, names));
      });
      box.append(target);
      lines = [];
    };
    for (const line of trimmed.split("\n")) {
      const quoted = /^(&gt;|>) ?/.exec(line);
      if (Boolean(quoted) !== Boolean(quote)) {
        flush();
        quote = Boolean(quoted);
      }
      lines.push(quoted ? line.slice(quoted[0].length) : line);
    }
    flush();
  });
  return box;
}

export function textNode(object, names) {
  if (!object) return element("span");
  if (object.type === "mrkdwn") return mrkdwn(object.text, names);
  return element("span", { class: "plain" }, withEmoji(String(object.text)));
}
