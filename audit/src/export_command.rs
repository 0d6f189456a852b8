//! `powerpole export REQUEST --out DIR`.

use std::{fs, path::PathBuf};

use crate::{
    aws::{self, bucket::LONGEST_ANCHOR},
    error::CheckError,
    export::{ANCHORS, LEDGER, LINES, NewFile, ensure_new, event_line},
    verify_command::{AwsArgs, Places},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Request id
    request: String,
    /// Directory to write into; made if it is not there, files in it are never replaced
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Writes the three files.
pub(crate) async fn run(args: &Args) -> Result<u8, CheckError> {
    ensure_new(&args.out)?;
    let settings = aws::settings().await;
    let item = aws::table::read_item(&settings, &args.aws.table()?, &args.request).await?;
    let places = Places::find(&args.aws, &item)?;
    fs::create_dir_all(&args.out).map_err(|source| CheckError::Write {
        path: args.out.clone(),
        source,
    })?;

    // Ledger, then anchors, then lines: of a session that still runs, the lines are never older than
    // the heads that they are compared with.
    let mut ledger = NewFile::create(&args.out, LEDGER)?;
    ledger.line(&item.to_json())?;
    ledger.finish()?;

    let objects =
        aws::bucket::read_versions(&settings, &places.bucket, &places.prefix, LONGEST_ANCHOR)
            .await?;
    let mut anchors = NewFile::create(&args.out, ANCHORS)?;
    for object in &objects {
        let line = serde_json::to_string(object).map_err(|error| CheckError::Object {
            key: object.key.clone(),
            detail: error.to_string(),
        })?;
        anchors.line(&line)?;
    }
    anchors.finish()?;

    let mut lines = NewFile::create(&args.out, LINES)?;
    let mut events = 0u64;
    aws::logs::read_stream(
        &settings,
        &places.group,
        &places.stream,
        &mut |time, message| {
            events += 1;
            lines.line(&event_line(time, message))
        },
    )
    .await?;
    lines.finish()?;

    println!(
        "{}: {events} log events, {} anchor versions, 1 ledger item in {}",
        args.request,
        objects.len(),
        args.out.display()
    );
    Ok(0)
}
