//! The broker's door, with a stranger at it anywhere, and with a whole login where systemd is process 1.

use super::socket::{Connection, FromBroker, FromShim};
use super::*;
use crate::evidence::trial;
use crate::session::pty::Size;
use crate::session::shell::ShellRequest;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Mutex;

const ALICE: &str = "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com";
const BOB: &str = "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/bob@example.com";

struct NoShells;

impl Shells for NoShells {
    fn start(&self, _: u32, _: &Path, _: &ShellRequest) -> io::Result<tokio::process::Child> {
        panic!("nobody was admitted")
    }
    async fn end(&self, _: u32) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_process_that_ssm_did_not_start_is_refused_recorded_and_counted() {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let recorder = trial::recorder(&spool);
    let path = temp.path().join("broker.sock");
    let gid = rustix::process::getgid().as_raw();
    let door = Door {
        state: new_state(recorder.clone(), recorder.gate()),
        rule: Rule {
            ssm_uid: rustix::process::getuid().as_raw(),
            worker: WORKER.into(),
            principal: ALICE.to_owned(),
        },
        instance: "i-1".to_owned(),
        ssm_data: temp.path().to_owned(),
        shells: NoShells,
    };
    let broker = open(Listener::bind(&path, gid).unwrap(), door, None, 65_533);
    for (nonce_is_right, code) in [(true, "not_from_ssm"), (false, "protocol")] {
        let shim = Connection::connect(&path).unwrap();
        let challenge = shim.receive().await.unwrap().unwrap();
        let FromBroker::Challenge { nonce } = challenge.parse().unwrap() else {
            panic!()
        };
        let nonce = if nonce_is_right {
            nonce
        } else {
            "another".to_owned()
        };
        let login = FromShim::Login {
            nonce,
            command: None,
            term: "xterm".to_owned(),
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        shim.send_with(&login, &[null.as_fd(), null.as_fd()])
            .await
            .unwrap();
        let answer = shim.receive().await.unwrap().unwrap();
        assert!(matches!(
            answer.parse().unwrap(),
            FromBroker::Refused { .. }
        ));
        let (kind, _, record) = trial::recorded(&spool).pop().unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!((kind, record["code"].as_str()), (Kind::Refusal, Some(code)));
    }
    assert_eq!(
        broker.counts(),
        Counts {
            open: 0,
            admitted: 0,
            refused: 2
        }
    );
    let codes = broker.alarms().into_iter().map(|alarm| alarm.code);
    assert_eq!(codes.collect::<Vec<_>>(), ["not_from_ssm", "protocol"]);
}

/// Needs root, systemd as process 1, users ssm-user and operator, the shim as
/// /usr/lib/powerpole/shim/sh and a bash as /usr/bin/ssm-session-worker: a machine of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a machine of its own"]
async fn a_whole_login_under_systemd() {
    use crate::session::pty::Pty;
    use std::io::{Read as _, Write as _};
    let spool = Path::new("/var/lib/powerpole/spool");
    let _ = std::fs::remove_dir_all(spool);
    let recorder = trial::recorder(spool);
    let states = Path::new(SSM_DATA).join("i-1/document/state/current");
    std::fs::create_dir_all(&states).unwrap();
    let work = tempfile::tempdir().unwrap();
    for (id, owner) in [("alice-01", ALICE), ("bob-01", BOB), ("alice-02", ALICE)] {
        let state = json!({
            "DocumentInformation": {"DocumentID": id, "SessionOwner": owner, "DocumentName": "D"},
            "DocumentType": "StartSession",
        });
        std::fs::write(states.join(id), state.to_string()).unwrap();
        let script = "setpriv --reuid=ssm-user --regid=ssm-user --clear-groups \
                      /usr/lib/powerpole/shim/sh \"${@:2}\"; echo shim=$?\n";
        std::fs::write(work.path().join(id), script.replace("\"${@:2}\"", "\"$@\"")).unwrap();
    }
    let config = BrokerConfig {
        principal: ALICE.to_owned(),
        instance: "i-1".to_owned(),
        socket: "/run/powerpole/broker.sock".into(),
        shell: "/bin/bash".into(),
        ssm_user: "ssm-user".to_owned(),
        operator_user: "operator".to_owned(),
    };
    let broker = Broker::start(config, recorder.clone(), recorder.gate())
        .await
        .unwrap();
    broker.open_for_logins();
    let log_in = |id: &str, more: &[&str]| {
        let pty = Pty::open(Size {
            columns: 90,
            rows: 30,
        })
        .unwrap();
        let end = || std::process::Stdio::from(pty.slave.try_clone().unwrap());
        let child = std::process::Command::new("setsid")
            .args(["--ctty", "--wait", WORKER, id])
            .args(more)
            .current_dir(work.path())
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let flags = rustix::fs::fcntl_getfl(&pty.master).unwrap();
        rustix::fs::fcntl_setfl(&pty.master, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        let mut master = std::fs::File::from(pty.master.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = master.read(&mut buffer) {
                print!("{}", String::from_utf8_lossy(&buffer[..length]));
                shown
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        (pty, child, seen)
    };
    let sees = async |seen: &Arc<Mutex<String>>, text: &str| {
        for _ in 0..500 {
            if seen.lock().unwrap().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{text:?} is not in {:?}", seen.lock().unwrap());
    };
    let types = |pty: &Pty, text: &str| {
        std::fs::File::from(pty.master.try_clone().unwrap())
            .write_all(text.as_bytes())
            .unwrap();
    };

    let (bob, _child, seen) = log_in("bob-01", &[]);
    sees(&seen, "granted to somebody else").await;
    sees(&seen, "shim=1").await;
    drop(bob);

    let (_pty, _child, seen) = log_in("alice-02", &["-c", "echo cmd-$HOME-$((6*7)); exit 5"]);
    sees(&seen, "cmd-/home/operator-42").await;
    sees(&seen, "shim=5").await;

    let (pty, _child, seen) = log_in("alice-01", &[]);
    types(
        &pty,
        "echo I=$(id -un) T=$TERM H=$HOME; env | sort | tr '\\n' ' '; echo\n",
    );
    sees(&seen, "I=operator T=xterm-256color H=/home/operator").await;
    types(
        &pty,
        "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -s '\\t\\n' '  '; echo\n",
    );
    sees(
        &seen,
        "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1",
    )
    .await;
    types(
        &pty,
        "ls /var/lib/powerpole /run/powerpole; ls -d /proc/1; touch /usr/x; echo done1\n",
    );
    sees(&seen, "Permission denied").await;
    sees(&seen, "done1\r\n").await;
    pty.resize(Size {
        columns: 120,
        rows: 40,
    })
    .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    types(
        &pty,
        "stty size; nohup sleep 991 >/dev/null 2>&1 & setsid -f sleep 992; sleep 0.2; pgrep -c sleep\n",
    );
    sees(&seen, "40 120").await;
    sees(&seen, "\n2\r\n").await;
    assert_eq!(
        broker.counts(),
        Counts {
            open: 1,
            admitted: 2,
            refused: 1
        }
    );
    broker.broadcast("one minute left");
    sees(&seen, "*** PowerPole: one minute left").await;
    assert_eq!(broker.end_all("The window is over.").await, 0);
    sees(&seen, "The window is over.").await;
    sees(&seen, "shim=0").await;
    let sleeping = std::process::Command::new("pgrep")
        .arg("sleep")
        .output()
        .unwrap();
    assert!(sleeping.stdout.is_empty(), "{sleeping:?}");
    assert_eq!(broker.counts().open, 0);
    let kinds: Vec<_> = trial::recorded(spool)
        .into_iter()
        .map(|frame| (frame.0, frame.1))
        .collect();
    for session in [1, 2] {
        assert!(kinds.contains(&(Kind::SessionStart, session)));
        assert!(kinds.contains(&(Kind::SessionEnd, session)));
    }
    assert!(kinds.contains(&(Kind::Resize, 2)));
}
