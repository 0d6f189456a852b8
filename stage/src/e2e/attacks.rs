//! What an operator with a shell, somebody else with an AWS login and a hostile document come to.

use super::scene::{ALICE, CLOSING, MALLORY, Open, SOON, Scene};
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
        "no datagram either",
        "(echo x >/dev/udp/10.77.0.1/53) 2>&1 | grep -c 'not permitted' | sed s/^/udp-refused=/",
        "udp-refused=1",
        "udp-refused=0",
    ),
    attack(
        "no namespace, mount, device, ptrace or kernel interface",
        "unshare -Ur echo in-side 2>/dev/null; unshare -n echo in-side 2>/dev/null; mknod ~/n c 1 3 2>/dev/null && echo in-side; \
         mount -t tmpfs x /mnt 2>/dev/null && echo in-side; echo x >/proc/sysrq-trigger; echo x >/dev/kmsg; \
         python3 -c 'import ctypes as c; l=c.CDLL(None); print(\"calls\", [n for n in (101,165,175,246,250,298,304,308,310,311,321,323,425,438) if l.syscall(n,0,0,0,0,0,0) >= 0])'",
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

/// Documents that IAM denies in an account; the stage has no IAM, so what is left is the bastion's own.
const DOCUMENTS: &[(&str, &str)] = &[
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

    for person in [ALICE, MALLORY] {
        for (document, parameters) in DOCUMENTS {
            let shown = by_document(&scene, &open, person, document, parameters).await?;
            ensure!(
                !shown.contains("uid=") && !shown.contains("+PAM"),
                "{document} {parameters} ran: {shown}"
            );
        }
    }
    scene.slack.finish(ALICE, &open.request).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(item.is("sealed"), "{:?}", item.json());
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    secrets_are_nowhere(&scene, &open)
}

pub(super) async fn a_port_session_ends_the_bastion_and_reaches_no_database(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 600).await?;
    let line = format!(
        "aws ssm start-session --target {} --document-name AWS-StartPortForwardingSessionToRemoteHost \
         --parameters host=169.254.169.254,portNumber=80,localPortNumber=0",
        open.instance
    );
    let mut session = Login::open(&line, scene.environment(MALLORY))?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(
        item.text("close_reason") == "intrusion",
        "{:?}",
        item.json()
    );
    ensure!(
        item.is("sealed") && item.is("account_gone"),
        "{:?}",
        item.json()
    );
    session.ended(SOON).await?;
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    Ok(())
}

async fn by_document(
    scene: &Scene,
    open: &Open,
    person: crate::supervisor::Person,
    document: &str,
    parameters: &str,
) -> anyhow::Result<String> {
    let line = format!(
        "aws ssm start-session --target {} --document-name {document} --parameters '{parameters}'",
        open.instance
    );
    let mut session = Login::open(&line, scene.environment(person))?;
    session.ended(Duration::from_secs(15)).await?;
    Ok(session.screen())
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
