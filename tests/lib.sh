# What the test scripts share: a folder and a stage of their own, real servers in it, and an end that leaves nothing.
# Sourced from the clone's root, never run.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

# begin WORD: makes RUN (a name nobody else has), WORK (its folder) and sees to it that all ends with this script.
begin() {
    RUN=$1-$$
    WORK=$(mktemp -d "/tmp/powerpole-$RUN.XXXXXX")
    STAGE=$WORK/stage
    BIN=$WORK/bin
    HUB=pp-$RUN-hub
    SERVERS=()
    LANES=()
    LANE=only
    TEST=''
    mkdir -p "$WORK/logs" "$WORK/tmp" "$BIN"
    # Sessions of unprivileged users are among what is tested.
    chmod 0755 "$WORK" "$WORK/tmp"
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap finish EXIT
}

# child LOG COMMAND…: starts it in a session of its own, so that one signal ends it with all that it started. CHILD is its
# process. Ctrl-C reaches this script alone, which then ends the others in order; what they start may be interrupted again.
child() {
    local log=$1
    shift
    setsid env --default-signal=INT,QUIT "$@" >>"$log" 2>&1 </dev/null &
    CHILD=$!
}

# test_process LOG COMMAND…: runs one test binary to its end, for 15 minutes at most, and answers its exit code. The number
# of a process that is gone may soon be another's: none is kept. A script that runs several at once does so in processes of
# its own, each with another LANE, and notes them in LANES; each ends its own test when it is ended.
test_process() {
    local log=$1 code=0
    shift
    rm -f "$WORK/$LANE.pid"
    child "$log" env "TMPDIR=$WORK/tmp" timeout --kill-after=10 900 \
        sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$WORK/$LANE.pid" "$@"
    TEST=$CHILD
    wait "$TEST" || code=$?
    TEST=''
    # 124 and more: it was ended, and could not remove what it had made.
    [ "$code" -lt 124 ] || remove_stages_of_tests
    return "$code"
}

end_test() {
    [ -n "$TEST" ] || return 0
    kill -TERM -- "-$TEST"
    for _ in $(seq 50); do
        kill -0 -- "-$TEST" || break
        sleep 0.1
    done
    kill -KILL -- "-$TEST"
    wait "$TEST"
    remove_stages_of_tests
}

# Tests of the stage make small stages of their own, named t<process> or t<process>-<number>, below WORK.
remove_stages_of_tests() {
    local name file dir pid
    pid=$(cat "$WORK/$LANE.pid" 2>/dev/null)
    [ -n "$pid" ] || return 0
    for file in /run/powerpole/stages/t"$pid"{,-*} "/run/netns/pp-t$pid-hub"; do
        [ -e "$file" ] || continue
        name=$(basename "$file")
        name=${name#pp-} name=${name%-hub}
        dir=$(cat "/run/powerpole/stages/$name" 2>/dev/null || echo "$WORK/$name")
        case $dir in
            "$WORK"/*) "$BIN/powerpole-stage" hub down --stage "$name" --dir "$dir" >>"$WORK/logs/down.log" 2>&1 || true ;;
        esac
    done
}

finish() {
    local code=$? left=0 pid
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    for pid in "${LANES[@]}"; do kill -TERM "$pid"; done 2>/dev/null
    for pid in "${LANES[@]}"; do wait "$pid"; done
    # Nothing of a throw-away server is worth its orderly end.
    for pid in "${SERVERS[@]}"; do kill -KILL -- "-$pid" && wait "$pid"; done 2>/dev/null
    end_test 2>/dev/null
    if [ -x "$BIN/powerpole-stage" ]; then
        if [ -e "/run/netns/$HUB" ]; then
            "$BIN/powerpole-stage" parts stop --stage "$RUN" --dir "$STAGE" 2>>"$WORK/logs/down.log"
            "$BIN/powerpole-stage" hub down --stage "$RUN" --dir "$STAGE" >>"$WORK/logs/down.log" 2>&1
        fi
    fi
    if [ -e "/run/netns/$HUB" ] || grep -qF " $WORK/" /proc/self/mounts; then
        say "left behind: $HUB or mounts below $WORK; its logs stay there"
        left=1
    else
        rm -rf "$WORK"
    fi
    [ "$code" != 0 ] || code=$left
    exit "$code"
}

# in_hub COMMAND…: in the network of this run's stage, and in nothing else of it.
in_hub() { nsenter --net="/run/netns/$HUB" -- "$@"; }

# Starts the stage's network and its servers, and says where they are as the tests want to know it.
servers_up() {
    "$BIN/powerpole-stage" hub up --stage "$RUN" --dir "$STAGE"
    "$BIN/powerpole-stage" parts start --stage "$RUN" --dir "$STAGE" --only mysql,mariadb,moto
    export POWERPOLE_TEST_CA=$STAGE/run/tls/ca.pem
    POWERPOLE_TEST_MYSQL=mysql://root:$(cat "$STAGE/run/mysql-owner.password")@10.77.0.1:3306/
    POWERPOLE_TEST_MARIADB=mysql://root:$(cat "$STAGE/run/mariadb-owner.password")@10.77.0.1:3307/
    POWERPOLE_TEST_AWS=http://127.0.0.1:5000
    export POWERPOLE_TEST_MYSQL POWERPOLE_TEST_MARIADB POWERPOLE_TEST_AWS
}

# pair_up: one more MySQL, the writer, on port 3316, and a replica of it, the reader, on 3317. PAIR is their owner's password.
pair_up() {
    PAIR=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    pair_server writer 3316 1
    pair_server reader 3317 2
    pair_answers writer 3316
    pair_answers reader 3317
    pair_sql 3317 "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.77.0.1', SOURCE_PORT = 3316, SOURCE_USER = 'root',
        SOURCE_PASSWORD = '$PAIR', SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1;
        START REPLICA; SET GLOBAL super_read_only = ON;"
}

pair_server() {
    local name=$1 port=$2 id=$3 data=$WORK/$1 base libraries
    base=$(readlink -f "$CACHE/mysql")
    libraries=$(cd "$base/root" && echo usr/lib/*-linux-gnu)
    cp -a --reflink=auto "$base/template" "$data"
    cp "$STAGE"/data/mysql/{ca.pem,server.pem,server.key} "$data/"
    {
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$PAIR';"
        echo "CREATE USER 'root'@'10.77.0.1' IDENTIFIED BY '$PAIR' REQUIRE SSL;"
        echo "GRANT ALL PRIVILEGES ON *.* TO 'root'@'10.77.0.1' WITH GRANT OPTION;"
    } >"$data/owner.sql"
    # Both servers make their owner themselves: it is not replicated.
    sed -i '1i SET sql_log_bin = 0;' "$data/owner.sql"
    chown -R 65534:65534 "$data"
    child "$WORK/logs/$name.log" --unset=TMPDIR nsenter --net="/run/netns/$HUB" -- unshare --mount --propagation private \
        sh -c 'set -e
            mount -t tmpfs -o mode=0755 tmpfs /mnt
            mkdir /mnt/base /mnt/data
            mount --bind "$1" /mnt/base
            mount --bind "$2" /mnt/data
            shift 2
            exec "$@"' sh "$base/root" "$data" \
        "/mnt/base/$libraries/$(basename "$base/root/$libraries"/ld-linux-*.so.*)" --library-path "/mnt/base/$libraries" \
        /mnt/base/usr/sbin/mysqld --no-defaults --user=nobody --basedir=/mnt/base/usr --datadir=/mnt/data \
        --socket=/mnt/data/server.sock --pid-file=/mnt/data/server.pid --plugin-dir=/mnt/base/usr/lib/mysql/plugin \
        --lc-messages-dir=/mnt/base/usr/share/mysql --bind-address=10.77.0.1 --port="$port" --mysqlx=OFF --secure-file-priv=NULL \
        --init-file=/mnt/data/owner.sql --ssl-ca=/mnt/data/ca.pem --ssl-cert=/mnt/data/server.pem \
        --ssl-key=/mnt/data/server.key --auto-generate-certs=OFF --caching-sha2-password-auto-generate-rsa-keys=OFF \
        --skip-name-resolve --event-scheduler=ON --innodb-buffer-pool-size=32M --innodb-redo-log-capacity=8M \
        --innodb-data-file-path=ibdata1:12M:autoextend --server-id="$id" --log-bin=binlog --gtid-mode=ON \
        --enforce-gtid-consistency=ON --relay-log=relay
    SERVERS+=("$CHILD")
}

pair_sql() {
    MYSQL_PWD=$PAIR in_hub mariadb --no-defaults --host=10.77.0.1 --port="$1" --user=root --ssl \
        --skip-ssl-verify-server-cert --batch --skip-column-names --execute="$2"
}

pair_answers() {
    local said
    for _ in $(seq 300); do
        said=$(pair_sql "$2" 'SELECT 1' 2>&1) && return 0
        sleep 0.1
    done
    say "MySQL, the $1, does not answer: $said"
    tail -n 20 "$WORK/logs/$1.log" >&2
    return 1
}
