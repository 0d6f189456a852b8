//! `powerpole rolls`: which requests there were, that none was left out, and what became of each.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    aws::{self, bucket::LONGEST_ROLL},
    error::CheckError,
    export::NewFile,
    ledger::{self, Item},
    object,
    rolls::{FOLDER, Rolls},
    text::plain,
    verify_command::AwsArgs,
};

/// Rolls or items in a file: ten years of a busy company; what is longer must not fill the memory.
const LONGEST_FILE: u64 = 1 << 30;
/// So many of a list are shown.
const SHOWN: usize = 64;

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The rolls: the evidence's bucket, or a file that --out wrote
    #[arg(long, value_name = "s3://BUCKET | FILE")]
    from: String,
    /// Compare with every item of the ledger: `dynamodb`, or a file with DynamoDB's typed JSON (one item a line, or
    /// the answer of `aws dynamodb scan`)
    #[arg(long, value_name = "dynamodb | FILE")]
    ledger: Option<String>,
    /// Keep the rolls that were fetched in a new file, one version a line
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

const EXIT_CODES: &str = "\
Verdicts and exit codes:
  0   COMPLETE      no roll and no request is missing, and nothing contradicts them
  1   CONTRADICTED  a roll, a request or an end is missing, named twice or another one
      NOTHING       there is no roll
  2   no verdict: something could not be read or fetched
  64  wrong usage";

/// Checks and prints; the exit code is the verdict's.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    let objects = match args.from.strip_prefix("s3://") {
        Some(bucket) => {
            let settings = aws::settings().await;
            let bucket = bucket.trim_end_matches('/');
            aws::bucket::read_versions(&settings, bucket, FOLDER, LONGEST_ROLL).await?
        }
        None => object::parse_lines(&read(Path::new(&args.from))?)?,
    };
    if let Some(path) = &args.out {
        let mut file = NewFile::create(Path::new(""), path)?;
        for version in &objects {
            file.line(&json!(version).to_string())?;
        }
        file.finish()?;
    }
    let mut rolls = Rolls::read(objects)?;
    if let Some(items) = items(args).await? {
        rolls.compare(&items);
    }
    if args.json {
        println!("{}", crate::json::spell(&render_json(&rolls)));
    } else {
        print!("{}", render(&rolls));
    }
    Ok(rolls.exit_code())
}

async fn items(args: &Args) -> Result<Option<Vec<Item>>, CheckError> {
    Ok(match args.ledger.as_deref() {
        None => None,
        Some("dynamodb") => {
            let settings = aws::settings().await;
            Some(aws::table::read_all(&settings, &args.aws.table()?).await?)
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

fn time(s: u64) -> String {
    i64::try_from(s)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .map_or_else(|| format!("{s} s"), |time| time.to_string())
}

fn render(rolls: &Rolls) -> String {
    let report = &rolls.report;
    let mut lines = vec![format!(
        "{}: {}",
        rolls.verdict(),
        match rolls.verdict() {
            "COMPLETE" => "no roll and no request is missing",
            "NOTHING" => "there is no roll",
            _ => "something is missing, named twice or another one",
        }
    )];
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
        let count = rolls.open().count();
        lines.push(format!(
            "  requests   {}, of which {} have ended",
            report.requests.len(),
            report.requests.len() - count
        ));
        if count > 0 {
            lines.push(format!("  open       {}", open.join(", ")));
        }
    }
    lines.push(match &rolls.ledger {
        None => "  ledger     not compared (--ledger dynamodb compares every item)".to_owned(),
        Some(findings) if findings.is_empty() => {
            "  ledger     agrees with every roll, and a roll names every item".to_owned()
        }
        Some(findings) => format!("  ledger     {} contradictions", findings.len()),
    });
    if rolls.overwritten > 0 {
        lines.push(format!(
            "  later      {} later versions of a roll, which say nothing: somebody wrote them",
            rolls.overwritten
        ));
    }
    for finding in report.findings.iter().take(SHOWN) {
        lines.push(format!(
            "  WRONG      roll {}: {} ({})",
            finding.roll,
            plain(&finding.detail),
            finding.rule.code()
        ));
    }
    for finding in rolls.ledger.iter().flatten().take(SHOWN) {
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

fn render_json(rolls: &Rolls) -> Value {
    let report = &rolls.report;
    let open: Vec<Value> = rolls
        .open()
        .take(SHOWN)
        .map(|(n, request)| json!({"n": n, "request": request}))
        .collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .take(SHOWN)
        .map(|f| json!({"roll": f.roll, "rule": f.rule.code(), "detail": f.detail}))
        .collect();
    let ledger = rolls.ledger.as_ref().map(|findings| {
        findings
            .iter()
            .take(SHOWN)
            .map(|f| json!({"n": f.n, "rule": f.rule, "detail": f.detail}))
            .collect::<Vec<_>>()
    });
    json!({
        "v": 1,
        "verdict": rolls.verdict(),
        "exit": rolls.exit_code(),
        "rolls": report.rolls,
        "from": report.period.map(|(from, _)| time(from)),
        "until": report.period.map(|(_, until)| time(until)),
        "requests": report.requests.len(),
        "ended": report.requests.len() - rolls.open().count(),
        "open": open,
        "later_versions": rolls.overwritten,
        "findings": findings,
        "ledger": ledger,
    })
}
