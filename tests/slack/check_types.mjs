// Judges what control sent to Slack by the types that Slack publishes for Block Kit, @slack/types.
//
//   node check_types.mjs JOURNAL.json [VIEW.json ...]
//
// JOURNAL.json is what GET /_stage/messages answers; each VIEW.json is a modal. Every wording of every
// message of the app becomes a typed literal and is compiled: a wrong type, a missing field and a field
// that Slack does not know are findings. typescript and @slack/types are looked up in $NODE_MODULES.
// Exit code 0 only if there is no finding and something was looked at.

import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const modules = process.env.NODE_MODULES;
const ts = createRequire(join(modules, "x.js"))("typescript");
const [journal, ...views] = process.argv.slice(2).map((path) => [path, JSON.parse(readFileSync(path, "utf8"))]);

const SET_BY_SLACK = ["id", "team_id", "state", "hash", "previous_view_id", "root_view_id", "app_id", "bot_id", "app_installed_team_id"];
const literals = [];
for (const message of journal[1].messages.filter((one) => one.by_app)) {
  [...(message.history ?? []), message].forEach((wording, number) => {
    if (wording.blocks?.length) literals.push([`message ${message.ts} wording ${number}`, "KnownBlock[]", wording.blocks]);
  });
}
for (const [path, view] of views) {
  const sent = Object.entries(view.view ?? view).filter(([key, value]) => !SET_BY_SLACK.includes(key) && value !== null && value !== "");
  literals.push([path, "ModalView", Object.fromEntries(sent)]);
}

const folder = mkdtempSync(join(tmpdir(), "powerpole-types-"));
let found = 0;
try {
  symlinkSync(modules, join(folder, "node_modules"));
  const file = join(folder, "sent.ts");
  const lines = literals.map(([, type, value], n) => `export const sent${n}: ${type} = ${JSON.stringify(value)};`);
  writeFileSync(file, `import type { KnownBlock, ModalView } from "@slack/types";\n${lines.join("\n")}\n`);
  const program = ts.createProgram([file], { noEmit: true, strict: true, skipLibCheck: true, types: [],
    module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext });
  for (const problem of ts.getPreEmitDiagnostics(program)) {
    found += 1;
    const line = problem.file ? problem.file.getLineAndCharacterOfPosition(problem.start).line - 1 : -1;
    console.log(`${literals[line]?.[0] ?? "compiler"}: ${ts.flattenDiagnosticMessageText(problem.messageText, " ").slice(0, 600)}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${literals.length} messages and modals compiled, ${found} findings`);
process.exit(literals.length > 0 && found === 0 ? 0 : 1);
