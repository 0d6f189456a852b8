//! The hub and the instance host with real parts: moto, nspawn machines, namespaces, nftables. They need root, moto and a Debian
//! root in the cache, and say loudly when they are skipped.

#![expect(unreachable_pub, reason = "a test's own module")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod lab;

use lab::{Lab, eventually, text_of};
use std::process::Command;
use std::time::{Duration, Instant};

/// A bound for what never comes, no measure of speed: the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn an_instance_boots_with_its_address_and_metadata_and_its_power_off_terminates_it() {
    let Some(lab) = Lab::start() else { return };
    let start = Instant::now();
    let instance = lab.launch("stay");
    lab.booted(&instance);
    let first = start.elapsed();
    let found = lab.findings(&instance);
    let is = |name: &str, value: &str| assert_eq!(found[name].trim_end(), value, "{name}");

    let described = lab.ec2("DescribeInstances", &[("InstanceId.1", &instance)]);
    let address = text_of(&described, "privateIpAddress").unwrap();
    is("own_address", &format!("{address}/32"));
    is("address", &format!("200 {address}"));
    is("instance", &format!("200 {instance}"));
    is("request", "200 req-1");
    is("region", "200 us-east-1");
    is("role", "200 PowerPoleBastion");
    is("hostname", &format!("ip-{}", address.replace('.', "-")));
    is("v1", "401");
    is("wrong_token", "401");
    is("forwarded", "403");
    is("signature", "404");
    let document: serde_json::Value =
        serde_json::from_str(found["document"].strip_prefix("200 ").unwrap()).unwrap();
    assert_eq!(document["privateIp"], address.as_str());

    let credentials: serde_json::Value =
        serde_json::from_str(found["credentials"].strip_prefix("200 ").unwrap()).unwrap();
    let key = credentials["AccessKeyId"].as_str().unwrap();
    let caller = lab.call_as(key, "sts", "GetCallerIdentity", &[]).unwrap();
    let user = text_of(&caller, "UserId").unwrap();
    assert!(
        user.starts_with("AROA") && user.ends_with(&format!(":{instance}")),
        "{user}"
    );

    for right in [
        "nftables",
        "setuid",
        "mlock",
        "transient",
        "scope",
        "sandbox",
        "no_exec_paths",
    ] {
        is(right, "yes");
    }

    let start = Instant::now();
    let second = lab.launch("poweroff");
    lab.booted(&second);
    let again = start.elapsed();
    let off = eventually("EC2 hears of the power-off", SOON, || {
        lab.state(&second) == "terminated"
    });
    eventually("its root is removed", SOON, || {
        lab.listed(&second)["phase"] == "gone"
    });
    let kept = lab.machine(&second);
    assert!(kept.join("console.log").metadata().unwrap().len() > 0);
    assert!(kept.join("journal").read_dir().unwrap().count() > 0);
    assert!(!kept.join("upper").exists() && !kept.join("root").exists());
    assert_eq!(lab.state(&instance), "running");
    eprintln!(
        "RunInstances to multi-user {first:.2?}, again {again:.2?}; multi-user to terminated by poweroff {off:.2?}"
    );
}

#[test]
fn a_reboot_comes_back_on_the_same_root_and_stays_one_running_instance() {
    let Some(lab) = Lab::start() else { return };
    let instance = lab.launch("reboot");
    eventually("it is up a second time", SOON * 2, || {
        lab.boots_seen(&instance) == 2
    });
    let listed = lab.listed(&instance);
    assert_eq!(
        (listed["boots"].as_u64(), listed["alive"].as_bool()),
        (Some(2), Some(true))
    );
    assert!(
        lab.machine(&instance)
            .join("upper/var/lib/probe/rebooted")
            .exists()
    );
    assert_eq!(lab.state(&instance), "running");
}

#[test]
fn a_killed_instance_host_finds_its_machines_again_and_nothing_boots_twice() {
    let Some(mut lab) = Lab::start() else { return };
    let instance = lab.launch("stay");
    lab.booted(&instance);
    lab.kill_host();
    assert_eq!(lab.listed(&instance)["alive"], true);
    let late = lab.launch("stay");
    lab.start_host();
    lab.booted(&late);
    assert_eq!(lab.listed(&instance)["boots"], 1);
    assert_eq!(lab.boots_seen(&instance), 1);

    let refused = |words: &[&str], args: &[&str], why: &str| {
        let output = lab.command(words, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    refused(&["host", "run"], &[], "already serves");
    refused(&["host", "keep"], &[&instance], "already kept");
    // Its keeper dies alone: the machine goes on, and still nobody may boot on its root.
    let keeper = std::fs::read(lab.machine(&instance).join("keeper.json")).unwrap();
    let keeper: serde_json::Value = serde_json::from_slice(&keeper).unwrap();
    let pid = nix::unistd::Pid::from_raw(
        i32::try_from(keeper["keeper"]["pid"].as_i64().unwrap()).unwrap(),
    );
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the lock is free", SOON, || {
        let output = lab
            .command(&["host", "keep"], &[&instance])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).contains("living processes")
    });
    assert_eq!(lab.listed(&instance)["alive"], true);
    assert_eq!(lab.state(&instance), "running");

    lab.ec2("TerminateInstances", &[("InstanceId.1", &instance)]);
    eventually("the machine is gone", SOON, || {
        lab.listed(&instance)["phase"] == "gone"
    });
    assert_eq!(lab.listed(&late)["alive"], true);
}

#[test]
fn a_destroyed_machine_is_gone_at_once_while_ec2_goes_on_calling_it_running() {
    let Some(lab) = Lab::start() else { return };
    let instance = lab.launch("stay");
    lab.booted(&instance);
    lab.succeeds(&["host", "destroy"], &[&instance]);
    assert_eq!(lab.listed(&instance)["alive"], false);
    eventually("it is removed", SOON, || {
        lab.listed(&instance)["phase"] == "gone"
    });
    let nothing =
        serde_json::json!({ "instances": [], "namespaces": [], "mounts": [], "processes": [] });
    assert_eq!(lab.left(true), nothing);
    assert_eq!(lab.state(&instance), "running");
    assert_eq!(lab.boots_seen(&instance), 1);
}

#[test]
fn an_instance_that_only_stops_keeps_its_root_and_starts_on_it_again() {
    let Some(lab) = Lab::start() else { return };
    let instance = lab.launch_with("stop", "poweroff");
    eventually("EC2 calls it stopped", SOON * 2, || {
        lab.state(&instance) == "stopped"
    });
    eventually("it is off", SOON, || {
        lab.listed(&instance)["phase"] == "stopped"
    });
    let note = lab.machine(&instance).join("upper/etc/note");
    std::fs::write(&note, "kept").unwrap();
    lab.ec2("StartInstances", &[("InstanceId.1", &instance)]);
    eventually("it is up again", SOON, || lab.boots_seen(&instance) == 2);
    assert!(note.exists());
}

#[test]
fn a_machine_reaches_the_stages_services_and_nothing_else_and_cannot_lie_about_its_address() {
    let Some(lab) = Lab::start() else { return };
    let (one, other) = (lab.launch("stay"), lab.launch("stay"));
    lab.booted(&one);
    lab.booted(&other);
    let address = |instance: &str| lab.listed(instance)["address"].as_str().unwrap().to_owned();
    let opens = |from: &str, source: Option<&str>, url: &str| {
        let mut curl = Command::new("ip");
        curl.args([
            "netns",
            "exec",
            &lab.namespace(from),
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-m",
            "1",
        ]);
        if let Some(source) = source {
            curl.args(["--interface", source]);
        }
        curl.arg(url).output().unwrap().status.success()
    };
    // Something listens in the other machine and in the hub: a refusal is the rules' doing.
    let mut listeners: Vec<_> = [
        (lab.namespace(&other), 8000),
        (lab.namespace("hub"), 5000),
        (lab.namespace("hub"), 8000),
    ]
    .map(|(namespace, port)| {
        let serve = [
            "netns",
            "exec",
            &namespace,
            "python3",
            "-m",
            "http.server",
            &port.to_string(),
        ]
        .map(str::to_owned);
        let mut command = Command::new("ip");
        command
            .args(serve)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command.current_dir(lab.dir().join("logs")).spawn().unwrap()
    })
    .into_iter()
    .collect();
    eventually("all listen", SOON, || {
        opens(&other, None, "http://127.0.0.1:8000/")
            && opens("hub", None, "http://127.0.0.1:5000/")
            && opens("hub", None, "http://127.0.0.1:8000/")
    });
    assert!(opens(&one, None, "http://10.77.0.1:4566/"));
    assert!(opens(&one, None, "http://10.77.0.1:8000/"));
    assert!(
        !opens(&one, None, "http://10.77.0.1:5000/"),
        "moto's own port"
    );
    assert!(
        !opens(&one, None, &format!("http://{}:8000/", address(&other))),
        "another machine"
    );

    let foreign = address(&other);
    let add = [
        "-n",
        &lab.namespace(&one),
        "addr",
        "add",
        &format!("{foreign}/32"),
        "dev",
        "eth0",
    ]
    .map(str::to_owned);
    assert!(Command::new("ip").args(add).status().unwrap().success());
    assert!(
        !opens(&one, Some(&foreign), "http://10.77.0.1:8000/"),
        "another's address"
    );
    assert!(opens(&one, Some(&address(&one)), "http://10.77.0.1:8000/"));
    for listener in &mut listeners {
        listener.kill().unwrap();
        listener.wait().unwrap();
    }
}

#[test]
fn a_stage_taken_down_after_a_crash_leaves_nothing_and_another_stage_never_notices() {
    let (Some(mut crashed), Some(other)) = (Lab::start(), Lab::start()) else {
        return;
    };
    let instance = crashed.launch("stay");
    let bystander = other.launch("stay");
    crashed.booted(&instance);
    other.booted(&bystander);
    crashed.kill_host();
    assert_eq!(
        crashed.left(false)["instances"],
        serde_json::json!([instance])
    );

    let taken = crashed.command(&["hub", "down"], &[]).output().unwrap();
    assert!(
        taken.status.success(),
        "{}",
        String::from_utf8_lossy(&taken.stdout)
    );
    let nothing =
        serde_json::json!({ "instances": [], "namespaces": [], "mounts": [], "processes": [] });
    assert_eq!(crashed.left(false), nothing);
    assert!(!crashed.machine(&instance).join("upper").exists());
    assert!(crashed.machine(&instance).join("console.log").exists());

    assert_eq!(other.listed(&bystander)["alive"], true);
    assert_eq!(other.state(&bystander), "running");
}
