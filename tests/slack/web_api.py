#!/usr/bin/env python3
"""Calls the workspace's Web API with Slack's own Python client.

    web_api.py --stage-binary PATH

Starts a workspace of its own and a control that checks signatures with slack_sdk's verifier. Needs
slack_sdk, from the virtual environment of stage/install/python.txt. Exit code 0 only if every step held.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.webhook import WebhookClient

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from validate_journal import main as validate_journal  # noqa: E402

SECRET, TOKEN = "secret-of-the-test", "xoxb-of-the-test"
ALICE, ALL, APPROVALS = "U0ALICE0001", "C0POWERPOLE", "C0APPROVALS"


def free_port():
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain(words):
    """A plain text object."""
    return {"type": "plain_text", "text": words}


VIEW = {
    "type": "modal", "callback_id": "request", "title": plain("Request"), "submit": plain("Ask"),
    "blocks": [{"type": "input", "block_id": "reason", "label": plain("Reason"),
                "element": {"type": "plain_text_input", "action_id": "value"}}],
}
BUTTONS = [
    {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}},
    {"type": "actions", "block_id": "decide", "elements": [
        {"type": "button", "action_id": "approve", "text": plain("Approve"), "value": "req-1"}]},
]


class Control(BaseHTTPRequestHandler):
    """Opens a modal for a command, and notes what came."""

    client = None
    seen = []
    answers = []

    def do_POST(self):  # noqa: N802 (the base class's name)
        """One signed request."""
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        verifier = SignatureVerifier(SECRET)
        if not verifier.is_valid_request(body, dict(self.headers)):
            return self.reply(401)
        form = dict(urllib.parse.parse_qsl(body))
        self.seen.append(json.loads(form["payload"]) if "payload" in form else form)
        if "command" in form:
            self.client.views_open(trigger_id=form["trigger_id"], view=VIEW)
        self.reply(200, self.answers.pop(0) if self.answers else "")

    def reply(self, status, body=""):
        """Answers."""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Says nothing."""


class Test:
    """The steps. Each is a method, run in the order of their names here."""

    def __init__(self, base, client):
        self.base, self.client = base, client

    def post(self, path, body, method="POST"):
        """A call of /_stage/…"""
        request = urllib.request.Request(
            f"{self.base}/_stage/{path}", json.dumps(body).encode(),
            {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            return json.load(refused)

    def refused(self, code, call, **args):
        """The call is refused with exactly this code."""
        try:
            call(**args)
        except SlackApiError as error:
            assert error.response["error"] == code, (error.response.data, code)
            return error.response
        raise AssertionError(f"not refused: {code}")

    def people_are_known(self):
        """users.*, auth.test"""
        assert self.client.auth_test()["bot_id"] == "B0POWERPOLE"
        alice = self.client.users_info(user=ALICE)["user"]
        assert alice["profile"]["email"] == "alice@example.com"
        # By this control knows its own people.
        assert alice["team_id"] == self.client.auth_test()["team_id"] == "T0POWERPOLE"
        assert not alice["is_restricted"] and not alice["is_ultra_restricted"]
        assert self.client.users_lookupByEmail(email="alice@example.com")["user"]["id"] == ALICE
        assert len(self.client.users_list()["members"]) == 6
        self.refused("users_not_found", self.client.users_lookupByEmail, email="eve@example.com")
        self.refused("user_not_found", self.client.users_info, user="U0NOBODY")

    def tokens_are_checked(self):
        """not_authed, invalid_auth"""
        other = WebClient(token="xoxb-wrong", base_url=f"{self.base}/api/")
        self.refused("invalid_auth", other.auth_test)
        nobody = WebClient(base_url=f"{self.base}/api/")
        self.refused("not_authed", nobody.auth_test)
        self.refused("unknown_method", self.client.api_call, api_method="chat.explode")

    def conversations_are_opened(self):
        """conversations.*"""
        opened = self.client.conversations_open(users=[ALICE], return_im=True)
        assert opened["channel"]["user"] == ALICE
        assert ALICE not in self.client.conversations_members(channel=APPROVALS)["members"]
        self.refused("channel_not_found", self.client.conversations_members, channel="C0NONE")

    def messages_live(self):
        """chat.*"""
        posted = self.client.chat_postMessage(channel=ALL, text="hello", blocks=BUTTONS)
        reply = self.client.chat_postMessage(channel=ALL, text="r", thread_ts=posted["ts"])
        assert reply["message"]["thread_ts"] == posted["ts"]
        kept = self.client.chat_update(channel=ALL, ts=posted["ts"], text="new")
        assert kept["message"]["blocks"], "text alone keeps the blocks"
        gone = self.client.chat_update(channel=ALL, ts=posted["ts"], text="new", blocks=[])
        assert "blocks" not in gone["message"]
        self.client.chat_delete(channel=ALL, ts=reply["ts"])
        self.refused("message_not_found", self.client.chat_delete, channel=ALL, ts=reply["ts"])
        self.refused("no_text", self.client.chat_postMessage, channel=ALL, text="")
        self.refused("msg_too_long", self.client.chat_postMessage, channel=ALL, text="x" * 40001)
        self.client.chat_postEphemeral(channel=ALL, user=ALICE, text="only you")
        self.refused("user_not_in_channel", self.client.chat_postEphemeral, channel=APPROVALS,
                     user=ALICE, text="x")
        direct = self.client.chat_postMessage(channel=ALICE, text="dm")
        assert direct["channel"].startswith("D")

    def limits_hold(self):
        """invalid_blocks with its messages"""
        long = [{"type": "section", "text": plain("x" * 3001)}]
        found = self.refused("invalid_blocks", self.client.chat_postMessage, channel=ALL, text="t",
                             blocks=long)
        assert "/blocks/0/text/text" in found["response_metadata"]["messages"][0]
        twice = [{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]
        self.refused("invalid_blocks", self.client.chat_postMessage, channel=ALL, text="t",
                     blocks=twice)
        self.refused("invalid_blocks_format", self.client.api_call, api_method="chat.postMessage",
                     data={"channel": ALL, "text": "t", "blocks": "{not json"})

    def a_request_by_script(self):
        """command, field error, submit"""
        opened = self.post("act/command", {"user": "alice", "channel": "#powerpole",
                                           "text": "/powerpole"})
        assert opened["view"]["callback_id"] == "request", opened
        missing = self.post("act/submit", {"user": "alice", "view_id": opened["view_id"]})
        assert list(missing["errors"]) == ["reason"], missing
        values = {"reason": {"value": "why"}}
        body = {"user": "alice", "view_id": opened["view_id"], "values": values}
        Control.answers.append(json.dumps(
            {"response_action": "errors", "errors": {"reason": "longer"}}))
        assert self.post("act/submit", body)["errors"] == {"reason": "longer"}
        Control.answers.append(json.dumps(
            {"response_action": "errors", "errors": {"no-such-block": "x"}}))
        assert self.post("act/submit", body)["outcome"] == "failed"
        Control.answers.append(json.dumps({"response_action": "update", "view": VIEW}))
        assert self.post("act/submit", body)["outcome"] == "updated"
        Control.answers.append(json.dumps({"response_action": "push", "view": VIEW}))
        pushed = self.post("act/submit", body)
        assert pushed["outcome"] == "pushed" and pushed["view_id"] != opened["view_id"]
        Control.answers.append(json.dumps({"response_action": "clear"}))
        assert self.post("act/submit", body | {"view_id": pushed["view_id"]})["ok"]
        assert self.post("act/submit", body)["error"] == "no_view", "clear closed all of them"
        sent = Control.seen[-1]["view"]["state"]["values"]["reason"]["value"]
        assert sent == {"type": "plain_text_input", "value": "why"}, sent

    def a_click_by_script(self):
        """block_actions, response_url"""
        posted = self.client.chat_postMessage(channel=ALL, text="hello", blocks=BUTTONS)
        click = {"user": "bob", "channel": ALL, "ts": posted["ts"], "action_id": "approve"}
        assert self.post("act/click", click)["ack"] == "ok"
        sent = Control.seen[-1]
        assert sent["actions"][0]["value"] == "req-1" and sent["user"]["id"] == "U0BOB000001"
        hook = WebhookClient(sent["response_url"])
        assert hook.send(text="done", replace_original=True, blocks=[]).status_code == 200
        assert hook.send(text="for you", response_type="ephemeral").status_code == 200
        journal = json.load(urllib.request.urlopen(f"{self.base}/_stage/messages", timeout=10))
        found = next(m for m in journal["messages"] if m["ts"] == posted["ts"])
        assert found["text"] == "done" and found["history"][0]["text"] == "hello"
        gone = click | {"action_id": "other"}
        assert self.post("act/click", gone)["error"] == "no_action"
        outside = {"user": "mallory", "channel": APPROVALS, "ts": "1", "action_id": "approve"}
        assert self.post("act/click", outside)["error"] == "no_conversation"

    def the_rate_limit_holds(self):
        """429 with Retry-After"""
        self.post("limits", {"rate_limit": True})
        statuses = []
        for _ in range(7):
            try:
                self.client.chat_postMessage(channel=APPROVALS, text="x")
                statuses.append(200)
            except SlackApiError as error:
                statuses.append(error.response.status_code)
                assert int(error.response.headers["Retry-After"]) >= 1
        assert statuses == [200] * 5 + [429] * 2, statuses
        self.post("limits", {"rate_limit": False})

    def faults_do_what_they_say(self):
        """error, 429, drop, apply-then-fail"""
        count = lambda: len(json.load(urllib.request.urlopen(  # noqa: E731
            f"{self.base}/_stage/messages", timeout=10))["messages"])
        before = count()
        self.post("faults", {"method": "chat.postMessage", "kind": "error", "error": "fatal_error"})
        self.refused("fatal_error", self.client.chat_postMessage, channel=ALL, text="x")
        for kind, more in (("drop", 0), ("apply-then-fail", 1)):
            self.post("faults", {"method": "chat.postMessage", "kind": kind})
            try:
                self.client.chat_postMessage(channel=ALL, text="x")
            except SlackApiError as error:
                raise AssertionError("an answer came") from error
            except Exception:  # the client's own words for a broken connection
                pass
            else:
                raise AssertionError("an answer came")
            assert count() == before + more, kind
        assert self.post("faults", None, "DELETE")["faults"] == []

    def what_was_sent_is_valid(self):
        """slack_sdk's models like what the journal holds"""
        journal = json.load(urllib.request.urlopen(f"{self.base}/_stage/messages", timeout=10))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file, \
                tempfile.NamedTemporaryFile("w", suffix=".json") as view, \
                tempfile.NamedTemporaryFile("w", suffix=".json") as bad:
            json.dump(journal, file)
            json.dump(VIEW, view)
            json.dump({key: value for key, value in VIEW.items() if key != "submit"}, bad)
            for each in (file, view, bad):
                each.flush()
            assert validate_journal([file.name, view.name]) == 0
            assert validate_journal([file.name, bad.name]) == 1


def main():
    """Runs every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage-binary", required=True)
    binary = parser.parse_args().stage_binary
    control = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        (at / "secret").write_text(SECRET)
        (at / "token").write_text(TOKEN)
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        stage = subprocess.Popen([
            binary, "workspace", "--listen", f"127.0.0.1:{port}",
            "--control", f"http://127.0.0.1:{control.server_port}", "--signing-secret-file",
            at / "secret", "--bot-token-file", at / "token", "--state", at / "state",
            "--rate-limit", "false"], stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{base}/_stage/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.05)
            Control.client = WebClient(token=TOKEN, base_url=f"{base}/api/", retry_handlers=[])
            test = Test(base, Control.client)
            steps = [name for name in vars(Test)
                     if not name.startswith("_") and name not in ("post", "refused")]
            for name in steps:
                getattr(test, name)()
                print(f"ok  {name.replace('_', ' ')}")
            print(f"{len(steps)} steps held")
        finally:
            stage.terminate()
            stage.wait()
            control.shutdown()


if __name__ == "__main__":
    main()
