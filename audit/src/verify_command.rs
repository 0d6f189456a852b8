//! `powerpole verify`: collects what is known, feeds the lines, prints the report.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use powerpole_chain::{
    Redaction,
    verify::{Inputs, Report, Verifier},
};
use powerpole_protocol::ledger::attribute;

use crate::{
    anchors::{self, Anchors},
    aws::{self, bucket::LONGEST_ANCHOR},
    error::CheckError,
    export, json,
    ledger::Item,
    lines,
    object::{self, ObjectVersion},
    text,
};

#[derive(clap::Args)]
#[command(
    override_usage = "powerpole verify <DIR | REQUEST> [OPTIONS]\n       \
        powerpole verify --file LINES --ledger FILE --anchors FILE [OPTIONS]",
    after_help = EXIT_CODES
)]
pub(crate) struct Args {
    /// Directory that `powerpole export` wrote, or a request id (req-…) whose evidence is read from AWS
    #[arg(
        value_name = "DIR | REQUEST",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    target: Option<String>,
    /// The record lines: one log event a line as `export` writes them, or the bare messages
    #[arg(long, value_name = "LINES")]
    file: Option<PathBuf>,
    /// The request's ledger item: a file with DynamoDB's typed JSON, or `dynamodb` to fetch it
    #[arg(long, value_name = "FILE | dynamodb")]
    ledger: Option<String>,
    /// The anchors: a file with one object a line, or the bucket to fetch them from. Without anchors no
    /// verdict is better than UNANCHORED
    #[arg(long, value_name = "FILE | s3://BUCKET[/PREFIX]")]
    anchors: Option<String>,
    /// Manifests that say which payloads were withheld, by whom and why, one a line
    #[arg(long, value_name = "FILE")]
    redactions: Option<PathBuf>,
    /// Public key (Base64) of somebody whom you trust to withhold payloads; may be repeated
    #[arg(long = "redactor", value_name = "KEY")]
    redactors: Vec<String>,
    /// Request id for `--ledger dynamodb`, where only --file is given
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// Exit 1 also when there are lines that are not this chain's
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of text (docs/chain-format.md §11 lists its keys)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

const EXIT_CODES: &str = "\
Verdicts and exit codes:
  0   VALID       sealed, complete, and anchored from genesis to seal
      WITHHELD    the same, but payloads were withheld by somebody whom you trust
  1   UNANCHORED  sealed and complete, but the anchors do not bear witness to all of it, or no ledger item says
                  who approved it
      UNSEALED    the bastion died before it could seal; the text says up to where all is proven
      INCOMPLETE  records are missing that are known to have been
      MALFORMED   records are missing, and there are lines that nobody can read
      TAMPERED    something contradicts the chain; the text says which record and which rule
      WITHHELD    payloads are withheld, and no manifest that you trust says so
  2   no verdict: something could not be read or fetched
  64  wrong usage";

/// Where evidence lies in AWS, where the ledger item does not say so.
#[derive(clap::Args)]
pub(crate) struct AwsArgs {
    /// Ledger table [env: POWERPOLE_LEDGER_TABLE]
    #[arg(long)]
    ledger_table: Option<String>,
    /// Log group [env: POWERPOLE_LOG_GROUP; otherwise the ledger item's]
    #[arg(long)]
    log_group: Option<String>,
    /// Bucket of the anchors [env: POWERPOLE_ANCHOR_BUCKET; otherwise the ledger item's]
    #[arg(long)]
    anchor_bucket: Option<String>,
}

impl AwsArgs {
    pub(crate) fn table(&self) -> Result<String, CheckError> {
        given(&self.ledger_table, "POWERPOLE_LEDGER_TABLE").ok_or_else(|| {
            CheckError::Usage("--ledger-table or POWERPOLE_LEDGER_TABLE is needed".to_owned())
        })
    }
}

fn given(flag: &Option<String>, variable: &str) -> Option<String> {
    flag.clone()
        .or_else(|| std::env::var(variable).ok())
        .filter(|text| !text.is_empty())
}

/// Log group, stream, bucket and prefix of one request.
pub(crate) struct Places {
    pub(crate) group: String,
    pub(crate) stream: String,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl Places {
    pub(crate) fn find(args: &AwsArgs, item: &Item) -> Result<Places, CheckError> {
        // Denied, lapsed, or not launched yet: no line and no anchor was ever written.
        if item.text(attribute::INSTANCE).is_none() && item.text(attribute::LOG_STREAM).is_none() {
            return Err(CheckError::NoBastion {
                state: item.need(attribute::STATE)?,
            });
        }
        let group = given(&args.log_group, "POWERPOLE_LOG_GROUP")
            .map_or_else(|| item.need(attribute::LOG_GROUP), Ok)?;
        let bucket = given(&args.anchor_bucket, "POWERPOLE_ANCHOR_BUCKET")
            .map_or_else(|| item.need(attribute::ANCHOR_BUCKET), Ok)?;
        let stream = item.need(attribute::LOG_STREAM)?;
        Ok(Places {
            group,
            stream,
            bucket,
            prefix: prefix(item)?,
        })
    }
}

fn prefix(item: &Item) -> Result<String, CheckError> {
    let prefix = item.need(attribute::ANCHOR_PREFIX)?;
    Ok(if prefix.ends_with('/') {
        prefix
    } else {
        format!("{prefix}/")
    })
}

/// What stands beside the lines.
struct Beside {
    item: Option<Item>,
    anchors: Option<Anchors>,
    redactions: Vec<Redaction>,
}

/// Verifies and prints; the exit code is the verdict's.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    let (report, overwritten) = match (&args.target, &args.file) {
        (Some(target), _) if Path::new(target).is_dir() => {
            let directory = Path::new(target);
            let lines = directory.join(export::LINES);
            if !lines.exists() {
                return Err(CheckError::NoLines { path: lines });
            }
            let beside = beside_directory(args, directory).await?;
            from_file(args, &lines, beside)?
        }
        (Some(target), _) if target.starts_with("req-") => from_aws(args, target).await?,
        (Some(target), _) => {
            return Err(CheckError::Usage(not_a_target(target)));
        }
        (None, Some(file)) => {
            let beside = beside_file(args).await?;
            from_file(args, file, beside)?
        }
        (None, None) => return Err(CheckError::Usage("nothing to verify".to_owned())),
    };
    let code = report.exit_code(args.strict);
    if args.json {
        println!("{}", json::render(&report, code, overwritten));
    } else {
        print!("{}", text::render(&report, overwritten));
    }
    Ok(code)
}

fn not_a_target(target: &str) -> String {
    if Path::new(target).is_file() {
        format!(
            "{target} is a file: give the directory of the export, or --file {target} with --ledger and --anchors"
        )
    } else {
        format!("{target} is neither a directory that is here nor a request id (req-…)")
    }
}

fn from_file(args: &Args, path: &Path, beside: Beside) -> Result<(Report, u64), CheckError> {
    let (inputs, overwritten) = inputs(args, beside)?;
    let wrong = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(wrong)?;
    let mut verifier = Verifier::new(inputs);
    lines::feed(file, &mut verifier).map_err(wrong)?;
    Ok((verifier.finish(), overwritten))
}

async fn from_aws(args: &Args, request: &str) -> Result<(Report, u64), CheckError> {
    let settings = aws::settings().await;
    let item = match &args.ledger {
        Some(path) if path != "dynamodb" => read_item(Path::new(path))?,
        _ => aws::table::read_item(&settings, &args.aws.table()?, request).await?,
    };
    let places = Places::find(&args.aws, &item)?;
    let objects = match &args.anchors {
        Some(path) if !path.starts_with("s3://") => read_anchor_file(Path::new(path))?,
        _ => {
            aws::bucket::read_versions(&settings, &places.bucket, &places.prefix, LONGEST_ANCHOR)
                .await?
        }
    };
    let beside = Beside {
        item: Some(item),
        anchors: Some(anchors::select(objects)?),
        redactions: read_redactions(args.redactions.as_deref())?,
    };
    let (inputs, overwritten) = inputs(args, beside)?;
    let mut verifier = Verifier::new(inputs);
    aws::logs::read_stream(
        &settings,
        &places.group,
        &places.stream,
        &mut |time, message| {
            verifier.line(message.as_bytes(), Some(time));
            Ok(())
        },
    )
    .await?;
    Ok((verifier.finish(), overwritten))
}

async fn beside_directory(args: &Args, directory: &Path) -> Result<Beside, CheckError> {
    let there = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
    let mut beside = beside_file(args).await?;
    if beside.item.is_none()
        && let Some(path) = there(export::LEDGER)
    {
        beside.item = Some(read_item(&path)?);
    }
    if beside.anchors.is_none()
        && let Some(path) = there(export::ANCHORS)
    {
        beside.anchors = Some(anchors::select(read_anchor_file(&path)?)?);
    }
    if args.redactions.is_none() {
        beside.redactions = read_redactions(there(export::REDACTIONS).as_deref())?;
    }
    Ok(beside)
}

async fn beside_file(args: &Args) -> Result<Beside, CheckError> {
    let item = match args.ledger.as_deref() {
        None => None,
        Some("dynamodb") => {
            let request = args
                .request
                .as_deref()
                .ok_or_else(|| CheckError::Usage("--ledger dynamodb needs --request".to_owned()))?;
            let settings = aws::settings().await;
            Some(aws::table::read_item(&settings, &args.aws.table()?, request).await?)
        }
        Some(path) => Some(read_item(Path::new(path))?),
    };
    let anchors = match args.anchors.as_deref() {
        None => None,
        Some(place) if place.starts_with("s3://") => {
            let place = place.trim_start_matches("s3://").trim_end_matches('/');
            let (bucket, prefix) = match (place.split_once('/'), &item) {
                (Some((bucket, prefix)), _) => (bucket, format!("{prefix}/")),
                (None, Some(item)) => (place, prefix(item)?),
                (None, None) => {
                    return Err(CheckError::Usage(
                        "--anchors s3://bucket needs a ledger item, or a prefix after the bucket"
                            .to_owned(),
                    ));
                }
            };
            let settings = aws::settings().await;
            let objects =
                aws::bucket::read_versions(&settings, bucket, &prefix, LONGEST_ANCHOR).await?;
            Some(anchors::select(objects)?)
        }
        Some(path) => Some(anchors::select(read_anchor_file(Path::new(path))?)?),
    };
    Ok(Beside {
        item,
        anchors,
        redactions: read_redactions(args.redactions.as_deref())?,
    })
}

fn inputs(args: &Args, beside: Beside) -> Result<(Inputs, u64), CheckError> {
    let redactors = args
        .redactors
        .iter()
        .map(|key| {
            STANDARD
                .decode(key)
                .ok()
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .ok_or_else(|| CheckError::Redaction(format!("{key} is not a public key")))
        })
        .collect::<Result<_, _>>()?;
    let overwritten = beside
        .anchors
        .as_ref()
        .map_or(0, |anchors| anchors.overwritten);
    let inputs = Inputs {
        ledger: beside.item.map(|item| item.facts()).transpose()?,
        anchors: beside.anchors.map(|anchors| anchors.anchors),
        redactions: beside.redactions,
        redactors,
    };
    Ok((inputs, overwritten))
}

/// A ledger item, a day's anchors or manifests: none is longer, and what is must not fill the memory.
const LONGEST_BESIDE: u64 = 8 << 20;

fn read(path: &Path) -> Result<Vec<u8>, CheckError> {
    let wrong = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_BESIDE + 1).read_to_end(&mut bytes))
        .map_err(wrong)?;
    if bytes.len() as u64 > LONGEST_BESIDE {
        return Err(wrong(io::Error::other(format!(
            "longer than {LONGEST_BESIDE} bytes"
        ))));
    }
    Ok(bytes)
}

fn read_item(path: &Path) -> Result<Item, CheckError> {
    Item::parse(&path.display().to_string(), &read(path)?)
}

fn read_anchor_file(path: &Path) -> Result<Vec<ObjectVersion>, CheckError> {
    let text = String::from_utf8(read(path)?).map_err(|_| CheckError::Object {
        key: path.display().to_string(),
        detail: "not UTF-8".to_owned(),
    })?;
    object::parse_lines(&text)
}

fn read_redactions(path: Option<&Path>) -> Result<Vec<Redaction>, CheckError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    read(path)?
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            Redaction::parse(line).map_err(|error| CheckError::Redaction(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_bastion_has_no_evidence_and_says_why() {
        let args = AwsArgs {
            ledger_table: None,
            log_group: None,
            anchor_bucket: None,
        };
        let item = |text: &str| Item::parse("LEDGER.json", text.as_bytes()).unwrap();
        let denied = item(r#"{"request":{"S":"req-1"},"state":{"S":"DENIED"}}"#);
        let error = Places::find(&args, &denied).map(drop).unwrap_err();
        assert_eq!(error.code(), "no-bastion");
        assert!(error.to_string().contains("(state DENIED)"), "{error}");

        let torn = item(
            r#"{"request":{"S":"req-1"},"state":{"S":"CLOSED"},"instance":{"S":"i-1"},"log_group":{"S":"g"},"anchor_bucket":{"S":"b"}}"#,
        );
        let error = Places::find(&args, &torn).map(drop).unwrap_err();
        assert_eq!(error.code(), "ledger-no-attribute");
    }
}
