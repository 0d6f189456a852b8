// One input element of Block Kit as a form control. Values are plain JSON: text, a number of
// seconds, an option's value, or a list of option values.

import { element, withEmoji } from "./mrkdwn.js";

const words = (option) => withEmoji(option.text.text);

export function inputFor(part, options) {
  switch (part.type) {
    case "static_select": case "overflow": return select(part, options);
    case "multi_static_select": case "checkboxes": return boxes(part, options);
    case "radio_buttons": return radios(part, options);
    case "datetimepicker": return datetime(part, options);
    case "users_select": return select({ ...part, options: options.names.people().map((person) => ({ text: { text: person.real_name }, value: person.id })) }, options);
    default: return line(part, options);
  }
}

function common(options) {
  return {
    id: options.id,
    "aria-describedby": options.describedBy,
    "aria-invalid": options.invalid ? "true" : null,
    "aria-required": options.required ? "true" : null,
    "aria-label": options.label,
  };
}

function select(part, options) {
  const chosen = options.value ?? part.initial_option?.value ?? part.initial_user ?? "";
  const node = element("select", common(options));
  node.append(element("option", { value: "", disabled: options.required ? true : null }, part.placeholder?.text ?? "Choose…"));
  const add = (target, list) => list.forEach((option) => target.append(element("option", { value: option.value }, words(option))));
  if (part.options) add(node, part.options);
  for (const group of part.option_groups ?? []) {
    const box = element("optgroup", { label: group.label.text });
    add(box, group.options);
    node.append(box);
  }
  node.value = chosen;
  node.addEventListener("change", () => options.changed(node.value));
  return node;
}

function allOptions(part) {
  return part.options ?? (part.option_groups ?? []).flatMap((group) => group.options);
}

function choice(part, options, option, index, type, checked, changed) {
  const id = index === 0 ? options.id : `${options.id}-${index}`;
  const input = element("input", {
    ...common({ ...options, id, label: null }), type, name: options.id, value: option.value,
    "aria-required": null,
  });
  input.checked = checked;
  input.addEventListener("change", changed);
  const text = element("span", {}, words(option));
  if (option.description) text.append(element("span", { class: "hint" }, withEmoji(option.description.text)));
  return element("label", { class: "choice" }, input, text);
}

function boxes(part, options) {
  const chosen = new Set(options.value ?? (part.initial_options ?? []).map((option) => option.value));
  const list = allOptions(part);
  const box = element("div", { class: `choices${list.length > 6 ? " many" : ""}` });
  const heads = new Map((part.option_groups ?? []).map((group) => [group.options[0], group.label.text]));
  list.forEach((option, index) => {
    if (heads.has(option)) box.append(element("p", { class: "choice-group" }, withEmoji(heads.get(option))));
    box.append(choice(part, options, option, index, "checkbox", chosen.has(option.value), (event) => {
      if (event.target.checked) chosen.add(option.value); else chosen.delete(option.value);
      options.changed(list.map((item) => item.value).filter((value) => chosen.has(value)));
    }));
  });
  return box;
}

function radios(part, options) {
  const chosen = options.value ?? part.initial_option?.value;
  const box = element("div", { class: "choices", role: "radiogroup", "aria-labelledby": options.labelledBy });
  allOptions(part).forEach((option, index) => {
    box.append(choice(part, options, option, index, "radio", option.value === chosen, () => options.changed(option.value)));
  });
  return box;
}

function datetime(part, options) {
  const seconds = options.value ?? part.initial_date_time;
  const node = element("input", { ...common(options), type: "datetime-local" });
  if (seconds) {
    const date = new Date(Number(seconds) * 1000);
    node.value = new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  }
  node.addEventListener("input", () => {
    const time = Math.floor(new Date(node.value).getTime() / 1000);
    options.changed(Number.isNaN(time) ? "" : time);
  });
  return node;
}

function line(part, options) {
  const types = { number_input: "number", email_text_input: "email", url_text_input: "url", datepicker: "date", timepicker: "time" };
  const initial = part.initial_value ?? part.initial_date ?? part.initial_time ?? "";
  const attributes = {
    ...common(options), placeholder: part.placeholder?.text,
    maxlength: part.type === "plain_text_input" ? part.max_length ?? 3000 : null,
    min: part.min_value, max: part.max_value,
    step: part.type === "number_input" ? (part.is_decimal_allowed ? "any" : "1") : null,
  };
  const node = part.multiline
    ? element("textarea", { ...attributes, rows: "3" })
    : element("input", { ...attributes, type: types[part.type] ?? "text", autocomplete: "off" });
  node.value = options.value ?? initial;
  node.addEventListener("input", () => options.changed(node.value));
  return node;
}
