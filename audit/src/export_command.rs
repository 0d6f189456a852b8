//! `powerpole export REQUEST --out DIR`.

use std::{fs, path::PathBuf};

use crate::{
    aws,
    chosen::{Aside, Chosen},
    error::CheckError,
    export::{ANCHORS, LEDGER, LINES, NewFile, ensure_new, event_line},
    ledger::Item,
    place::{Folder, PlaceArgs, Read, Said},
    text::{count, plain},
    verify_command::read_bucket,
};

#[derive(clap::Args)]
#[command(
    override_usage = "powerpole export <REQUEST> --out <DIR> [OPTIONS]",
    next_line_help = true,
    after_help = HELP
)]
pub(crate) struct Args {
    /// Id of the request (req-…), as its messages name it
    request: String,
    /// Directory to write into: made if it is not there, files in it are never replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

const HELP: &str = "\
Writes LINES.jsonl, LEDGER.json and ANCHORS.jsonl. The four places are needed, as options or as
variables: whoever can edit the ledger would choose what is exported otherwise.

Exit codes:
  0   all of it was written
  1   all of it was written, and the ledger names another place, or more lies at the anchors' names
      than is looked at: verify says TAMPERED
  2   something could not be read, fetched or written
  64  wrong usage";

/// Writes the three files. Exit code 1 when the ledger says that the evidence lies elsewhere: what was written is from
/// where the auditor says.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    if !args.request.starts_with("req-") {
        return Err(CheckError::Usage(format!(
            "{} is no request id (req-…)",
            plain(&args.request)
        )));
    }
    ensure_new(&args.out)?;
    let said = args.place.said(None, Some(&args.request))?;
    let everything = Read {
        ledger: true,
        lines: true,
        anchors: true,
    };
    said.suffice(everything)?;
    let settings = aws::settings().await;
    let table = args.place.table.named()?;
    let item = aws::table::read_item(&settings, &table, &args.request).await?;
    let folder = said.folder_of(&item)?;
    let (Some(bucket), Some(group)) = (&said.bucket, &said.group) else {
        return Err(CheckError::Usage(
            "a bucket and a log group are needed".to_owned(),
        ));
    };
    fs::create_dir_all(&args.out).map_err(|source| CheckError::Write {
        path: args.out.clone(),
        source,
    })?;

    // Ledger, then anchors, then lines: of a session that still runs, the lines are never older than
    // the heads that they are compared with.
    let mut ledger = NewFile::create(&args.out, LEDGER)?;
    ledger.line(&item.to_json())?;
    ledger.finish()?;

    let chosen = read_bucket(bucket, &folder).await?;
    let mut anchors = NewFile::create(&args.out, ANCHORS)?;
    for line in chosen.lines() {
        anchors.line(&line)?;
    }
    anchors.finish()?;

    let mut lines = NewFile::create(&args.out, LINES)?;
    let mut events = 0u64;
    let mut each = |time, message: &str| {
        events += 1;
        lines.line(&event_line(time, message))
    };
    aws::logs::read_stream(&settings, group, &folder.stream(), &mut each).await?;
    lines.finish()?;

    println!(
        "{}: {}, {}, 1 ledger item in {}",
        args.request,
        count(events, "log event", "log events"),
        count(chosen.objects.len() as u64, "anchor", "anchors"),
        args.out.display()
    );
    println!(
        "from s3://{bucket}/{} and {group} {}",
        folder.prefix(),
        folder.stream()
    );
    Ok(told(&said, &item, &folder).max(told_beside(&chosen)))
}

/// Tells what the ledger says against the auditor; the exit code.
fn told(said: &Said, item: &Item, folder: &Folder) -> u8 {
    let contradictions = said.against(item, Some(folder));
    for contradiction in &contradictions {
        eprintln!(
            "WRONG: {} ({}). Nothing was read there; verify with the same options says TAMPERED",
            plain(&contradiction.detail),
            contradiction.code
        );
    }
    u8::from(!contradictions.is_empty())
}

/// Tells what lies among the anchors and does not count; 1 when there is more than was looked at.
fn told_beside(chosen: &Chosen) -> u8 {
    let Aside {
        strange,
        later,
        late,
    } = chosen.counts;
    if strange + later + late > 0 {
        let least = if chosen.more { "at least " } else { "" };
        eprintln!(
            "beside the anchors lie {least}{}, {} and {}: they count for nothing, and {} says which",
            count(strange, "strange object", "strange objects"),
            count(later, "later version", "later versions"),
            count(late, "late anchor", "late anchors"),
            ANCHORS
        );
    }
    if chosen.cut {
        eprintln!(
            "WRONG: more objects lie at anchors' names than a bastion writes, and not all of them were looked at \
             (anchors-cut)"
        );
    }
    u8::from(chosen.cut)
}
