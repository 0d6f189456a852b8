//! What stands beside the lines, from files: the ledger item, anchors, manifests.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use powerpole_chain::Redaction;

use crate::{
    chosen::{Chooser, Chosen, Line},
    error::CheckError,
    ledger::Item,
};

/// A ledger item or manifests: none is longer, and what is must not fill the memory.
const LONGEST_BESIDE: u64 = 8 << 20;
/// A line of a file of anchors: an object of 64 KiB, every byte of it escaped.
const LONGEST_LINE: u64 = 1 << 20;

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

pub(crate) fn read_item(path: &Path) -> Result<Item, CheckError> {
    Item::parse(&path.display().to_string(), &read(path)?)
}

/// What counts of a file of anchors, of any length, in bounded memory.
pub(crate) fn read_anchors(path: &Path) -> Result<Chosen, CheckError> {
    let wrong = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(wrong)?);
    let mut chooser = Chooser::new(false);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut rest = file.by_ref().take(LONGEST_LINE + 1);
        if rest.read_until(b'\n', &mut line).map_err(wrong)? == 0 {
            break;
        }
        if line.len() as u64 > LONGEST_LINE {
            let detail = format!("line {number} is longer than {LONGEST_LINE} bytes");
            return Err(wrong(io::Error::other(detail)));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let read = serde_json::from_slice(&line).map_err(|error| CheckError::Object {
            key: format!("in line {number}"),
            detail: error.to_string(),
        })?;
        match read {
            Line::Version(object) => chooser.take(object)?,
            Line::LeftOut { left_out } => chooser.take_left_out(&left_out),
        }
    }
    Ok(chooser.finish())
}

pub(crate) fn read_redactions(path: Option<&Path>) -> Result<Vec<Redaction>, CheckError> {
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
