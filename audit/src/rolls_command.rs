//! `powerpole rolls`: which requests there were up to the last roll, whether one was left out, what became of each.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    aws, clock,
    error::CheckError,
    export::NewFile,
    ledger::{self, Item},
    place::TableArgs,
    rolls::{Objects, Rolls},
    rolls_ledger::Ledger,
    text::{count, plain},
};

/// Rolls or items in a file: ten years of a busy company; what is longer must not fill the memory.
const LONGEST_FILE: u64 = 1 << 30;
/// So many of a list are shown.
const SHOWN: usize = 64;

#[derive(clap::Args)]
#[command(
    override_usage = "powerpole rolls --from <s3://BUCKET | FILE> [OPTIONS]",
    next_line_help = true,
    after_help = HELP
)]
pub(crate) struct Args {
    /// The rolls: the evidence's bucket, or a file that --out wrote
    #[arg(long, value_name = "s3://BUCKET | FILE")]
    from: String,
    /// Compare with every item of the ledger: `dynamodb`, or a file with DynamoDB's typed JSON (one item a line, or
    /// the answer of `aws dynamodb scan`)
    #[arg(long, value_name = "dynamodb | FILE")]
    ledger: Option<String>,
    /// Keep the rolls that were fetched in a new file, one version a line; a last line says what has none
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit 1 also when there are objects among the rolls that are none, and say so
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table: TableArgs,
}

const HELP: &str = "\
A roll is an object in the locked bucket that names the requests and the ends since the roll before
it; control writes one a day. `powerpole verify --rolls FILE` takes the file that --out writes.

Verdicts and exit codes:
  0   COMPLETE      nothing is missing up to the last roll, and nothing contradicts the rolls
  1   CONTRADICTED  a roll, a request or an end is missing, named twice or another one
      LATE          the last roll in the bucket ended more than two days ago: control has written
                    none since
      NOTHING       there is no roll
      any           with --strict: there are objects among the rolls that are none
  2   no verdict: something could not be read or fetched
  64  wrong usage";

/// Checks and prints; the exit code is the verdict's.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    let now_s = clock::now_s();
    let objects = fetch(&args.from).await?;
    if let Some(path) = &args.out {
        let mut file = NewFile::create(Path::new(""), path)?;
        for line in objects.lines() {
            file.line(&line)?;
        }
        file.finish()?;
    }
    let mut rolls = Rolls::read(objects)?;
    if is_bucket(&args.from) {
        rolls.judge_age(now_s);
    }
    if let Some(items) = items(args).await? {
        rolls.compare(&items, now_s);
    }
    if args.json {
        let object = render_json(&rolls, args.strict);
        println!("{}", crate::json::spell(&object));
    } else {
        print!("{}", render(&rolls, args.strict));
    }
    Ok(rolls.exit_code(args.strict))
}

/// Whether rolls come from a bucket: what a file keeps is as old as it is.
pub(crate) fn is_bucket(from: &str) -> bool {
    from.starts_with("s3://")
}

/// What lies among the rolls of a bucket, or in a file that `--out` wrote.
pub(crate) async fn fetch(from: &str) -> Result<Objects, CheckError> {
    let Some(bucket) = from.strip_prefix("s3://") else {
        return Objects::parse(&read(Path::new(from))?);
    };
    let settings = aws::settings().await;
    aws::rolls::read(&settings, bucket.trim_end_matches('/')).await
}

async fn items(args: &Args) -> Result<Option<Vec<Item>>, CheckError> {
    Ok(match args.ledger.as_deref() {
        None => None,
        Some("dynamodb") => {
            let settings = aws::settings().await;
            Some(aws::table::read_all(&settings, &args.table.named()?).await?)
        }
        Some(path) => Some(ledger::parse_items(path, &read(Path::new(path))?)?),
    })
}

fn read(path: &Path) -> Result<String, CheckError> {
    let wrong = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text))
        .map_err(wrong)?;
    if text.len() as u64 > LONGEST_FILE {
        let detail = format!("longer than {LONGEST_FILE} bytes");
        return Err(wrong(io::Error::other(detail)));
    }
    Ok(text)
}

pub(crate) fn time(s: u64) -> String {
    i64::try_from(s)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .map_or_else(|| format!("{s} s"), |time| time.to_string())
}

fn render(rolls: &Rolls, strict: bool) -> String {
    let report = &rolls.report;
    let mut lines = vec![format!(
        "{}: {}",
        rolls.verdict(),
        match rolls.verdict() {
            "COMPLETE" => "nothing is missing up to the last roll",
            "NOTHING" => "there is no roll",
            "LATE" => "control has written no roll for more than two days",
            _ => "something is missing, named twice or another one",
        }
    )];
    let foreign = rolls.foreigners;
    if strict && foreign > 0 {
        lines.push(format!(
            "STRICT: exit code 1 because of {} among the rolls that {} none",
            count(foreign, "object", "objects"),
            if foreign == 1 { "is" } else { "are" }
        ));
    }
    if let Some((from, until)) = report.period {
        lines.push(format!(
            "  rolls      {}, from {} to {}",
            report.rolls,
            time(from),
            time(until)
        ));
        let open: Vec<String> = rolls
            .open()
            .take(SHOWN)
            .map(|(n, request)| format!("no. {n} {request}"))
            .collect();
        let still = rolls.open().count();
        let ended = report.requests.len() - still;
        lines.push(format!(
            "  requests   {}, of which {}",
            report.requests.len(),
            count(ended as u64, "has ended", "have ended")
        ));
        if still > 0 {
            lines.push(format!("  open       {}", open.join(", ")));
        }
    }
    lines.push(format!("  ledger     {}", of_ledger(rolls.ledger.as_ref())));
    for (code, detail) in said_beside(rolls) {
        lines.push(format!("  note       {} ({code})", plain(&detail)));
    }
    if rolls.overwritten > 0 {
        lines.push(format!(
            "  later      {} of a roll, which count for nothing: somebody wrote over it",
            count(rolls.overwritten, "later version", "later versions")
        ));
    }
    for finding in rolls.findings.iter().take(SHOWN) {
        lines.push(format!(
            "  WRONG      roll {}: {} ({})",
            finding.roll,
            plain(&finding.detail),
            finding.rule
        ));
    }
    let ledger = rolls.ledger.iter().flat_map(|ledger| &ledger.findings);
    for finding in ledger.take(SHOWN) {
        lines.push(format!(
            "  WRONG      request {}: {} ({})",
            finding.n,
            plain(&finding.detail),
            finding.rule
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What the comparison with the ledger came to.
fn of_ledger(ledger: Option<&Ledger>) -> String {
    let Some(ledger) = ledger else {
        return "not compared (--ledger dynamodb compares every item)".to_owned();
    };
    let younger = match ledger.younger {
        0 => String::new(),
        1 => "; 1 is younger than the last roll, and no roll names it yet".to_owned(),
        n => format!("; {n} are younger than the last roll, and no roll names them yet"),
    };
    match (ledger.findings.len(), ledger.younger) {
        (0, 0) => "agrees with every roll, and a roll names every item".to_owned(),
        (0, _) => format!("agrees with every roll, and a roll names every older item{younger}"),
        (n, _) => format!(
            "{}{younger}",
            count(n as u64, "contradiction", "contradictions")
        ),
    }
}

/// What is told beside the contradictions: a code, and a text for people.
fn said_beside(rolls: &Rolls) -> Vec<(&'static str, String)> {
    let late = rolls.late_s.map(|ago| {
        let days = ago / 86_400;
        let text = format!(
            "the last roll ended {days} days ago and control has written no roll since: nothing younger is in one"
        );
        ("roll-late", text)
    });
    let foreign = rolls.foreign.iter().take(SHOWN).map(|key| {
        let text = format!("{key} is no roll: somebody wrote it, and it says nothing");
        ("roll-foreign", text)
    });
    late.into_iter().chain(foreign).collect()
}

fn notes(rolls: &Rolls) -> Vec<Value> {
    said_beside(rolls)
        .into_iter()
        .map(|(code, detail)| json!({"rule": code, "detail": detail}))
        .collect()
}

fn render_json(rolls: &Rolls, strict: bool) -> Value {
    let report = &rolls.report;
    let open: Vec<Value> = rolls
        .open()
        .take(SHOWN)
        .map(|(n, request)| json!({"n": n, "request": request}))
        .collect();
    let findings: Vec<Value> = rolls
        .findings
        .iter()
        .take(SHOWN)
        .map(|f| json!({"roll": f.roll, "rule": f.rule, "detail": f.detail}))
        .collect();
    let ledger = rolls.ledger.as_ref().map(|ledger| {
        ledger
            .findings
            .iter()
            .take(SHOWN)
            .map(|f| json!({"n": f.n, "rule": f.rule, "detail": f.detail}))
            .collect::<Vec<_>>()
    });
    json!({
        "v": 1,
        "verdict": rolls.verdict(),
        "exit": rolls.exit_code(strict),
        "rolls": report.rolls,
        "from": report.period.map(|(from, _)| time(from)),
        "until": report.period.map(|(_, until)| time(until)),
        "requests": report.requests.len(),
        "ended": report.requests.len() - rolls.open().count(),
        "open": open,
        "later_versions": rolls.overwritten,
        "notes": notes(rolls),
        "foreign": rolls.foreigners,
        "strict": strict.then(|| match rolls.foreigners {
            0 => json!([]),
            count => json!([{ "what": "foreign", "count": count }]),
        }),
        "late_s": rolls.late_s,
        "younger": rolls.ledger.as_ref().map(|ledger| ledger.younger),
        "findings": findings,
        "ledger": ledger,
    })
}
