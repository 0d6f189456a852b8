//! `powerpole verify`: collects what is known, feeds the lines, prints the report.

use std::{
    fs::{self, File},
    io::BufReader,
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
    aws,
    error::CheckError,
    export, json,
    ledger::Item,
    lines, text,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of an export, or a request id whose evidence is read from AWS
    #[arg(conflicts_with = "file", required_unless_present = "file")]
    target: Option<String>,
    /// File of lines: {"timestamp":…,"message":…} a line, or the plain messages
    #[arg(long)]
    file: Option<PathBuf>,
    /// Ledger item: a file with DynamoDB's typed JSON, or the word dynamodb
    #[arg(long, value_name = "FILE|dynamodb")]
    ledger: Option<String>,
    /// Anchors: a file with one object a line, or s3://bucket
    #[arg(long, value_name = "FILE|s3://BUCKET")]
    anchors: Option<String>,
    /// Redaction manifests, one a line
    #[arg(long)]
    redactions: Option<PathBuf>,
    /// Public key (base64) of a redactor that you trust; may be repeated
    #[arg(long = "redactor", value_name = "KEY")]
    redactors: Vec<String>,
    /// Request id, for --ledger dynamodb beside --file
    #[arg(long)]
    request: Option<String>,
    /// Exit 1 also when there are lines that are not the chain's
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

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
            let beside = beside_directory(args, directory).await?;
            from_file(args, &directory.join(export::LINES), beside)?
        }
        (Some(target), _) if target.starts_with("req-") => from_aws(args, target).await?,
        (Some(target), _) => {
            return Err(CheckError::Usage(format!(
                "{target} is neither a directory nor a request id"
            )));
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

fn from_file(args: &Args, path: &Path, beside: Beside) -> Result<(Report, u64), CheckError> {
    let (inputs, overwritten) = inputs(args, beside)?;
    let wrong = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(wrong)?;
    let mut verifier = Verifier::new(inputs);
    lines::feed(&mut BufReader::with_capacity(1 << 18, file), &mut verifier).map_err(wrong)?;
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
        _ => aws::bucket::read_anchors(&settings, &places.bucket, &places.prefix).await?,
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
            let objects = aws::bucket::read_anchors(&settings, bucket, &prefix).await?;
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

fn read(path: &Path) -> Result<Vec<u8>, CheckError> {
    fs::read(path).map_err(|source| CheckError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_item(path: &Path) -> Result<Item, CheckError> {
    Item::parse(&path.display().to_string(), &read(path)?)
}

fn read_anchor_file(path: &Path) -> Result<Vec<anchors::AnchorObject>, CheckError> {
    let text = String::from_utf8(read(path)?).map_err(|_| CheckError::Anchor {
        key: path.display().to_string(),
        detail: "not UTF-8".to_owned(),
    })?;
    anchors::parse_lines(&text)
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
