//! The instance metadata service, version 2 only, on 169.254.169.254:80 inside the hub.
//!
//! The caller is known by its source address, which the hub's rules let no machine forge. As in EC2 with `HttpTokens=required` and a
//! hop limit of 1: a token comes by PUT and is good for its own instance alone, a GET without one is refused with 401, a
//! forwarded PUT with 403, and answers leave with an IP time to live of 1.

mod token;
mod tree;

pub(crate) use tree::Leaf;

use super::HostError;
use super::ec2::{Credentials, Ec2, Instance};
use crate::clock;
use crate::hub::{HubError, InstanceId, METADATA, Stage};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use token::TokenKey;

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// Credentials are renewed when less than this is left of their hour.
const RENEW_BEFORE_S: i64 = 15 * 60;

/// Who has which address; filled by the instance host's loop, read by the metadata service.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    instances: Mutex<BTreeMap<Ipv4Addr, Instance>>,
}

impl Directory {
    /// Notes what EC2 says of an instance that has an address.
    pub(crate) fn learn(&self, instance: &Instance) {
        if let Some(address) = instance.address {
            self.lock().insert(address, instance.clone());
        }
    }

    /// Forgets an instance; its address may belong to another from now on.
    pub(crate) fn forget(&self, id: &InstanceId) {
        self.lock().retain(|_, instance| instance.id != *id);
    }

    fn at(&self, address: Ipv4Addr) -> Option<Instance> {
        self.lock().get(&address).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ipv4Addr, Instance>> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service's settings and state.
pub(crate) struct Imds {
    stage: Stage,
    ec2: Ec2,
    directory: Arc<Directory>,
    key: TokenKey,
    role: String,
    credentials: tokio::sync::Mutex<BTreeMap<InstanceId, Credentials>>,
}

impl Imds {
    /// `role` is the name of the role that every instance profile of the stage holds.
    pub(crate) fn new(
        stage: &Stage,
        ec2: Ec2,
        directory: Arc<Directory>,
        role: &str,
    ) -> Result<Self, HostError> {
        let key = TokenKey::load_or_make(&stage.run().join("imds.key"))?;
        Ok(Self {
            stage: stage.clone(),
            ec2,
            directory,
            key,
            role: role.to_owned(),
            credentials: Default::default(),
        })
    }

    /// Serves until the process ends.
    pub(crate) async fn serve(self) -> Result<(), HostError> {
        let address = SocketAddr::from((METADATA, 80));
        let failed = |source| HostError::Metadata { address, source };
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(failed)?;
        listener.set_ttl(1).map_err(failed)?;
        let app = Router::new().fallback(answer).with_state(Arc::new(self));
        axum::serve(
            listener,
            app.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .await
        .map_err(failed)
    }

    async fn credentials_json(&self, instance: &Instance) -> Result<String, HostError> {
        let mut cache = self.credentials.lock().await;
        let fresh = cache
            .get(&instance.id)
            .filter(|kept| is_fresh(&kept.expiration))
            .cloned();
        let credentials = match fresh {
            Some(credentials) => credentials,
            None => {
                let arn = format!("arn:aws:iam::{}:role/{}", instance.owner, self.role);
                let new = self.ec2.assume_role(&arn, &instance.id).await?;
                cache.insert(instance.id.clone(), new.clone());
                new
            }
        };
        Ok(tree::credentials_document(
            &credentials,
            &clock::timestamp(),
        ))
    }
}

fn is_fresh(expiration: &str) -> bool {
    let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
    expiration
        .parse::<jiff::Timestamp>()
        .is_ok_and(|end| end.as_second().saturating_sub(now) > RENEW_BEFORE_S)
}

async fn answer(
    State(imds): State<Arc<Imds>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let IpAddr::V4(caller) = peer.ip() else {
        return refuse(StatusCode::FORBIDDEN);
    };
    // Someone without a machine (the hub itself) has no metadata.
    let Some(instance) = imds.directory.at(caller) else {
        return refuse(StatusCode::FORBIDDEN);
    };
    let path = request.uri().path().to_owned();
    let now = clock::since_epoch().as_secs();
    if path == "/latest/api/token" {
        return if request.method() == Method::PUT {
            grant_token(&imds.key, caller, request.headers(), now)
        } else {
            refuse(StatusCode::METHOD_NOT_ALLOWED)
        };
    }
    let given = request
        .headers()
        .get(TOKEN_HEADER)
        .and_then(|value| value.to_str().ok());
    let Some(left) = given.and_then(|token| imds.key.check(token, caller, now)) else {
        return refuse(StatusCode::UNAUTHORIZED);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut response = read(&imds, &instance, &path).await;
    response
        .headers_mut()
        .insert(TTL_HEADER, HeaderValue::from(left));
    response
}

fn grant_token(key: &TokenKey, caller: Ipv4Addr, headers: &HeaderMap, now: u64) -> Response {
    if headers.contains_key("x-forwarded-for") {
        return refuse(StatusCode::FORBIDDEN);
    }
    let ttl = headers
        .get(TTL_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    match ttl.filter(|ttl| (1..=21_600).contains(ttl)) {
        Some(ttl) => {
            let mut response = text(key.issue(caller, now + ttl));
            response
                .headers_mut()
                .insert(TTL_HEADER, HeaderValue::from(ttl));
            response
        }
        None => refuse(StatusCode::BAD_REQUEST),
    }
}

async fn read(imds: &Imds, instance: &Instance, path: &str) -> Response {
    if path.trim_end_matches('/') == "/latest/user-data" {
        let file = imds
            .stage
            .machines()
            .join(instance.id.as_str())
            .join("user-data");
        return match tokio::fs::read(&file).await {
            Ok(bytes) => (
                [(header::CONTENT_TYPE, "application/octet-stream")],
                Bytes::from(bytes),
            )
                .into_response(),
            Err(_) => refuse(StatusCode::NOT_FOUND),
        };
    }
    match tree::look_up(instance, imds.ec2.region(), &imds.role, path) {
        Some(Leaf::Text(value)) => text(value),
        Some(Leaf::Credentials) => match imds.credentials_json(instance).await {
            Ok(json) => text(json),
            Err(error) => {
                tracing::warn!(instance = %instance.id, code = error.code(), %error, "no credentials for an instance");
                refuse(StatusCode::INTERNAL_SERVER_ERROR)
            }
        },
        None => refuse(StatusCode::NOT_FOUND),
    }
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
}

fn refuse(status: StatusCode) -> Response {
    status.into_response()
}

/// For [`TokenKey`]: reads a key file, or makes one that only root can read.
fn load_or_make_key(path: &Path) -> Result<Vec<u8>, HubError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Ok(key) = std::fs::read(path)
        && key.len() == 32
    {
        return Ok(key);
    }
    let key: [u8; 32] = rand::random();
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(HubError::file("create", path))?;
    file.write_all(&key)
        .map_err(HubError::file("write", path))?;
    Ok(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (tempfile::TempDir, TokenKey) {
        let dir = tempfile::tempdir().unwrap();
        let key = TokenKey::load_or_make(&dir.path().join("key")).unwrap();
        (dir, key)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_token_needs_a_time_to_live_in_range_and_no_proxy_in_between() {
        let (_dir, key) = key();
        let caller = Ipv4Addr::new(10, 77, 64, 4);
        let status = |pairs: &[(&'static str, &'static str)]| {
            grant_token(&key, caller, &headers(pairs), 1000).status()
        };
        assert_eq!(status(&[(TTL_HEADER, "60")]), StatusCode::OK);
        assert_eq!(status(&[(TTL_HEADER, "21600")]), StatusCode::OK);
        for bad in ["0", "21601", "-1", "x"] {
            assert_eq!(
                status(&[(TTL_HEADER, bad)]),
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
        assert_eq!(status(&[]), StatusCode::BAD_REQUEST);
        assert_eq!(
            status(&[(TTL_HEADER, "60"), ("x-forwarded-for", "10.77.64.9")]),
            StatusCode::FORBIDDEN
        );
    }
}
