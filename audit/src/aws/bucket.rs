//! S3: lists of versions, page by page, and bodies.
//!
//! Whoever may write below a prefix chooses names, number, size and encryption of what lies there: no list is followed
//! without a bound, names come encoded, and one object that cannot be read is told apart from a service that does not
//! answer.

use std::collections::BTreeSet;

use aws_sdk_s3::{
    Client,
    config::Builder,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::list_object_versions::ListObjectVersionsOutput,
    primitives::DateTimeFormat,
    types::EncodingType,
};
use jiff::Timestamp;

use crate::{
    error::CheckError,
    object::{ObjectVersion, wrong},
};

/// Versions on a page.
const PAGE: usize = 1000;
const LIST: &str = "s3 ListObjectVersions";

/// A client of the settings; an endpoint of one's own is asked with the bucket in the path.
pub(crate) fn client(settings: &aws_config::SdkConfig) -> Client {
    let own_endpoint = settings.endpoint_url().is_some();
    Client::from_conf(
        Builder::from(settings)
            .force_path_style(own_endpoint)
            .build(),
    )
}

/// One version as a list names it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) version_id: String,
    /// When it was written, by S3's clock.
    pub(crate) time: Timestamp,
    /// The same as RFC 3339.
    pub(crate) last_modified: String,
    /// It was written in parts: then its time is when that was begun, and it may have come long after.
    pub(crate) in_parts: bool,
}

impl Listed {
    /// With this body.
    pub(crate) fn object(self, body: String) -> ObjectVersion {
        ObjectVersion {
            key: self.key,
            version_id: self.version_id,
            last_modified: self.last_modified,
            in_parts: self.in_parts,
            body,
        }
    }
}

/// One page of a list.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// By key; of one key the newest first.
    pub(crate) versions: Vec<Listed>,
    /// Keys that were deleted, which leaves a marker and the versions.
    pub(crate) markers: Vec<String>,
    /// The folders, where they were asked for.
    pub(crate) folders: Vec<String>,
}

/// The pages of a list, up to a bound.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'static str>,
    /// How many more are asked for.
    left: usize,
    /// Where the next begins; none after the last.
    from: Option<(Option<String>, Option<String>)>,
}

impl<'a> Pages<'a> {
    /// The versions of every key that begins with `prefix`, on at most `most` pages.
    pub(crate) fn of(
        client: &'a Client,
        bucket: &'a str,
        prefix: &'a str,
        most: usize,
    ) -> Pages<'a> {
        Pages {
            client,
            bucket,
            prefix,
            delimiter: None,
            left: most,
            from: Some((None, None)),
        }
    }

    /// The next page; none after the last, and none beyond the bound.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, CheckError> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some((key, version)) = self.from.take() else {
            return Ok(None);
        };
        self.left -= 1;
        let page = self
            .client
            .list_object_versions()
            .bucket(self.bucket)
            .prefix(self.prefix)
            .set_delimiter(self.delimiter.map(str::to_owned))
            .encoding_type(EncodingType::Url)
            .set_key_marker(key)
            .set_version_id_marker(version)
            .send()
            .await
            .map_err(super::failed(LIST))?;
        if page.is_truncated().unwrap_or_default() {
            let name = Name::of(&page);
            let key = page.next_key_marker().map(|key| name.read(key));
            let key = key.ok_or_else(|| wrong(self.prefix, "the list breaks off"))?;
            let version = page.next_version_id_marker().map(str::to_owned);
            self.from = Some((Some(key), version));
        }
        read(&page).map(Some)
    }

    /// Whether there is more, which the bound left out.
    pub(crate) fn is_cut(&self) -> bool {
        self.from.is_some()
    }
}

fn read(page: &ListObjectVersionsOutput) -> Result<Page, CheckError> {
    let name = Name::of(page);
    let mut versions = Vec::new();
    for version in page.versions() {
        let key = name.read(version.key().unwrap_or_default());
        let modified = version.last_modified();
        let time = modified.and_then(|time| Timestamp::from_nanosecond(time.as_nanos()).ok());
        let text = modified.and_then(|time| time.fmt(DateTimeFormat::DateTime).ok());
        let (Some(time), Some(last_modified)) = (time, text) else {
            return Err(wrong(&key, "the list does not say when it was written"));
        };
        versions.push(Listed {
            key,
            version_id: version.version_id().unwrap_or_default().to_owned(),
            time,
            last_modified,
            // The ETag of such an object ends in `-` and the number of parts; no other has a `-`.
            in_parts: version.e_tag().is_some_and(|tag| tag.contains('-')),
        });
    }
    let markers = page.delete_markers().iter();
    let folders = page.common_prefixes().iter();
    Ok(Page {
        versions,
        markers: markers
            .filter_map(|m| m.key().map(|key| name.read(key)))
            .collect(),
        folders: folders
            .filter_map(|f| f.prefix().map(|prefix| name.read(prefix)))
            .collect(),
    })
}

/// How names stand in an answer: XML cannot hold every character of a key, so S3 is asked to encode them.
#[derive(Clone, Copy)]
struct Name {
    encoded: bool,
}

impl Name {
    fn of(page: &ListObjectVersionsOutput) -> Name {
        Name {
            encoded: page.encoding_type() == Some(&EncodingType::Url),
        }
    }

    fn read(self, text: &str) -> String {
        if !self.encoded {
            return text.to_owned();
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [byte, after @ ..] = rest {
            rest = after;
            bytes.push(match (byte, after) {
                (b'+', _) => b' ',
                (b'%', [high, low, behind @ ..]) => match hex(*high, *low) {
                    Some(value) => {
                        rest = behind;
                        value
                    }
                    None => b'%',
                },
                (byte, _) => *byte,
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(high)? * 16 + value(low)?).ok()
}

/// What the service says of one object that nobody, or not everybody, can read: it is gone, archived, or encrypted with
/// another's key.
const UNREADABLE: [&str; 7] = [
    "AccessDenied",
    "InvalidArgument",
    "InvalidObjectState",
    "InvalidRequest",
    "MethodNotAllowed",
    "NoSuchKey",
    "NoSuchVersion",
];

/// A version's body, or why this object cannot be read. A service that does not answer is an error.
pub(crate) async fn read_body(
    client: &Client,
    bucket: &str,
    key: &str,
    version_id: &str,
    longest: u64,
) -> Result<Result<String, String>, CheckError> {
    let answer = client
        .get_object()
        .bucket(bucket)
        .key(key)
        .version_id(version_id)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(SdkError::ServiceError(error)) if is_objects_own(error.err().code()) => {
            let code = error.err().code().unwrap_or_default();
            return Ok(Err(format!("S3 says {code}")));
        }
        Err(error) => return Err(super::failed("s3 GetObject")(error)),
    };
    let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
    if length.is_none_or(|length| length > longest) {
        return Ok(Err(format!("longer than {longest} bytes")));
    }
    let bytes = answer
        .body
        .collect()
        .await
        .map_err(super::failed("s3 GetObject"))?;
    Ok(String::from_utf8(bytes.to_vec()).map_err(|_| "not UTF-8".to_owned()))
}

fn is_objects_own(code: Option<&str>) -> bool {
    code.is_some_and(|code| UNREADABLE.contains(&code) || code.starts_with("KMS."))
}

/// The folders whose names begin with `prefix`, at most `most`; none when there are more. A folder counts in which an
/// object was ever written, a deleted one too.
pub(crate) async fn folders(
    client: &Client,
    bucket: &str,
    prefix: &str,
    most: usize,
) -> Result<Option<BTreeSet<String>>, CheckError> {
    let mut folders = BTreeSet::new();
    let mut pages = Pages::of(
        client,
        bucket,
        prefix,
        most.div_ceil(PAGE).saturating_mul(2) + 8,
    );
    pages.delimiter = Some("/");
    while let Some(page) = pages.next().await? {
        folders.extend(page.folders);
        if folders.len() > most {
            return Ok(None);
        }
    }
    Ok((!pages.is_cut()).then_some(folders))
}

/// What was first written under a key.
#[derive(Clone, Debug)]
pub(crate) enum First {
    /// Nothing.
    Never,
    /// This.
    At(Listed),
    /// Only markers, and versions that were written in parts.
    NothingWhole,
    /// More versions lie on it than were turned over.
    Unknown,
}

/// The first version of exactly this key that was written whole, in so many pages.
pub(crate) async fn first_version(
    client: &Client,
    bucket: &str,
    key: &str,
    most: usize,
) -> Result<First, CheckError> {
    let mut pages = Pages::of(client, bucket, key, most);
    let mut first: Option<Listed> = None;
    let mut other = false;
    while let Some(page) = pages.next().await? {
        other |= page.markers.iter().any(|marker| marker == key);
        let mut past = false;
        for version in page.versions {
            if version.key != key {
                past = true;
            } else if version.in_parts {
                other = true;
            } else if first.as_ref().is_none_or(|held| version.time <= held.time) {
                first = Some(version);
            }
        }
        if past {
            return Ok(found(first, other));
        }
    }
    if pages.is_cut() {
        return Ok(First::Unknown);
    }
    Ok(found(first, other))
}

fn found(first: Option<Listed>, other: bool) -> First {
    match first {
        Some(version) => First::At(version),
        None if other => First::NothingWhole,
        None => First::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_encoded_and_others_as_they_are() {
        let read = |text| Name { encoded: true }.read(text);
        assert_eq!(
            read("AROA%3Ai-1/req-1/head-%01+%2B%C3%A9.json"),
            "AROA:i-1/req-1/head-\u{1} +é.json"
        );
        assert_eq!(read("50%"), "50%");
        assert_eq!(read("%zz%+a"), "%zz% a");
        assert_eq!(Name { encoded: false }.read("a+%41"), "a+%41");
    }

    #[test]
    fn an_object_that_cannot_be_read_is_told_apart_from_a_service_that_does_not_answer() {
        for code in [
            "AccessDenied",
            "InvalidObjectState",
            "KMS.DisabledException",
        ] {
            assert!(is_objects_own(Some(code)), "{code}");
        }
        for code in [
            "SlowDown",
            "InternalError",
            "ExpiredToken",
            "RequestTimeTooSkewed",
        ] {
            assert!(!is_objects_own(Some(code)), "{code}");
        }
        assert!(!is_objects_own(None));
    }
}
