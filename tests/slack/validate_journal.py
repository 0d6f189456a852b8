#!/usr/bin/env python3
"""Judges what control sent to Slack by slack_sdk's own models.

    validate_journal.py JOURNAL.json [VIEW.json ...]

JOURNAL.json is what GET /_stage/messages answers (or the workspace's journal file); each VIEW.json
is a modal. Every message of the app, in every wording it ever had, is parsed into slack_sdk's Block
Kit models and their validate_json() is run; what a model does not know is a finding too, as is a
duplicate block_id, a duplicate action_id inside a block, and an input without submit, which
slack_sdk does not see. Exit code 0 only if there is no finding and something was looked at.
"""

import json
import sys

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

ADDED_BY_SLACK = {
    "id", "team_id", "state", "hash", "previous_view_id", "root_view_id", "app_id", "bot_id",
    "app_installed_team_id",
}


def block_findings(blocks, where):
    """Findings in a list of blocks."""
    found = []
    block_ids = [block["block_id"] for block in blocks if "block_id" in block]
    for block_id in sorted({one for one in block_ids if block_ids.count(one) > 1}):
        found.append(f"{where}: block_id {block_id!r} is there twice")
    for number, block in enumerate(blocks):
        spot = f"{where}/blocks/{number}"
        try:
            parsed = Block.parse(block)
            if parsed is None:
                found.append(f"{spot}: slack_sdk knows no block of type {block.get('type')!r}")
                continue
            parsed.validate_json()
            lost = lost_keys(block, parsed.to_dict())
            if lost:
                found.append(f"{spot}: slack_sdk does not know {', '.join(sorted(lost))}")
        except (SlackObjectFormationError, TypeError, ValueError) as problem:
            found.append(f"{spot}: {problem}")
        elements = block.get("elements", [])
        action_ids = [e["action_id"] for e in elements if isinstance(e, dict) and "action_id" in e]
        if len(action_ids) != len(set(action_ids)):
            found.append(f"{spot}: an action_id is there twice")
    return found


def lost_keys(given, kept):
    """Keys of a block that did not survive parsing: what the model does not know."""
    lost = set()
    for key, value in given.items():
        if key not in kept:
            if value not in (None, False, [], ""):
                lost.add(key)
        elif isinstance(value, dict) and isinstance(kept[key], dict):
            lost |= {f"{key}.{inner}" for inner in lost_keys(value, kept[key])}
    return lost


def message_findings(message):
    """Findings in one message of the journal, in each of its wordings."""
    found = []
    wordings = [*message.get("history", []), message]
    for number, wording in enumerate(wordings):
        where = f"message {message['ts']} wording {number}"
        if len(wording["text"]) > 40000:
            found.append(f"{where}: text of {len(wording['text'])} characters")
        blocks = wording.get("blocks") or []
        if len(blocks) > 50:
            found.append(f"{where}: {len(blocks)} blocks")
        if blocks and not wording["text"]:
            found.append(f"{where}: blocks without text, so that notifications are empty")
        found += block_findings(blocks, where)
    return found


def view_findings(view, where):
    """Findings in one modal."""
    bare = {key: value for key, value in view.items() if key not in ADDED_BY_SLACK}
    bare = {key: value for key, value in bare.items() if value not in (None, "")}
    found = block_findings(bare.get("blocks", []), where)
    if any(b.get("type") == "input" for b in bare.get("blocks", [])) and "submit" not in bare:
        found.append(f"{where}: an input without submit")
    try:
        View(**bare).validate_json()
    except (SlackObjectFormationError, TypeError, ValueError) as problem:
        found.append(f"{where}: {problem}")
    return found


def main(paths):
    """Prints the findings; returns the exit code."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    found, looked = [], 0
    with open(paths[0], encoding="utf-8") as file:
        journal = json.load(file)
    messages = journal["messages"] if isinstance(journal, dict) else journal
    for message in messages:
        if message["by_app"]:
            looked += 1
            found += message_findings(message)
    for path in paths[1:]:
        with open(path, encoding="utf-8") as file:
            view = json.load(file)
        looked += 1
        found += view_findings(view.get("view", view), path)
    for finding in found:
        print(finding)
    print(f"{looked} messages and modals looked at, {len(found)} findings")
    return 0 if looked and not found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
