//! What moto's RunInstances lacks: the client token's promise, and the limit of the user data; and DescribeInstances by
//! that token.
//!
//! A token with its first answer is on disk before the caller hears of it, so a repetition after a lost
//! answer, or after a restart of the stage's endpoint, gives the same reservation. One launch runs at a
//! time. Killed between moto's answer and the file, a repetition would launch twice: the stage's
//! endpoint is not a part whose death is tried.

use super::{
    answer::{Body, Refusal, full},
    call::value,
    upstream::{Upstream, UpstreamError},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{Response, StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, io, path::PathBuf};
use tokio::sync::Mutex;

const MAX_USER_DATA_BYTES: usize = 16_384;
const MAX_TOKEN_CHARACTERS: usize = 64;

/// Why a launch gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the launches' file {path} cannot be used")]
    File { path: PathBuf, source: io::Error },
}

/// The launches that carried a token.
pub(crate) struct Launches {
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<String, Launch>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Launch {
    parameters: String,
    answer: String,
}

impl Launches {
    /// Reads what an earlier run left; without a path nothing outlives the process.
    pub(crate) fn open(path: Option<PathBuf>) -> Result<Self, LaunchError> {
        let known = match &path {
            None => BTreeMap::new(),
            Some(path) => match std::fs::read(path) {
                Ok(bytes) => {
                    serde_json::from_slice(&bytes).map_err(|source| LaunchError::File {
                        path: path.clone(),
                        source: source.into(),
                    })?
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
                Err(source) => {
                    return Err(LaunchError::File {
                        path: path.clone(),
                        source,
                    });
                }
            },
        };
        Ok(Self {
            path,
            known: Mutex::new(known),
        })
    }

    /// Answers a RunInstances call, at most once a token through moto.
    pub(crate) async fn run(
        &self,
        upstream: &Upstream,
        parts: &Parts,
        body: Bytes,
        form: &[(String, String)],
    ) -> Result<Result<Response<Body>, Refusal>, LaunchError> {
        if let Err(refusal) = judge(form) {
            return Ok(Err(refusal));
        }
        let token = value(form, "ClientToken").unwrap_or_default();
        if token.is_empty() {
            return Ok(Ok(upstream.exchange(parts, body).await?.map(full)));
        }
        let parameters = fingerprint(form);
        let mut known = self.known.lock().await;
        if let Some(launch) = known.get(token) {
            if launch.parameters != parameters {
                return Ok(Err(Refusal::new(
                    "IdempotentParameterMismatch",
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                )));
            }
            return Ok(Ok(super::answer::respond(
                200,
                "text/xml",
                launch.answer.clone(),
            )));
        }
        let answer = upstream.exchange(parts, body).await?;
        if answer.status() == StatusCode::OK {
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            known.insert(
                token.to_owned(),
                Launch {
                    parameters,
                    answer: text,
                },
            );
            self.keep(&known)?;
        }
        Ok(Ok(answer.map(full)))
    }

    /// A DescribeInstances call in moto's words, where it asks by client token: a filter of the ids that were launched so.
    pub(crate) async fn by_token(&self, body: Bytes, form: &[(String, String)]) -> Bytes {
        let filters: Vec<&str> = form
            .iter()
            .filter(|(_, value)| value == "client-token")
            .filter_map(|(key, _)| key.strip_suffix(".Name"))
            .collect();
        if filters.is_empty() {
            return body;
        }
        let known = self.known.lock().await;
        let mut asked = form_urlencoded::Serializer::new(String::new());
        for (key, value) in form {
            let filter = filters.iter().find(|filter| {
                key.strip_prefix(*filter)
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            match filter {
                None => asked.append_pair(key, value),
                Some(_) if key.ends_with(".Name") => asked.append_pair(key, "instance-id"),
                // A token that launched nothing becomes an id that no instance has.
                Some(_) => asked.append_pair(
                    key,
                    known
                        .get(value)
                        .and_then(|launch| instance_id(&launch.answer))
                        .unwrap_or("none"),
                ),
            };
        }
        asked.finish().into()
    }

    fn keep(&self, known: &BTreeMap<String, Launch>) -> Result<(), LaunchError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let failed = |source| LaunchError::File {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(known).map_err(|error| failed(error.into()))?;
        let next = path.with_extension("next");
        std::fs::write(&next, bytes).map_err(failed)?;
        std::fs::rename(&next, path).map_err(failed)
    }
}

/// The instance of a launch's answer; a launch with a token is of one instance here.
fn instance_id(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<instanceId>")?;
    rest.split_once("</instanceId>").map(|(id, _)| id)
}

/// What EC2 refuses and moto takes.
fn judge(form: &[(String, String)]) -> Result<(), Refusal> {
    let token = value(form, "ClientToken").unwrap_or_default();
    if token.chars().count() > MAX_TOKEN_CHARACTERS {
        return Err(Refusal::new(
            "InvalidParameterValue",
            "Client token is limited to 64 characters.",
        ));
    }
    let Some(encoded) = value(form, "UserData") else {
        return Ok(());
    };
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return Err(Refusal::new(
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        ));
    };
    if bytes.len() > MAX_USER_DATA_BYTES {
        return Err(Refusal::new(
            "InvalidParameterValue",
            "User data is limited to 16384 bytes",
        ));
    }
    Ok(())
}

/// The same for the same parameters in any order.
fn fingerprint(form: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = form
        .iter()
        .filter(|(key, _)| key != "ClientToken")
        .collect();
    pairs.sort();
    let mut hash = Sha256::new();
    for (key, value) in pairs {
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn user_data_is_refused_one_byte_above_its_limit() {
        let exact = STANDARD.encode(vec![b'x'; MAX_USER_DATA_BYTES]);
        let above = STANDARD.encode(vec![b'x'; MAX_USER_DATA_BYTES + 1]);
        assert_eq!(judge(&form(&[("UserData", &exact)])), Ok(()));
        assert_eq!(
            judge(&form(&[("UserData", &above)])).unwrap_err().code,
            "InvalidParameterValue"
        );
    }

    #[tokio::test]
    async fn a_client_token_is_asked_for_by_the_id_that_it_launched() {
        let launches = Launches::open(None).unwrap();
        let launch = Launch {
            parameters: String::new(),
            answer: "<a><instanceId>i-1</instanceId></a>".to_owned(),
        };
        launches.known.lock().await.insert("t 1".to_owned(), launch);
        let asked = form(&[
            ("Action", "DescribeInstances"),
            ("Filter.1.Name", "client-token"),
            ("Filter.1.Value.1", "t 1"),
            ("Filter.1.Value.2", "t2"),
            ("Filter.10.Name", "tag:x"),
            ("Filter.10.Value.1", "t 1"),
        ]);
        let said = launches
            .by_token(Bytes::from_static(b"as it came"), &asked)
            .await;
        assert_eq!(
            said,
            "Action=DescribeInstances&Filter.1.Name=instance-id&Filter.1.Value.1=i-1&Filter.1.Value.2=none\
             &Filter.10.Name=tag%3Ax&Filter.10.Value.1=t+1"
        );
        let plain = launches
            .by_token(Bytes::from_static(b"as it came"), &form(&[("A", "1")]))
            .await;
        assert_eq!(plain, "as it came");
    }

    #[test]
    fn the_order_of_parameters_does_not_matter_and_their_values_do() {
        let one = fingerprint(&form(&[("A", "1"), ("B", "2"), ("ClientToken", "t")]));
        assert_eq!(one, fingerprint(&form(&[("B", "2"), ("A", "1")])));
        assert_ne!(one, fingerprint(&form(&[("A", "12"), ("B", "")])));
    }
}
