// Block Kit as DOM nodes, for messages and modals alike.

import { element, mrkdwn, textNode, withEmoji, safeHref, codeBlock, dateText } from "./mrkdwn.js";
import { inputFor } from "./inputs.js";
import { confirmDialog } from "./dialogs.js";

// `context`: names, act(element, block, value), and for modals form (values, errors).
export function renderBlocks(blocks, context) {
  return (blocks ?? []).map((block) => renderBlock(block, context));
}

function renderBlock(block, context) {
  switch (block.type) {
    case "header": return element("h3", { class: "b-header" }, withEmoji(block.text.text));
    case "divider": return element("hr");
    case "section": return section(block, context);
    case "context":
      return element("div", { class: "b-context" }, ...block.elements.map((part) =>
        part.type === "image" ? element("span", { class: "plain" }, part.alt_text) : textNode(part, context.names)));
    case "actions":
      return element("div", { class: "b-actions" }, ...block.elements.map((part) => interactive(part, block, context)));
    case "input": return inputBlock(block, context);
    case "image": return element("p", { class: "b-image" }, `[image: ${block.alt_text}]`);
    case "rich_text": return element("div", { class: "mrkdwn" }, ...block.elements.map((part) => richPart(part, context)));
    default: return element("p", { class: "b-unknown" }, `(${block.type})`);
  }
}

function section(block, context) {
  const body = element("div", { class: "b-section-body" });
  if (block.text) body.append(textNode(block.text, context.names));
  if (block.fields) {
    body.append(element("div", { class: "b-fields" }, ...block.fields.map((field) =>
      element("div", { class: "b-field" }, textNode(field, context.names)))));
  }
  const row = element("div", { class: "b-section" }, body);
  if (block.accessory) {
    row.append(block.accessory.type === "image"
      ? element("span", { class: "plain" }, block.accessory.alt_text)
      : interactive(block.accessory, block, context));
  }
  return row;
}

function interactive(part, block, context) {
  if (part.type === "button") return button(part, block, context);
  const label = part.placeholder?.text ?? "Choose";
  const built = inputFor(part, {
    id: `e-${context.scope}-${block.block_id}-${part.action_id}`,
    value: context.form?.value(block.block_id, part.action_id),
    names: context.names,
    changed: async (value) => {
      context.form?.set(block.block_id, part.action_id, value);
      if (part.confirm && !(await confirmDialog(part.confirm, context.names))) return;
      context.act(part, block, value);
    },
    label,
  });
  return element("div", { class: "b-select" }, built);
}

function button(part, block, context) {
  const node = element("button", {
    type: "button",
    class: `b-button ${part.style ?? ""}`,
    "aria-label": part.accessibility_label,
    "data-action": part.action_id,
  }, withEmoji(part.text.text));
  node.addEventListener("click", async () => {
    if (part.confirm && !(await confirmDialog(part.confirm, context.names))) return;
    const href = part.url && safeHref(part.url);
    if (href) window.open(href, "_blank", "noopener,noreferrer");
    node.disabled = true;
    node.classList.add("busy");
    await context.act(part, block, part.value);
    node.disabled = false;
    node.classList.remove("busy");
  });
  return node;
}

function inputBlock(block, context) {
  const id = `i-${context.scope}-${block.block_id}`;
  const error = context.form?.error(block.block_id);
  const part = block.element;
  const many = ["radio_buttons", "checkboxes", "multi_static_select"].includes(part.type);
  const described = [block.hint ? `${id}-hint` : null, error ? `${id}-error` : null].filter(Boolean).join(" ");
  const built = inputFor(part, {
    id,
    value: context.form?.value(block.block_id, part.action_id),
    names: context.names,
    describedBy: described || null,
    invalid: Boolean(error),
    required: !block.optional,
    labelledBy: many ? `${id}-label` : null,
    changed: (value) => {
      context.form?.set(block.block_id, part.action_id, value);
      if (block.dispatch_action) context.act(part, block, value);
    },
  });
  const title = [withEmoji(block.label.text), block.optional ? element("span", { class: "optional" }, " (optional)") : null];
  const label = many
    ? element("span", { id: `${id}-label`, class: "label" }, ...title)
    : element("label", { for: id, class: "label" }, ...title);
  return element("div", { class: `b-input${error ? " invalid" : ""}`, "data-block": block.block_id, role: many ? "group" : null, "aria-labelledby": many ? `${id}-label` : null },
    label,
    built,
    block.hint ? element("p", { id: `${id}-hint`, class: "hint" }, withEmoji(block.hint.text)) : null,
    error ? element("p", { id: `${id}-error`, class: "error" }, error) : null);
}

function richPart(part, context) {
  switch (part.type) {
    case "rich_text_preformatted":
      return codeBlock(part.elements.map((item) => item.text ?? item.url ?? "").join(""));
    case "rich_text_quote": return element("blockquote", {}, ...richItems(part, context));
    case "rich_text_list":
      return element(part.style === "ordered" ? "ol" : "ul", {}, ...part.elements.map((item) =>
        element("li", {}, ...richItems(item, context))));
    default: return element("p", {}, ...richItems(part, context));
  }
}

function richItems(part, context) {
  return (part.elements ?? []).map((item) => {
    switch (item.type) {
      case "text": return styled(item);
      case "link": {
        const href = safeHref(item.url);
        const label = item.text ?? item.url;
        return href ? element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label) : label;
      }
      case "user": return element("span", { class: "mention" }, `@${context.names.person(item.user_id) ?? item.user_id}`);
      case "channel": return element("span", { class: "mention" }, `#${context.names.channel(item.channel_id) ?? item.channel_id}`);
      case "emoji": return withEmoji(`:${item.name}:`);
      case "date": return dateText(item.timestamp, item.format ?? "") ?? item.fallback ?? "";
      default: return item.text ?? "";
    }
  });
}

function styled(item) {
  let node = document.createTextNode(item.text);
  for (const [flag, tag] of [["code", "code"], ["bold", "strong"], ["italic", "em"], ["strike", "s"]]) {
    if (item.style?.[flag]) node = element(tag, {}, node);
  }
  return node;
}

export function messageBody(message, context) {
  if (message.blocks?.length) return renderBlocks(message.blocks, context);
  return [mrkdwn(message.text, context.names)];
}
