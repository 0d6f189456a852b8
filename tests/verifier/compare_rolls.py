#!/usr/bin/env python3
"""Both checkers of the roll of requests, one verdict: honest rows of rolls, then seeded mutations of them.

`compare_rolls.py --powerpole PATH [--mutations N] [--seed S]`
"""
import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import roll  # noqa: E402

OUTCOMES = ("DENIED", "LAPSED", "CLOSED", "FAILED")


def body(one):
    ends = []
    for n, request, outcome, sealed, seq, last in one["ended"]:
        known = f',"sealed":{sealed},"seq":{seq},"head":"{last}"' if sealed else ""
        ends.append(f'{{"n":{n},"request":"{request}","outcome":"{outcome}"{known}}}')
    previous = base64.b64encode(one["previous"]).decode()
    requested = ",".join(f'"{request}"' for request in one["requested"])
    return (
        f'{{"v":1,"kind":"roll","number":{one["number"]},"from":{one["from"]},"until":{one["until"]},'
        f'"previous":"{previous}","first":{one["first"]},"requested":[{requested}],"ended":[{",".join(ends)}]}}'
    )


def honest(dice, length):
    rolls, open_, following, previous = [], [], 1, bytes(32)
    for number in range(1, length + 1):
        requested = [f"req-{following + i:026d}" for i in range(dice.randrange(4))]
        one = {"number": number, "from": number * 86400, "until": (number + 1) * 86400, "previous": previous,
               "first": following, "requested": requested, "ended": []}
        open_ += enumerate(requested, following)
        following += len(requested)
        for n, request in [pair for pair in open_ if dice.random() < 0.6]:
            open_.remove((n, request))
            outcome = dice.choice(OUTCOMES)
            chain = outcome in ("CLOSED", "FAILED") and dice.random() < 0.8
            last = base64.b64encode(dice.randbytes(32)).decode()
            sealed = dice.choice(("true", "false")) if chain else None
            one["ended"].append((n, request, outcome, sealed, str(dice.randrange(10**6)), last))
        previous = roll.digest(one)
        rolls.append(one)
    return rolls


def lines(rolls):
    return [
        {"key": "rolls/roll-%020d.json" % one["number"], "version_id": "1",
         "last_modified": "2026-01-01T00:00:%02dZ" % (i % 60), "body": body(one)}
        for i, one in enumerate(rolls)
    ]


def mutate(dice, rolls):
    """One change to what lies in the bucket."""
    kind = dice.choice(("drop", "byte", "field", "end", "request", "later", "swap", "foreign", "cut"))
    objects = lines(rolls)
    place = dice.randrange(len(rolls))
    one = dict(rolls[place])
    if kind == "drop":
        del objects[place]
        return kind, objects
    if kind == "cut":
        if dice.random() < 0.5:
            objects[-1]["body"] = dice.choice(("", body(one)))
        left_out = {"rolls": dice.random() < 0.8, "later": dice.randrange(3), "foreign": dice.randrange(3)}
        return kind, objects[:dice.randrange(len(objects) + 1)] + [{"left_out": left_out}]
    if kind == "later":
        return kind, objects + [dict(objects[place], last_modified="2026-02-01T00:00:00Z", body="{}")]
    if kind == "foreign" and dice.random() < 0.3:
        return kind, [dict(objects[place], last_modified="2025-01-01T00:00:00Z", body="{}", in_parts=True)] + objects
    if kind == "foreign":
        key = dice.choice(("rolls/zzz", "rolls/roll-1.json", objects[place]["key"] + "x", "roll" + objects[place]["key"]))
        return kind, objects + [dict(objects[place], key=key, body=dice.choice(("", "{}", objects[place]["body"])))]
    if kind == "byte":
        text = objects[place]["body"]
        at = dice.randrange(len(text))
        objects[place]["body"] = text[:at] + chr(dice.randrange(32, 127)) + text[at + 1:]
        return kind, objects
    if kind == "field":
        name = dice.choice(("number", "from", "until", "first"))
        one[name] = max(0, one[name] + dice.choice((-1, 1)))
    if kind == "end" and one["ended"]:
        one["ended"] = one["ended"] + [dice.choice(one["ended"])] if dice.random() < 0.5 else one["ended"][1:]
    if kind == "request" and one["requested"]:
        one["requested"] = one["requested"][1:] if dice.random() < 0.5 else one["requested"] + one["requested"][:1]
    if kind == "swap":
        one["previous"] = dice.randbytes(32)
    objects[place]["body"] = body(one)
    return kind, objects


def by_rust(powerpole, path):
    run = subprocess.run([powerpole, "rolls", "--from", path, "--json"], capture_output=True, text=True, timeout=60)
    if run.returncode not in (0, 1):
        return {"exit": run.returncode}
    said = json.loads(run.stdout)
    rules = [finding["rule"] for finding in said["findings"]]
    return {"exit": run.returncode, "verdict": said["verdict"], "rolls": said["rolls"], "requests": said["requests"],
            "ended": said["ended"], "rules": rules, "foreign": said["foreign"]}


def by_python(path):
    run = subprocess.run([sys.executable, roll.__file__, path], capture_output=True, text=True, timeout=60)
    return {"exit": run.returncode} | (json.loads(run.stdout) if run.returncode in (0, 1) else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--powerpole", required=True)
    parser.add_argument("--mutations", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    seen, wrong = Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ROLLS.jsonl")
        for turn in range(args.mutations + 20):
            rolls = honest(dice, dice.randrange(1, 7))
            kind, objects = ("honest", lines(rolls)) if turn < 20 else mutate(dice, rolls)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(one) + "\n" for one in objects)
            one, other = by_python(path), by_rust(args.powerpole, path)
            seen[kind, one.get("verdict")] += 1
            if one != other or (kind == "honest" and one["exit"] != 0):
                wrong += 1
                print(f"{kind}: Python says {one}, powerpole {other}")
    for (kind, verdict), count in sorted(seen.items(), key=str):
        print(f"  {kind:8} {verdict or 'could not check':16} {count}")
    print(f"rolls: both checkers agree on {args.mutations + 20 - wrong} of {args.mutations + 20} rows")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
