#!/usr/bin/env bash
# moto (AWS), the AWS command line and slack_sdk in one virtual environment of the cache, named by the hash of what it holds.
. "$(dirname "$0")/lib.sh"

requirements=$INSTALL_DIR/python.txt
venv=$CACHE/venv-stage-$(content_hash "$requirements")

if [ ! -e "$venv/.complete" ]; then
    lock python
    if [ ! -e "$venv/.complete" ]; then
        rm -rf "$venv"
        build() {
            /usr/bin/python3 -m venv "$venv" &&
                "$venv/bin/pip" install --quiet --no-input --requirement "$requirements" &&
                "$venv/bin/pip" freeze >"$venv/installed.txt"
        }
        if ! timed "python: moto, awscli, slack_sdk" build; then
            rm -rf "$venv"
            part_skipped python "pip could not install stage/install/python.txt"
            exit 0
        fi
        touch "$venv/.complete"
    fi
fi
ln -sfn "$venv" "$CACHE/.venv-stage.$$" && mv -T "$CACHE/.venv-stage.$$" "$CACHE/venv-stage"
part_ready python "$(grep -iE '^(moto|awscli|slack_sdk)==' "$venv/installed.txt" | tr '\n' ' ')" "$venv"
