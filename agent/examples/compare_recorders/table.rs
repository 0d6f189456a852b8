//! The run: all candidates take turns, round after round; the table is markdown.

use crate::candidates::{ALL, Candidate};
use crate::measures::{Place, bulk, echo, lost_at_exit, lost_when_killed};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// How long and with whom.
struct Plan {
    rounds: usize,
    mebibytes: usize,
    trips: usize,
    only: Option<Vec<String>>,
}

impl Plan {
    fn parse(arguments: &[OsString]) -> Option<Self> {
        let mut plan = Self {
            rounds: 5,
            mebibytes: 100,
            trips: 5000,
            only: None,
        };
        for argument in arguments {
            let (name, value) = argument.to_str()?.split_once('=')?;
            match name {
                "rounds" => plan.rounds = value.parse().ok()?,
                "bytes" => plan.mebibytes = value.parse().ok()?,
                "trips" => plan.trips = value.parse().ok()?,
                "only" => plan.only = Some(value.split(',').map(str::to_owned).collect()),
                _ => return None,
            }
        }
        Some(plan)
    }
}

/// One candidate's figures.
#[derive(Default)]
struct Figures {
    wall: Vec<f64>,
    user: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    killed: Vec<(u64, u64)>,
    exited: Vec<(u64, u64)>,
}

pub fn compare(arguments: &[OsString]) -> ExitCode {
    let Some(plan) = Plan::parse(arguments) else {
        eprintln!("compare [rounds=N] [bytes=MIB] [trips=N] [only=NAME,…]");
        return ExitCode::from(64);
    };
    let mut candidates = Vec::new();
    for candidate in ALL {
        let wanted = plan
            .only
            .as_ref()
            .is_none_or(|only| only.iter().any(|name| name == candidate.key()));
        match candidate.missing() {
            Some(why) if wanted => eprintln!("SKIPPED {}: {why}", candidate.key()),
            None if wanted => candidates.push(candidate),
            _ => {}
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let text = temp.path().join("text");
    write_text(&text, plan.mebibytes << 20);
    let sink = crate::cloud::listen();
    let place = Place {
        dir: temp.path(),
        text: &text,
        sink: &sink,
    };
    let before = load();
    let mut figures: Vec<Figures> = candidates.iter().map(|_| Figures::default()).collect();
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for (candidate, figures) in candidates.iter().zip(&mut figures) {
            measure(*candidate, figures, &place, &plan, round);
        }
    }
    print(&candidates, &figures, &plan, &before);
    ExitCode::SUCCESS
}

fn measure(
    candidate: Candidate,
    figures: &mut Figures,
    place: &Place<'_>,
    plan: &Plan,
    round: usize,
) {
    let (wall, user) = bulk(candidate, place);
    figures.wall.push(wall.as_secs_f64());
    figures.user.push(user.as_secs_f64());
    let mut times = echo(candidate, place, plan.trips);
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e6;
    figures.p50.push(at(0.5));
    figures.p99.push(at(0.99));
    if candidate.records() {
        let after = Duration::from_millis(20 + 37 * round as u64);
        figures
            .killed
            .push(lost_when_killed(candidate, place, after));
        figures.exited.push(lost_at_exit(candidate, place));
    }
}

/// Text as of a table: lines of 76 characters.
fn write_text(path: &Path, bytes: usize) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let mut state = 1u64;
    let mut written = 0;
    while written < bytes {
        let line: String = (0..76)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b' ' + u8::try_from((state >> 33) % 95).unwrap())
            })
            .collect();
        writeln!(file, "{line}").unwrap();
        written += line.len() + 1;
    }
    file.flush().unwrap();
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(candidates: &[Candidate], figures: &[Figures], plan: &Plan, before: &str) {
    let of = |wanted: Candidate| {
        candidates
            .iter()
            .zip(figures)
            .find(|(candidate, _)| **candidate == wanted)
            .map(|(_, figures)| figures)
    };
    let ratio = |values: &[f64], base: Option<&[f64]>| {
        base.map_or("–".to_owned(), |base| {
            format!("{:.2}", median(values) / median(base))
        })
    };
    let none = of(Candidate::None);
    let floor = of(Candidate::Floor);
    let bytes = (plan.mebibytes << 20) as f64;
    println!(
        "Machine: {}. Load before {before}, after {}.",
        machine(),
        load()
    );
    println!(
        "Medians of {} rounds: `cat` of {} MiB, {} round trips of one byte.\n",
        plan.rounds, plan.mebibytes, plan.trips
    );
    println!(
        "| recorder | wall, s | ÷ none | ÷ floor | user CPU, ns a byte | echo p50, µs (+ floor) | p99, µs (÷ floor) | lost on SIGKILL | lost at exit |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (candidate, figures) in candidates.iter().zip(figures) {
        let own = none.map_or(0.0, |none| median(&none.user));
        println!(
            "| {} | {:.2} | {} | {} | {:.2} | {:.0} ({}) | {:.0} ({}) | {} | {} |",
            candidate.title(),
            median(&figures.wall),
            ratio(&figures.wall, none.map(|none| &*none.wall)),
            ratio(&figures.wall, floor.map(|floor| &*floor.wall)),
            (median(&figures.user) - own).max(0.0) / bytes * 1e9,
            median(&figures.p50),
            floor.map_or("–".to_owned(), |floor| format!(
                "{:+.0}",
                median(&figures.p50) - median(&floor.p50)
            )),
            median(&figures.p99),
            ratio(&figures.p99, floor.map(|floor| &*floor.p99)),
            losses(&figures.killed),
            losses(&figures.exited),
        );
    }
}

/// The worst of all rounds: a loss that comes once is one.
fn losses(rounds: &[(u64, u64)]) -> String {
    match rounds.iter().max() {
        Option::None => "–".to_owned(),
        Some((0, _)) => "0".to_owned(),
        Some((lost, seen)) if lost == seen => format!("all of {seen} bytes"),
        Some((lost, seen)) => format!("{lost} of {seen} bytes"),
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = Command::new("uname").arg("-sr").output();
    let kernel = kernel.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{cores} cores, {model}, {}", kernel.unwrap_or_default())
}
