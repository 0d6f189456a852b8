//! The instance host's loop: ask EC2, look at the machines, take the next step for each.
//!
//! It keeps nothing that it could not find again: killed on any line and started anew, it sees the same world and goes on.

use super::HostError;
use super::ec2::{Ec2, Instance, ShutdownBehaviour, State};
use super::imds::Directory;
use super::machine::{Machine, MachineRecord, Phase};
use super::plan::{Said, Seen, Step, next_step};
use super::root::{remove_root, roots_of};
use crate::clock;
use crate::hub::{HubError, InstanceId, Stage, own_program, unplug};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// An instance that EC2 lists no longer counts as gone after this many answers in a row (3 s): one odd answer kills nothing.
const MISSING_LIMIT: u32 = 10;

/// The instance host of one stage.
#[derive(Debug)]
pub(crate) struct Daemon {
    stage: Stage,
    ec2: Ec2,
    directory: Arc<Directory>,
    missing: BTreeMap<InstanceId, u32>,
    /// How often the present step of an instance has failed in a row.
    failures: BTreeMap<InstanceId, u32>,
    silent: bool,
}

impl Daemon {
    pub(crate) fn new(stage: Stage, ec2: Ec2, directory: Arc<Directory>) -> Self {
        for machine in Machine::all(&stage) {
            if let Some(record) = machine
                .record()
                .filter(|record| record.phase != Phase::Gone)
            {
                directory.learn(&record.ec2);
            }
        }
        Self {
            stage,
            ec2,
            directory,
            missing: BTreeMap::new(),
            failures: BTreeMap::new(),
            silent: false,
        }
    }

    /// Runs until the process is ended; machines go on without it.
    pub(crate) async fn run(mut self, poll: Duration) {
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.ec2.instances().await {
                Ok(instances) => {
                    self.silent = false;
                    self.tick(instances).await;
                }
                Err(error) if !self.silent => {
                    self.silent = true;
                    tracing::warn!(code = error.code(), %error, "EC2 does not answer; machines are left as they are");
                }
                Err(_) => {}
            }
        }
    }

    async fn tick(&mut self, instances: Vec<Instance>) {
        let listed: BTreeMap<InstanceId, Instance> = instances
            .into_iter()
            .map(|instance| (instance.id.clone(), instance))
            .collect();
        let on_disk = Machine::all(&self.stage)
            .into_iter()
            .map(|machine| machine.id);
        let all: BTreeSet<InstanceId> = listed.keys().cloned().chain(on_disk).collect();
        let mut work = JoinSet::new();
        for id in all {
            let machine = Machine::of(&self.stage, &id);
            let record = machine.record();
            let seen = look(&machine, record.as_ref());
            let ec2 = listed.get(&id);
            let Some(said) = self.said(&id, ec2) else {
                continue;
            };
            // A terminated instance keeps its address in EC2's list while another may already have it.
            if let Some(instance) =
                ec2.filter(|ec2| matches!(ec2.state, State::Pending | State::Running))
            {
                self.directory.learn(instance);
            }
            let step = next_step(said, seen);
            if step == Step::Nothing {
                continue;
            }
            let failed = self.failures.get(&id).copied().unwrap_or_default();
            if failed == 0 {
                tracing::info!(instance = %id, ?said, ?seen, ?step, "next step");
            }
            if step == Step::Remove {
                self.directory.forget(&id);
            }
            let (stage, api) = (self.stage.clone(), self.ec2.clone());
            let instance = ec2.cloned();
            work.spawn(async move {
                let taken = take(&stage, &api, &machine, record, instance, step).await;
                (machine.id, step, taken)
            });
        }
        while let Some(ended) = work.join_next().await {
            let Ok((instance, step, taken)) = ended else {
                continue;
            };
            let Err(error) = taken else {
                self.failures.remove(&instance);
                continue;
            };
            let failed = self.failures.entry(instance.clone()).or_default();
            *failed = failed.saturating_add(1);
            // Tried again at every look, told ever more seldom.
            if failed.is_power_of_two() {
                tracing::error!(%instance, ?step, times = *failed, code = error.code(), %error, "step failed");
            }
        }
    }

    /// What EC2 says; nothing at all while an unlisted instance may still come back.
    fn said(&mut self, id: &InstanceId, listed: Option<&Instance>) -> Option<Said> {
        if let Some(instance) = listed {
            self.missing.remove(id);
            return Some(Some(instance.state));
        }
        let times = self.missing.entry(id.clone()).or_default();
        *times = times.saturating_add(1);
        (*times >= MISSING_LIMIT).then_some(None)
    }
}

fn look(machine: &Machine, record: Option<&MachineRecord>) -> Seen {
    let Some(record) = record else {
        return Seen::Nothing;
    };
    match record.phase {
        Phase::Gone => Seen::Gone,
        _ if machine.destroyed() => Seen::Destroyed,
        _ if machine.alive() => Seen::Alive,
        Phase::Stopped => Seen::Stopped,
        // Recorded and killed before the keeper was started: nothing ran yet.
        Phase::Launched if machine.keeper().is_none() => Seen::Nothing,
        Phase::Launched => Seen::Off,
    }
}

async fn take(
    stage: &Stage,
    ec2: &Ec2,
    machine: &Machine,
    record: Option<MachineRecord>,
    instance: Option<Instance>,
    step: Step,
) -> Result<(), HostError> {
    match step {
        Step::Nothing => Ok(()),
        Step::Boot => match instance {
            Some(instance) => boot(stage, ec2, machine, instance, record).await,
            None => Ok(()),
        },
        Step::ReportOff => {
            let exit = machine.keeper().and_then(|keeper| keeper.exit);
            let behaviour = ec2.shutdown_behaviour(&machine.id).await?;
            tracing::info!(instance = %machine.id, ?exit, ?behaviour, "machine is off");
            // A machine that broke down (any exit but 0) has no root worth starting again.
            match behaviour {
                ShutdownBehaviour::Stop if exit == Some(0) => ec2.stop(&machine.id).await,
                _ => ec2.terminate(&machine.id).await,
            }
        }
        Step::Halt => {
            let Some(record) = record else { return Ok(()) };
            blocking(stage, machine, move |stage, machine| {
                machine.kill()?;
                unplug(stage, &machine.id)?;
                Ok(machine.write_record(&MachineRecord {
                    phase: Phase::Stopped,
                    ..record
                })?)
            })
            .await
        }
        Step::Remove => {
            let Some(record) = record else { return Ok(()) };
            blocking(stage, machine, move |stage, machine| {
                machine.kill()?;
                unplug(stage, &machine.id)?;
                remove_root(machine)?;
                machine.group().remove();
                Ok(machine.write_record(&MachineRecord {
                    phase: Phase::Gone,
                    ..record
                })?)
            })
            .await
        }
    }
}

async fn boot(
    stage: &Stage,
    ec2: &Ec2,
    machine: &Machine,
    instance: Instance,
    before: Option<MachineRecord>,
) -> Result<(), HostError> {
    let lower = roots_of(stage, &instance.image)?;
    let user_data = ec2.user_data(&machine.id).await?;
    let seen = before.map_or_else(clock::timestamp, |record| record.seen);
    let record = MachineRecord {
        phase: Phase::Launched,
        ec2: instance,
        lower,
        seen,
    };
    machine.write_record(&record)?;
    if let Some(bytes) = user_data {
        let path = machine.path("user-data");
        std::fs::write(&path, bytes).map_err(HubError::file("write", &path))?;
    }
    let _ = std::fs::remove_file(machine.path("keeper.json"));
    start_keeper(stage, machine)?;
    // The next look must find the keeper's own record, or it would be taken for a machine that never ran.
    for _ in 0..250 {
        if machine.keeper().is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = stage.logs().join("keepers.log");
    Err(HubError::NotUp {
        name: format!("the keeper of {}", machine.id),
        waited_s: 5,
        log,
    }
    .into())
}

fn start_keeper(stage: &Stage, machine: &Machine) -> Result<(), HostError> {
    let log = stage.logs().join("keepers.log");
    let open = || {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(HubError::file("open", &log))
    };
    // A session of its own: neither a terminal's Ctrl-C nor the end of this process reaches it.
    let mut keeper = tokio::process::Command::new("setsid")
        .arg(own_program())
        .args(["host", "keep", "--stage"])
        .arg(stage.name().to_string())
        .arg("--dir")
        .arg(stage.dir())
        .arg(machine.id.as_str())
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .spawn()
        .map_err(|source| HubError::Start {
            program: "setsid".to_owned(),
            source,
        })?;
    tokio::spawn(async move { keeper.wait().await });
    Ok(())
}

async fn blocking<F>(stage: &Stage, machine: &Machine, work: F) -> Result<(), HostError>
where
    F: FnOnce(&Stage, &Machine) -> Result<(), HostError> + Send + 'static,
{
    let (stage, machine) = (stage.clone(), machine.clone());
    match tokio::task::spawn_blocking(move || work(&stage, &machine)).await {
        Ok(outcome) => outcome,
        // Only a panic or the end of the runtime: either way the step is tried again.
        Err(_) => Ok(()),
    }
}
