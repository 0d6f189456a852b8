#!/usr/bin/env python3
"""Both verifiers, one verdict: every golden vector, then seeded mutations of them.

`compare.py --powerpole PATH [--mutations N] [--seed S]`; without --powerpole only the Python verifier meets the vectors.
"""
import argparse
import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, "..", "..", "chain", "tests", "vectors")
sys.path.insert(0, HERE)
import verify  # noqa: E402


def by_rust(powerpole, directory, redactors):
    command = [powerpole, "verify", directory, "--json"]
    for key in redactors:
        command += ["--redactor", key]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode not in (0, 1):
        return {"exit": run.returncode}
    report = json.loads(run.stdout)
    assert report["exit"] == run.returncode
    return report


def by_python(directory, redactors):
    try:
        return verify.verify(directory, redactors)
    except verify.CouldNotCheck:
        return {"exit": 2}


def difference(one, two):
    return {key: (one[key], two.get(key)) for key in one if one[key] != two.get(key)}


def withheld_twin(message):
    """The line without its payload, or None for what cannot be withheld."""
    try:
        record = json.loads(message)
        if record["k"] in verify.STRUCTURAL:
            return None
        payload = base64.b64decode(record["d"], validate=True)
        pd = verify.sha(b"powerpole/1/pay\0", base64.b64decode(record["z"], validate=True), payload)
        head = message[:message.index(b'","z":"')]
    except (ValueError, KeyError, TypeError):
        return None
    return head + b'","l":%d,"w":"%s"}' % (len(payload), base64.b64encode(pd))


def mutate(dice, messages, strangers):
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3))):
        if not messages:
            return
        index = dice.randrange(len(messages))
        line = bytearray(messages[index])
        kind = dice.choice(("flip", "flip", "flip", "digit", "drop", "repeat", "move", "stranger", "splice", "cut", "byte", "withhold"))
        if kind == "flip" and line:
            line[dice.randrange(len(line))] ^= 1 << dice.randrange(7)
            messages[index] = bytes(line)
        elif kind == "digit":
            digits = [place for place, byte in enumerate(line[:60]) if 48 <= byte <= 57]
            if digits:
                line[dice.choice(digits)] = dice.randrange(48, 58)
                messages[index] = bytes(line)
        elif kind == "byte" and line:
            del line[dice.randrange(len(line))]
            messages[index] = bytes(line)
        elif kind == "withhold":
            twin = withheld_twin(bytes(line))
            if twin and dice.random() < 0.5:
                messages[index] = twin
            elif twin:
                messages.insert(dice.randrange(len(messages) + 1), twin)
        elif kind == "drop":
            del messages[index]
        elif kind == "repeat":
            messages.insert(dice.randrange(len(messages) + 1), messages[index])
        elif kind == "move":
            messages.insert(dice.randrange(len(messages)), messages.pop(index))
        elif kind == "stranger":
            messages[index] = dice.choice(strangers)
        elif kind == "splice":
            messages.insert(index, dice.choice(strangers))
        elif kind == "cut":
            del messages[dice.randrange(len(messages)):]


def mutate_anchors(dice, items):
    """What somebody who holds the bastion may write into its folder, and a few things that nobody may."""
    folder = items[0]["key"].rsplit("/", 1)[0] if items else "AROA:i-1/req-1"
    for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
        item = dict(dice.choice(items)) if items else {"version_id": "1", "body": "{}", "key": folder + "/seal.json"}
        item["last_modified"] = "2025-11-24T%s:00Z" % dice.choice(("01:00", "16:00", "16:01", "16:02", "17:00"))
        seq = dice.choice((1, 3, 7, 8, 14, 22, 10**6))
        kind = dice.choice(("strange", "garbage", "false", "later", "early", "drop", "elsewhere", "parts", "cut"))
        if kind == "strange":
            item["key"] = folder + dice.choice(("/zzz", "/head-1.json", "/x/genesis.json", "/head-%020d.json" % 0))
        elif kind == "garbage":
            item |= {"key": folder + "/head-%020d.json" % seq, "body": dice.choice(("", "x", item["body"]))}
        elif kind == "false":
            head = base64.b64encode(dice.randbytes(32)).decode()
            body = re.sub('"seq":[0-9]+,"head":"[^"]*"', f'"seq":{seq},"head":"{head}"', item["body"])
            body = body.replace('"kind":"genesis"', '"kind":"head"').replace('"kind":"seal"', '"kind":"head"')
            item |= {"key": folder + "/head-%020d.json" % seq, "body": body}
        elif kind == "later":
            item["body"] = "x"
        elif kind == "parts":
            name = dice.choice(("genesis.json", "seal.json", "head-%020d.json" % seq))
            item |= {"key": folder + "/" + name, "body": dice.choice(("x", item["body"])), "in_parts": True}
        elif kind == "elsewhere":
            item["key"] = "AROA:i-else/req-else/" + item["key"].rsplit("/", 1)[-1]
        if kind == "drop" and items:
            items.remove(dice.choice(items))
        elif kind == "cut":
            beside = {"strange": dice.randrange(3), "later": 0, "late": 0}
            items.append({"left_out": {"anchors": dice.random() < 0.5, "more": False, "beside": beside}})
            return
        elif kind != "drop":
            items.insert(dice.randrange(len(items) + 1), item)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--powerpole")
    parser.add_argument("--mutations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    wrong, vectors = 0, sorted(os.listdir(VECTORS))
    expected = {}
    for name in vectors:
        directory = os.path.join(VECTORS, name)
        with open(os.path.join(directory, "EXPECTED.json"), encoding="utf-8") as file:
            expected[name] = json.load(file)
        redactors = expected[name].pop("redactors")
        expected[name]["redactors"] = redactors
        reports = {"python": by_python(directory, redactors)}
        if arguments.powerpole:
            reports["rust"] = by_rust(arguments.powerpole, directory, redactors)
        for who, report in reports.items():
            found = difference({k: v for k, v in expected[name].items() if k != "redactors"}, report)
            if found:
                wrong += 1
                print(f"{name}: {who} differs from EXPECTED.json: {found}")
    print(f"{len(vectors)} vectors, {wrong} differences")
    if not arguments.powerpole:
        return int(wrong > 0)
    dice, verdicts = random.Random(arguments.seed), Counter()
    strangers = list(verify.read_lines(os.path.join(VECTORS, "incomplete-another-session", "LINES.jsonl")))
    strangers += list(verify.read_lines(os.path.join(VECTORS, "tampered-fork", "LINES.jsonl")))[-2:]
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.mutations):
            name = dice.choice(vectors)
            directory = os.path.join(scratch, "case")
            shutil.copytree(os.path.join(VECTORS, name), directory)
            messages = list(verify.read_lines(os.path.join(directory, "LINES.jsonl")))
            mutate(dice, messages, strangers)
            with open(os.path.join(directory, "LINES.jsonl"), "wb") as file:
                file.writelines(message + b"\n" for message in messages)
            path = os.path.join(directory, "ANCHORS.jsonl")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    items = [json.loads(line) for line in file]
                mutate_anchors(dice, items)
                with open(path, "w", encoding="utf-8") as file:
                    file.writelines(json.dumps(item) + "\n" for item in items)
            redactors = expected[name]["redactors"]
            one, two = by_python(directory, redactors), by_rust(arguments.powerpole, directory, redactors)
            verdicts[one.get("verdict", "could not check")] += 1
            found = difference(one, two)
            if found:
                wrong += 1
                keep = os.path.join(tempfile.gettempdir(), f"powerpole-differs-{arguments.seed}-{number}")
                shutil.rmtree(keep, ignore_errors=True)
                shutil.copytree(directory, keep)
                print(f"mutation {number} of {name}: python, rust: {found} (kept in {keep})")
            shutil.rmtree(directory)
    print(f"{arguments.mutations} mutations with seed {arguments.seed}: {dict(verdicts)}, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
