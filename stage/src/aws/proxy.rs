//! One call through the endpoint: identified, perhaps made to fail, answered here or by moto, noted.

use super::{
    answer::{Body, Refusal, full, json, refuse, respond},
    call::{self, Call, Protocol},
    clock,
    faults::{Action, Faults},
    journal::Journal,
    kms::Kms,
    launches::{LaunchError, Launches},
    locks, logs, people, secrets,
    sessions::Sessions,
    steering,
    upstream::{Upstream, UpstreamError},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, body::Incoming, http::request::Parts};
use std::{sync::Arc, time::Duration};

/// The caller gets no answer: the server closes the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("connection dropped by a fault")]
    Dropped,
    #[error("the caller's body broke off")]
    Caller(#[source] hyper::Error),
}

/// Everything that the endpoint holds.
pub(crate) struct Endpoint {
    pub(crate) upstream: Upstream,
    pub(crate) launches: Launches,
    pub(crate) sessions: Sessions,
    pub(crate) kms: Kms,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) secret_deletion_delay: Duration,
}

/// An answer made here, or why there is none.
enum Outcome {
    Answer(Response<Body>),
    Refused(Refusal),
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl Endpoint {
    /// Serves one request.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, NoAnswer> {
        let (parts, incoming) = request.into_parts();
        if parts.uri.path().starts_with("/_stage/") {
            let body = incoming
                .collect()
                .await
                .map_err(NoAnswer::Caller)?
                .to_bytes();
            return Ok(steering::answer(&self, &parts, &body));
        }
        let (bytes, stream) = if call::wants_body(&parts) {
            let bytes = incoming
                .collect()
                .await
                .map_err(NoAnswer::Caller)?
                .to_bytes();
            (Some(bytes), None)
        } else {
            (None, Some(incoming.map_err(Into::into).boxed()))
        };
        let call = call::identify(&parts, bytes.as_deref());
        let fault = self.faults.take(&call);
        let name = fault.as_ref().map(|fault| format!("{fault:?}"));
        let result = self.faulty(&call, &parts, bytes, stream, fault).await;
        let status = result
            .as_ref()
            .ok()
            .map(|response| response.status().as_u16());
        tracing::debug!(service = %call.service, operation = %call.operation, ?status, "call");
        self.journal.note(clock::now(), call, status, name);
        result
    }

    async fn faulty(
        &self,
        call: &Call,
        parts: &Parts,
        bytes: Option<Bytes>,
        stream: Option<Body>,
        fault: Option<Action>,
    ) -> Result<Response<Body>, NoAnswer> {
        let refusal = fault.as_ref().and_then(Action::refusal);
        match fault {
            None => Ok(self.answer(call, parts, bytes, stream).await),
            Some(Action::Delay { ms }) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(self.answer(call, parts, bytes, stream).await)
            }
            Some(Action::Drop) => Err(NoAnswer::Dropped),
            Some(Action::ApplyThenDrop) => {
                self.apply(call, parts, bytes, stream).await;
                Err(NoAnswer::Dropped)
            }
            Some(Action::ApplyThenError { .. }) => {
                self.apply(call, parts, bytes, stream).await;
                Ok(refuse(call.protocol, &refusal.unwrap_or_else(internal)))
            }
            Some(Action::Error { .. } | Action::Capacity) => {
                Ok(refuse(call.protocol, &refusal.unwrap_or_else(internal)))
            }
        }
    }

    /// Lets a call take effect and reads its answer to the end, so that the effect is there.
    async fn apply(&self, call: &Call, parts: &Parts, bytes: Option<Bytes>, stream: Option<Body>) {
        let answer = self.answer(call, parts, bytes, stream).await;
        if let Err(error) = answer.into_body().collect().await {
            tracing::warn!(%error, "moto's answer broke off");
        }
    }

    async fn answer(
        &self,
        call: &Call,
        parts: &Parts,
        bytes: Option<Bytes>,
        stream: Option<Body>,
    ) -> Response<Body> {
        let outcome = match (bytes, stream) {
            (Some(bytes), _) => self.inspect(call, parts, bytes).await,
            (None, Some(stream)) => self.pass_on(call, parts, stream).await,
            (None, None) => Ok(Outcome::Refused(internal())),
        };
        match outcome {
            Ok(Outcome::Answer(response)) => response,
            Ok(Outcome::Refused(refusal)) => refuse(call.protocol, &refusal),
            Err(error) => {
                tracing::error!(operation = %call.operation, %error, "call failed");
                refuse(call.protocol, &internal())
            }
        }
    }

    /// A call whose body is in memory.
    async fn inspect(&self, call: &Call, parts: &Parts, body: Bytes) -> Result<Outcome, Failure> {
        match (call.service.as_str(), call.operation.as_str()) {
            ("ec2", "RunInstances") => {
                let form = call::form(&body);
                Ok(self
                    .launches
                    .run(&self.upstream, parts, body, &form)
                    .await?
                    .into())
            }
            ("ec2", "DescribeInstances") => {
                let body = self
                    .launches
                    .by_token(body.clone(), &call::form(&body))
                    .await;
                self.forward(parts, body).await
            }
            ("sts", "GetCallerIdentity") => {
                match call.access_key.as_deref().and_then(people::principal) {
                    Some(who) => Ok(Outcome::Answer(caller_identity(&who))),
                    None => self.forward(parts, body).await,
                }
            }
            ("ssm", operation) if Sessions::answers(operation) => {
                let answer = self.sessions.answer(&self.upstream, call, &body).await?;
                Ok(answer.map(|value| json(&value)).into())
            }
            ("kms", operation) => match self.kms.answer(&self.upstream, operation, &body).await? {
                Some(answer) => Ok(answer.map(|value| json(&value)).into()),
                None => self.forward(parts, body).await,
            },
            ("logs", "PutLogEvents") => self.put_log_events(parts, body).await,
            ("secretsmanager", "DeleteSecret") => {
                let delay = self.secret_deletion_delay;
                match secrets::delete_later(&self.upstream, parts, &body, delay).await? {
                    Some(answer) => Ok(Outcome::Answer(json(&answer))),
                    None => self.forward(parts, body).await,
                }
            }
            ("s3", "PutObjectRetention") => {
                match locks::judge_retention(&self.upstream, parts, &body).await? {
                    Ok(()) => self.forward(parts, body).await,
                    Err(refusal) => Ok(Outcome::Refused(refusal)),
                }
            }
            ("s3", "PutBucketVersioning") => {
                match locks::judge_versioning(&self.upstream, parts, &body).await? {
                    Ok(()) => self.forward(parts, body).await,
                    Err(refusal) => Ok(Outcome::Refused(refusal)),
                }
            }
            _ => self.forward(parts, body).await,
        }
    }

    /// A call whose body streams through.
    async fn pass_on(&self, call: &Call, parts: &Parts, body: Body) -> Result<Outcome, Failure> {
        if call.protocol == Protocol::S3 && call.operation == "GetObjectRetention" {
            return Ok(locks::show_retention(&self.upstream, parts).await?.into());
        }
        let (mut head, body) = self.upstream.send(parts, body).await?.into_parts();
        head.headers.remove("transfer-encoding");
        head.headers.remove("connection");
        let body = body.map_err(Into::into).boxed();
        Ok(Outcome::Answer(Response::from_parts(head, body)))
    }

    async fn forward(&self, parts: &Parts, body: Bytes) -> Result<Outcome, Failure> {
        Ok(Outcome::Answer(
            self.upstream.exchange(parts, body).await?.map(full),
        ))
    }

    async fn put_log_events(&self, parts: &Parts, body: Bytes) -> Result<Outcome, Failure> {
        let request = serde_json::from_slice(&body).unwrap_or_default();
        let admitted = match logs::admit(request, clock::now()) {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let Some(rejected) = admitted.rejected else {
            return self.forward(parts, body).await;
        };
        let mut answer = serde_json::json!({});
        if admitted.kept > 0 {
            let kept = Bytes::from(admitted.request.to_string());
            let passed = self.upstream.exchange(parts, kept).await?;
            if passed.status() != StatusCode::OK {
                return Ok(Outcome::Answer(passed.map(full)));
            }
            answer = serde_json::from_slice(passed.body()).unwrap_or(answer);
        }
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("rejectedLogEventsInfo".into(), rejected);
        }
        Ok(Outcome::Answer(json(&answer)))
    }
}

impl From<Result<Response<Body>, Refusal>> for Outcome {
    fn from(result: Result<Response<Body>, Refusal>) -> Self {
        match result {
            Ok(response) => Outcome::Answer(response),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}

fn internal() -> Refusal {
    Refusal::new(
        "InternalFailure",
        "the stage's AWS endpoint could not answer",
    )
    .with_status(500)
}

fn caller_identity(who: &people::Principal) -> Response<Body> {
    respond(
        200,
        "text/xml",
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>stage</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
            who.arn,
            who.user_id,
            people::ACCOUNT
        ),
    )
}
