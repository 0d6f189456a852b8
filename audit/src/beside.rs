//! What stands beside the lines, from files: the ledger item, anchors, manifests.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use powerpole_chain::Redaction;

use crate::{
    error::CheckError,
    ledger::Item,
    object::{self, ObjectVersion},
};

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

pub(crate) fn read_item(path: &Path) -> Result<Item, CheckError> {
    Item::parse(&path.display().to_string(), &read(path)?)
}

pub(crate) fn read_anchors(path: &Path) -> Result<Vec<ObjectVersion>, CheckError> {
    let text = String::from_utf8(read(path)?).map_err(|_| CheckError::Object {
        key: path.display().to_string(),
        detail: "not UTF-8".to_owned(),
    })?;
    object::parse_lines(&text)
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
