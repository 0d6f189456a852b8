//! `powerpole verify`: collects what is known, feeds the lines, prints the report.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use powerpole_chain::{
    Redaction,
    verify::{Inputs, Report, Verdict, Verifier},
};

use crate::{
    anchors::{self, Anchors},
    aws,
    beside::{read_anchors, read_item, read_redactions},
    chosen::{Aside, Chosen},
    clock,
    error::CheckError,
    export, json,
    ledger::Item,
    lines,
    place::{Contradiction, Folder, LOGS, Place, PlaceArgs, Read, Said},
    rolls::Rolls,
    rolls_command,
    row::Row,
    search::{self, Searched, Sought},
    strict::{self, Strange},
    text,
};

#[derive(clap::Args)]
#[command(
    override_usage = "powerpole verify <DIR | REQUEST> [OPTIONS]\n       \
        powerpole verify --file LINES --ledger FILE --anchors FILE [OPTIONS]",
    after_help = HELP
)]
pub(crate) struct Args {
    /// Directory that `powerpole export` wrote, or a request id (req-…) whose evidence is read from AWS
    #[arg(
        value_name = "DIR | REQUEST",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    target: Option<String>,
    /// The record lines: one log event a line as `powerpole export` writes them, or the bare messages
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
    /// Request id: for `--ledger dynamodb` where only --file is given, and compared with the ledger item's
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// Compare with the rolls of requests, in the bucket or in a file that `powerpole rolls --out` wrote: they name
    /// the request's last head, and nobody can change them
    #[arg(long, value_name = "s3://BUCKET | FILE")]
    rolls: Option<String>,
    /// Look into the folder of every bastion in the anchors' bucket for others that began a record of this request,
    /// and whether its own was another request's before: a call each, so not at all if there are more of them than
    /// MOST (10000 where it is not said)
    #[arg(long, value_name = "MOST", num_args = 0..=1, require_equals = true, default_missing_value = search::MOST)]
    search: Option<usize>,
    /// Exit 1 also when there are lines that are not this chain's, or other bastions of this request, and say so
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of text (docs/chain-format.md §11 lists its keys)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

const HELP: &str = "\
What is read from AWS is read where you say: --role-id, --log-group and the anchors' bucket are
needed then. Whoever can edit the ledger would choose what is verified otherwise. The owner finds
them in control's configuration: bastion.role_id, evidence.log_group, evidence.anchor_bucket. For
files they are optional, and compared. A directory holds LINES.jsonl and, if they are there,
LEDGER.json, ANCHORS.jsonl and REDACTIONS.jsonl; its rolls are named by --rolls.

Verdicts and exit codes:
  0   VALID       sealed, complete, and anchored from genesis to seal
      WITHHELD    the same, but payloads were withheld by somebody whom you trust
  1   UNANCHORED  sealed and complete, but the anchors do not bear witness to all of it, or no
                  ledger item says who approved it
      UNSEALED    the bastion died before it could seal; the text says up to where all is proven
      INCOMPLETE  records are missing that are known to have been
      MALFORMED   records are missing, and there are lines that nobody can read
      TAMPERED    something contradicts the chain, its place, its anchors or the rolls; the text
                  says which record and which rule
      WITHHELD    payloads are withheld, and no manifest that you trust says so
      any         with --strict: something strange lies beside the chain; the text says what
  2   no verdict: something could not be read or fetched
  64  wrong usage";

/// What stands beside the lines.
struct Beside {
    item: Option<Item>,
    anchors: Option<Anchors>,
    redactions: Vec<Redaction>,
    /// Where anchors and lines are read from AWS.
    folder: Option<Folder>,
    /// Where the anchors came from.
    anchors_from: Option<String>,
}

/// What is known of a chain besides what its lines prove.
pub(crate) struct Around {
    /// What lies beside the anchors and does not count.
    pub(crate) aside: Aside,
    /// Of that there may be more.
    pub(crate) more: bool,
    /// Where lines and anchors came from.
    pub(crate) place: Place,
    /// What the rolls say of the request, where they were asked.
    pub(crate) row: Option<Row>,
    /// What the search for other bastions found, where it was asked for.
    pub(crate) searched: Option<Searched>,
    /// What contradicts the place or the rolls.
    pub(crate) contradictions: Vec<Contradiction>,
    /// What `--strict` does not let pass, where it was asked for.
    pub(crate) strict: Option<Vec<Strange>>,
}

/// Verifies and prints; the exit code is the verdict's.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    let from = Source::of(args)?;
    let request = match &from {
        Source::Request(request) => Some(request.as_str()),
        Source::Files { .. } => args.request.as_deref(),
    };
    let said = args.place.said(args.anchors.as_deref(), request)?;
    said.suffice(from.read(args))?;
    let (report, mut around) = verify(args, &said, &from).await?;
    around.strict = args
        .strict
        .then(|| strict::strange(&report, &around.aside, around.searched.as_ref()));
    let fails = around
        .strict
        .as_ref()
        .is_some_and(|found| !found.is_empty());
    let code = report.exit_code(args.strict).max(u8::from(fails));
    if args.json {
        println!("{}", json::render(&report, code, &around));
    } else {
        print!("{}", text::render(&report, &around));
    }
    Ok(code)
}

/// Where the lines come from.
enum Source {
    /// A file, in a directory that `export` wrote or alone.
    Files {
        directory: Option<PathBuf>,
        lines: PathBuf,
    },
    /// CloudWatch Logs.
    Request(String),
}

impl Source {
    fn of(args: &Args) -> Result<Source, CheckError> {
        match (&args.target, &args.file) {
            (Some(target), _) if Path::new(target).is_dir() => {
                let directory = PathBuf::from(target);
                let lines = directory.join(export::LINES);
                if !lines.exists() {
                    return Err(CheckError::NoLines { path: lines });
                }
                Ok(Source::Files {
                    directory: Some(directory),
                    lines,
                })
            }
            (Some(target), _) if target.starts_with("req-") => {
                if args.request.as_ref().is_some_and(|other| other != target) {
                    let text = "--request names another request".to_owned();
                    return Err(CheckError::Usage(text));
                }
                Ok(Source::Request(target.clone()))
            }
            (Some(target), _) => Err(CheckError::Usage(not_a_target(target))),
            (None, Some(file)) => Ok(Source::Files {
                directory: None,
                lines: file.clone(),
            }),
            (None, None) => Err(CheckError::Usage("nothing to verify".to_owned())),
        }
    }

    /// What is read from AWS.
    fn read(&self, args: &Args) -> Read {
        let lines = matches!(self, Source::Request(_));
        let bucket = |text: &str| text.starts_with("s3://");
        Read {
            lines,
            ledger: args
                .ledger
                .as_deref()
                .map_or(lines, |text| text == "dynamodb"),
            anchors: args.anchors.as_deref().map_or(lines, bucket),
        }
    }
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

async fn verify(args: &Args, said: &Said, from: &Source) -> Result<(Report, Around), CheckError> {
    let now_s = clock::now_s();
    let read = from.read(args);
    let beside = beside(args, said, from).await?;
    let mut around = around(said, from, read, &beside);
    // The slow looks come first: of a session that still runs, the lines are never older than what they are
    // compared with.
    around.row = row(args, beside.item.as_ref(), now_s).await?;
    around.searched = search_others(args, said, &beside).await?;
    let (item, folder) = (beside.item.clone(), beside.folder.clone());
    let inputs = inputs(args, beside)?;
    let mut verifier = Verifier::new(inputs);
    match from {
        Source::Files { lines: path, .. } => {
            let wrong = |source| CheckError::Read {
                path: path.clone(),
                source,
            };
            let file = File::open(path).map_err(wrong)?;
            lines::feed(file, &mut verifier).map_err(wrong)?;
        }
        Source::Request(_) => read_lines(said, folder.as_ref(), &mut verifier).await?,
    }
    let mut report = verifier.finish();
    around.judge(said, item.as_ref(), &mut report);
    around.ensure_decided(folder.as_ref(), item.as_ref(), &report)?;
    Ok((report, around))
}

async fn read_lines(
    said: &Said,
    folder: Option<&Folder>,
    verifier: &mut Verifier,
) -> Result<(), CheckError> {
    let (Some(group), Some(folder)) = (&said.group, folder) else {
        return Err(CheckError::Usage("--log-group is needed".to_owned()));
    };
    let settings = aws::settings().await;
    let mut each = |time, message: &str| {
        verifier.line(message.as_bytes(), Some(time));
        Ok(())
    };
    aws::logs::read_stream(&settings, group, &folder.stream(), &mut each).await
}

/// The ledger item, the anchors and the manifests, each from where it was said to be.
async fn beside(args: &Args, said: &Said, from: &Source) -> Result<Beside, CheckError> {
    let directory = match from {
        Source::Files { directory, .. } => directory.as_deref(),
        Source::Request(_) => None,
    };
    let there = |name: &str| directory.map(|d| d.join(name)).filter(|p| p.exists());
    let read = from.read(args);
    let item = match (&args.ledger, read.ledger) {
        (_, true) => Some(item_of_table(said).await?),
        (Some(path), false) => Some(read_item(Path::new(path))?),
        (None, false) => there(export::LEDGER)
            .map(|path| read_item(&path))
            .transpose()?,
    };
    let folder = match (&item, read.lines || read.anchors) {
        (_, false) => None,
        (Some(item), true) => Some(said.folder_of(item)?),
        (None, true) => Some(said.folder.clone().ok_or_else(|| {
            CheckError::Usage(
                "--anchors s3://BUCKET needs a ledger item, or <role id>:<instance>/<request> after the bucket"
                    .to_owned(),
            )
        })?),
    };
    let file = match &args.anchors {
        Some(path) if !read.anchors => Some(PathBuf::from(path)),
        _ => there(export::ANCHORS),
    };
    let (objects, anchors_from) = match (&folder, &said.bucket, file) {
        (Some(folder), Some(bucket), _) if read.anchors => {
            let objects = read_bucket(bucket, folder).await?;
            (Some(objects), Some(format!("s3://{bucket}")))
        }
        (_, _, Some(path)) => (Some(read_anchors(&path)?), Some(path.display().to_string())),
        (_, _, None) => (None, None),
    };
    let redactions = match &args.redactions {
        Some(path) => read_redactions(Some(path))?,
        None => read_redactions(there(export::REDACTIONS).as_deref())?,
    };
    Ok(Beside {
        item,
        anchors: objects.map(|objects| anchors::select(objects, said.role_id.as_deref())),
        redactions,
        folder,
        anchors_from,
    })
}

async fn item_of_table(said: &Said) -> Result<Item, CheckError> {
    let request = said
        .request
        .as_deref()
        .ok_or_else(|| CheckError::Usage("--ledger dynamodb needs --request".to_owned()))?;
    let table = said.table.clone().unwrap_or_default();
    let settings = aws::settings().await;
    aws::table::read_item(&settings, &table, request).await
}

/// What counts of a bastion's folder.
pub(crate) async fn read_bucket(bucket: &str, folder: &Folder) -> Result<Chosen, CheckError> {
    let settings = aws::settings().await;
    aws::folder::read(&settings, bucket, folder).await
}

async fn row(args: &Args, item: Option<&Item>, now_s: u64) -> Result<Option<Row>, CheckError> {
    let Some(from) = &args.rolls else {
        return Ok(None);
    };
    let item = item.ok_or_else(|| {
        CheckError::Usage("--rolls needs the request's ledger item (--ledger)".to_owned())
    })?;
    let mut rolls = Rolls::read(rolls_command::fetch(from).await?)?;
    if rolls_command::is_bucket(from) {
        rolls.judge_age(now_s);
    }
    Row::find(&rolls, item, now_s).map(Some)
}

async fn search_others(
    args: &Args,
    said: &Said,
    beside: &Beside,
) -> Result<Option<Searched>, CheckError> {
    let Some(most) = args.search else {
        return Ok(None);
    };
    let (Some(bucket), Some(folder)) = (&said.bucket, &beside.folder) else {
        return Err(CheckError::Usage(
            "--search needs the anchors' bucket: a request id, or --anchors s3://BUCKET".to_owned(),
        ));
    };
    let sought = Sought {
        folder: folder.clone(),
        genesis_at: beside.anchors.as_ref().and_then(|a| a.genesis_at),
    };
    let settings = aws::settings().await;
    search::others(&settings, bucket, &sought, most)
        .await
        .map(Some)
}

/// Where it all came from, and what the ledger says against it.
fn around(said: &Said, from: &Source, read: Read, beside: &Beside) -> Around {
    let folders: Vec<Folder> = match (&beside.folder, &beside.anchors) {
        (Some(folder), _) => vec![folder.clone()],
        (None, Some(anchors)) => anchors.folders.iter().cloned().collect(),
        (None, None) => Vec::new(),
    };
    let mut place = Place {
        anchors: beside.anchors_from.clone(),
        prefixes: folders.iter().map(Folder::prefix).collect(),
        lines: match from {
            Source::Files { lines, .. } => lines.display().to_string(),
            Source::Request(_) => LOGS.to_owned(),
        },
        parts: Vec::new(),
    };
    place.parts_of(said, beside.item.as_ref(), &folders, read);
    let item = beside.item.as_ref();
    let mut contradictions =
        item.map_or_else(Vec::new, |item| said.against(item, beside.folder.as_ref()));
    let anchors = beside.anchors.as_ref();
    contradictions.extend(
        anchors
            .iter()
            .flat_map(|a| a.contradictions.iter().cloned()),
    );
    Around {
        aside: anchors.map(|a| a.aside).unwrap_or_default(),
        more: anchors.is_some_and(|a| a.more),
        place,
        row: None,
        searched: None,
        contradictions,
        strict: None,
    }
}

impl Around {
    /// Adds what the genesis, the rolls and the search say against it. A contradiction is TAMPERED, whatever the chain
    /// proves by itself.
    fn judge(&mut self, said: &Said, item: Option<&Item>, report: &mut Report) {
        let found = &mut self.contradictions;
        if let (Some(genesis), Some(group)) = (&report.genesis, &said.group)
            && genesis.log_group != *group
            && !found.iter().any(|c| c.code == "place-log-group")
        {
            found.push(Contradiction {
                code: "place-log-group",
                detail: format!("the genesis says {}, you say {group}", genesis.log_group),
            });
        }
        if let Some(row) = &self.row {
            found.extend(row.contradictions.iter().cloned());
            found.extend(
                report
                    .seal
                    .as_ref()
                    .and_then(|seal| row.lacks_end(seal.t_us)),
            );
        }
        if let Some(searched) = &self.searched {
            let attempt = item.and_then(Item::attempt).unwrap_or(1);
            found.extend(searched.against(attempt));
        }
        if !found.is_empty() && report.could_not_check.is_none() {
            report.verdict = Verdict::Tampered;
        }
    }

    /// Where the search could not tell whether there is a contradiction, there is no verdict but TAMPERED, which something
    /// else gave.
    fn ensure_decided(
        &self,
        folder: Option<&Folder>,
        item: Option<&Item>,
        report: &Report,
    ) -> Result<(), CheckError> {
        let (Some(searched), Some(folder)) = (&self.searched, folder) else {
            return Ok(());
        };
        let attempt = item.and_then(Item::attempt).unwrap_or(1);
        match searched.undecided(attempt, &folder.instance) {
            Some(instance) if report.verdict != Verdict::Tampered => {
                Err(CheckError::Undecided { instance })
            }
            _ => Ok(()),
        }
    }
}

fn inputs(args: &Args, beside: Beside) -> Result<Inputs, CheckError> {
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
    Ok(Inputs {
        ledger: beside.item.map(|item| item.facts()).transpose()?,
        anchors: beside.anchors.map(|anchors| anchors.anchors),
        redactions: beside.redactions,
        redactors,
    })
}
