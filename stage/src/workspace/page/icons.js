// Signs of the page as drawings: no font of the machine needs to have them. Each is decoration beside words or a label.

const PATHS = {
  close: "M4 4l8 8M12 4l-8 8",
  menu: "M2 4h12M2 8h12M2 12h12",
  send: "M2 2l12 6-12 6 2.5-6zM4.5 8H14",
  reply: "M2 3h12v8H7l-3 3v-3H2z",
  eye: "M1 8s2.5-4.5 7-4.5S15 8 15 8s-2.5 4.5-7 4.5S1 8 1 8zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  warning: "M8 2l6.5 11.5h-13zM8 6.5v3M8 11.4v.2",
  person: "M8 2.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM2.5 14c.6-3 2.8-4 5.5-4s4.9 1 5.5 4",
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: "16", height: "16", class: "icon", "aria-hidden": "true", focusable: "false" })) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

// Buttons of the page's own text carry the name of their sign.
export function drawIcons(root) {
  for (const node of root.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
}
