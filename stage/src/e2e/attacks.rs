//! What an operator with a shell, somebody else with an AWS login and a hostile document come to.

use super::scene::{ALICE, CLOSING, Line, MALLORY, Open, SOON, Scene};
use crate::journey::Login;
use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::time::Duration;

/// An attack from the operator's shell: what is typed, and what its output must and must not hold.
struct Attack {
    name: &'static str,
    line: &'static str,
    must: &'static str,
    never: &'static str,
}

const fn attack(
    name: &'static str,
    line: &'static str,
    must: &'static str,
    never: &'static str,
) -> Attack {
    Attack {
        name,
        line,
        must,
        never,
    }
}

/// Each line prints words that its own text does not hold, so that the terminal's echo proves nothing.
const FROM_THE_SHELL: &[Attack] = &[
    attack(
        "no uid, capability or new privilege",
        "grep -E 'CapEff|CapBnd|NoNew' /proc/self/status | tr -d '\\n\\t '",
        "CapEff:0000000000000000CapBnd:0000000000000000NoNewPrivs:1",
        "uid=0",
    ),
    attack(
        "a setuid copy of a shell stays the operator's",
        "cp /bin/bash ~/b; chmod 4755 ~/b; find / -xdev -perm /6000 2>/dev/null; ~/b -p -c 'echo eu=$EUID'",
        "eu=2002",
        "eu=0",
    ),
    attack(
        "no setuid file in the system, and a root that would not heed one",
        "find /usr /bin /sbin -xdev -perm /6000 | wc -l | sed s/^/setuid=/; grep -cE ' / [^ ]*nosuid' /proc/self/mounts | sed s/^/heed=/; grep -E '^[^ ]+ / ' /proc/self/mounts | grep -c nosuid | sed s/^/nosuid=/",
        "nosuid=1",
        "setuid=1",
    ),
    attack(
        "nothing of the agent is in sight",
        "for p in /proc/1/environ /var/lib/powerpole/spool/frames /run/powerpole/broker.sock /etc/powerpole/agent.toml \
         /var/lib/amazon/ssm /etc/shadow /dev/pts/0; do cat $p >/dev/null 2>&1 && echo \"got:$p\"; done; \
         ls -d /proc/[0-9]* | wc -l | awk '{print \"few=\" ($1 < 8)}'",
        "few=1",
        "got:/",
    ),
    attack(
        "no socket of a service",
        "find / -xdev -type s 2>/dev/null | wc -l | sed s/^/sockets=/; ls -A /run | wc -l | sed s/^/run=/; \
         systemd-run --user true; systemd-run true; busctl list; journalctl -n 1; echo tried",
        "sockets=0",
        "Running as unit",
    ),
    attack(
        "no address but the endpoint's",
        "for a in 169.254.169.254/80 10.77.0.1/4566 10.77.0.1/3306 10.77.0.1/8080 10.77.0.1/8022 127.0.0.1/3307 ::1/3306; do \
         timeout 2 bash -c \"exec 3<>/dev/tcp/$a\" 2>/dev/null && echo \"reached:$a\"; done; \
         timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/3306' && echo end-point",
        "end-point",
        "reached:1",
    ),
    attack(
        "no account of the database but the grant's",
        "mysql -h 127.0.0.1 -P 3306 --ssl -u root -pguessed -e 'SELECT 1' 2>&1 | grep -c '1045.*PowerPole' | sed s/^/other-account-refused=/",
        "other-account-refused=1",
        "other-account-refused=0",
    ),
    attack(
        "no datagram either",
        "(echo x >/dev/udp/10.77.0.1/53) 2>&1 | grep -c 'not permitted' | sed s/^/udp-refused=/",
        "udp-refused=1",
        "udp-refused=0",
    ),
    attack(
        "no signal to, no memory and no trace of anybody else's process",
        "python3 -c 'import os, ctypes as c
l = c.CDLL(None); mine = os.getuid(); hit = []
for p in range(1, 3000):
  try: theirs = os.stat(f\"/proc/{p}\").st_uid != mine
  except OSError: theirs = True
  if not theirs: continue
  try: os.kill(p, 0); hit.append((p, \"signal\"))
  except OSError: pass
  for f in (\"mem\", \"environ\", \"maps\", \"fd\", \"root\"):
    try: os.listdir(f\"/proc/{p}/{f}\") if f in (\"fd\", \"root\") else open(f\"/proc/{p}/{f}\", \"rb\").read(1); hit.append((p, f))
    except OSError: pass
  if l.ptrace(16, p, 0, 0) == 0 or l.ptrace(0x4206, p, 0, 0) == 0: hit.append((p, \"trace\"))
print(\"hit\" + \"s\", hit)'",
        "hits []",
        "hits [(",
    ),
    attack(
        "no tracing of one's own processes either, and no core of them",
        "python3 -c 'import os, ctypes as c, time
l = c.CDLL(None); p = os.fork()
if p == 0: time.sleep(5); os._exit(0)
print(\"trac\" + \"ed\", l.ptrace(16, p, 0, 0)); os.kill(p, 9)'; ulimit -Hc | sed s/^/core=/",
        "core=0",
        "traced 0",
    ),
    attack(
        "no abstract socket answers",
        "python3 -c 'import socket
names = {l.split()[-1] for l in open(\"/proc/net/unix\") if \" @\" in l}; got = []
for n in names:
  for t in (1, 2, 5):
    s = socket.socket(1, t); s.settimeout(1)
    try: s.connect(\"\\0\" + n[1:]); got.append(n)
    except (OSError, ValueError): pass
print(\"abstr\" + \"act\", got)'",
        "abstract []",
        "abstract ['",
    ),
    attack(
        "no other port of the loopback, whoever listens there",
        "python3 -c 'import socket
ports = {22, 53, 80, 443, 3307, 5355, 8080} | {int(l.split()[1].split(\":\")[1], 16) for f in (\"tcp\", \"tcp6\") for l in open(f\"/proc/net/{f}\") if \":\" in l.split()[1]}
got = []
for a in (\"127.0.0.1\", \"127.0.0.2\", \"::1\"):
  for p in sorted(ports | {3306}):
    s = socket.socket(10 if \":\" in a else 2); s.settimeout(0.3)
    try: s.connect((a, p)); got.append((a, p))
    except OSError: pass
    s.close()
print(\"reach\" + \"able\", got)'",
        "reachable [('127.0.0.1', 3306)]",
        "reachable []",
    ),
    attack(
        "nothing runs later: no at, cron, user manager or linger",
        "echo 'touch /tmp/later' | at now; echo 'touch /tmp/later' | batch; echo '* * * * * touch /tmp/later' | crontab -; \
         systemctl --user start x; loginctl enable-linger; ls -A /var/spool/cron /var/spool/at /var/lib/systemd/linger 2>/dev/null | grep -v : | wc -l | sed s/^/left=/; \
         (echo x >/var/spool/cron/operator || echo x >/var/lib/systemd/linger/operator) 2>/dev/null && echo wro''te",
        "left=0",
        "wrote",
    ),
    attack(
        "no shared memory, queue or key that would outlive the login",
        "python3 -c 'import ctypes as c
l = c.CDLL(None)
print(\"ke\" + \"ys\", l.syscall(248, b\"user\", b\"n\", b\"v\", 1, -3) >= 0, l.syscall(250, 0, -3, 1) >= 0)'; ls -A /dev/shm /dev/mqueue 2>/dev/null | wc -l | sed s/^/shared=/",
        "shared=0",
        "keys True",
    ),
    attack(
        "a full home is the operator's own trouble",
        "head -c 1200M /dev/zero >~/fill 2>/dev/null || echo full-$((40+2)); rm -f ~/fill; df --output=pcent / | tail -1",
        "full-42",
        "100%",
    ),
    attack(
        "no namespace, mount, device, ptrace or kernel interface",
        "unshare -Ur echo in-side 2>/dev/null; unshare -Urn echo in-side 2>/dev/null; unshare -n echo in-side 2>/dev/null; mknod ~/n c 1 3 2>/dev/null && echo in-side; \
         mount -t tmpfs x /mnt 2>/dev/null && echo in-side; echo x >/proc/sysrq-trigger; echo x >/dev/kmsg; \
         python3 -c 'import ctypes as c; l=c.CDLL(None); print(\"calls\", [n for n in (101,165,175,246,250,298,300,304,308,310,311,321,323,425,438) if l.syscall(n,0,0,0,0,0,0) >= 0])'",
        "calls []",
        "\nin-side",
    ),
    attack(
        "no socket but of the internet and of files",
        "python3 -c 'import socket\nfor a in ((2,3,6),(17,3,0),(16,3,0),(40,1,0),(38,5,0)):\n  try: socket.socket(*a); print(\"made\", a)\n  except OSError: pass\nprint(\"do\"+\"ne-sockets\")'",
        "done-sockets",
        "made (",
    ),
    attack(
        "writable places are few and bounded",
        "for d in /dev/shm /dev /run /var/lock /var/lib /etc /usr/local/bin /home/ssm-user; do (echo x >$d/pp) 2>/dev/null && echo \"wrote:$d\"; done; \
         df --output=size -k ~ | tail -1 | awk '{print \"bounded=\" ($1 <= 1048576)}'; df --output=fstype ~ /tmp /var/tmp | tail -3 | sort -u | tr '\\n' ' '",
        "bounded=1",
        "wrote:/",
    ),
    attack(
        "processes are bounded",
        "python3 -c 'import os, time, signal
made = []
try:
  while len(made) < 700:
    p = os.fork()
    if p == 0: time.sleep(20); os._exit(0)
    made.append(p)
except OSError: print(\"fork-bound\" + \"ed\")
for p in made: os.kill(p, 9)
print(\"forks\", len(made))'",
        "fork-bounded",
        "forks 700",
    ),
];

/// Documents that IAM denies in an account; the stage has no IAM, so what is left is the bastion's own. None of these starts a
/// shell, so none is let run, whatever it would execute.
const DOCUMENTS: &[(&str, &str)] = &[
    (
        "AWS-StartNoninteractiveCommand",
        "command=/usr/bin/powerpole-agent --version",
    ),
    ("AWS-StartNoninteractiveCommand", "command=/usr/bin/id"),
    (
        "AWS-StartNoninteractiveCommand",
        "command=/usr/lib/systemd/systemd --version",
    ),
    (
        "AWS-StartNoninteractiveCommand",
        "command=/lib64/ld-linux-x86-64.so.2 /usr/bin/id",
    ),
];

pub(super) async fn an_operators_attacks_come_to_nothing(scene: Arc<Scene>) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 600).await?;
    let mut login = scene.login(ALICE, &open).await?;
    login
        .send("stty -echo; PS1='$ '; bind 'set enable-bracketed-paste off'\n")
        .await?;
    for (number, attack) in FROM_THE_SHELL.iter().enumerate() {
        login
            .send(&format!("{}\necho at''tack-{number}-over\n", attack.line))
            .await?;
        let shown = login
            .expect(&format!("attack-{number}-over"), SOON)
            .await
            .with_context(|| attack.name)?;
        ensure!(
            shown.contains(attack.must) && !shown.contains(attack.never),
            "{}: {shown}",
            attack.name
        );
    }

    login
        .send("(setsid bash -c 'trap \"\" HUP TERM INT; sleep 8002 & sleep 8001' >/dev/null 2>&1 &); sleep 0.5; echo le''ft\n")
        .await?;
    login.expect("left", SOON).await?;
    ensure!(
        scene.process_on(&open.instance, "sleep 8001").is_some(),
        "the double fork did not start"
    );
    login.send("exit\n").await?;
    login.ended(SOON).await?;
    for line in ["sleep 8001", "sleep 8002"] {
        ensure!(
            scene.process_on(&open.instance, line).is_none(),
            "{line} outlived its login"
        );
    }

    // Whoever starts one waits in vain: its worker is killed before it could say so.
    let mut sessions = Vec::new();
    for person in [ALICE, MALLORY] {
        for (document, parameters) in DOCUMENTS {
            sessions.push(by_document(&scene, &open, person, document, parameters)?);
        }
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    for session in &sessions {
        let shown = session.screen();
        ensure!(
            !["uid=", "+PAM", "powerpole-agent "]
                .iter()
                .any(|ran| shown.contains(ran)),
            "a document without a shell ran: {shown}"
        );
    }
    scene.slack.finish(ALICE, &open.request).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(item.is("sealed"), "{:?}", item.json());
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    let refused = |line: &&Line| {
        line.kind == "x"
            && line.payload.contains(r#""code":"no_shell""#)
            && line.payload.contains(r#""ran":false"#)
    };
    let lines = scene.lines(&open.request)?;
    let refused = lines.iter().filter(refused).count();
    ensure!(
        refused == sessions.len(),
        "{refused} sessions without a shell were refused before they ran"
    );
    secrets_are_nowhere(&scene, &open)
}

fn by_document(
    scene: &Scene,
    open: &Open,
    person: crate::supervisor::Person,
    document: &str,
    parameters: &str,
) -> anyhow::Result<Login> {
    let line = format!(
        "aws ssm start-session --target {} --document-name {document} --parameters '{parameters}'",
        open.instance
    );
    Ok(Login::open(&line, scene.environment(person))?)
}

/// The password and what else is secret, in no log of any part.
fn secrets_are_nowhere(scene: &Scene, open: &Open) -> anyhow::Result<()> {
    let mut files = vec![
        scene
            .dir
            .join("machines")
            .join(&open.instance)
            .join("console.log"),
        scene.dir.join("supervisor.log"),
    ];
    let logs = std::fs::read_dir(scene.dir.join("logs")).context("reading the logs' folder")?;
    files.extend(logs.flatten().map(|entry| entry.path()));
    let evidence = scene.dir.join("evidence").join(&open.request);
    files.extend(
        std::fs::read_dir(evidence)
            .context("reading the evidence's folder")?
            .flatten()
            .map(|entry| entry.path()),
    );
    let mut read = 0;
    for file in files.iter().filter(|file| file.is_file()) {
        let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        read += 1;
        let text = String::from_utf8_lossy(&text);
        ensure!(
            !text.contains(&open.delivered.password),
            "the password is in {}",
            file.display()
        );
    }
    ensure!(read >= 4, "only {read} files were looked through");
    Ok(())
}
