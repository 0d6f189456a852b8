//! Answers and errors in each service's own form.

use super::call::Protocol;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Response, StatusCode, header::HeaderValue};

/// The body of an answer: made here, or streamed from moto.
pub(crate) type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An error as AWS gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// AWS' code, `InvalidParameterException`.
    pub(crate) code: String,
    /// Text for people.
    pub(crate) message: String,
    /// HTTP status.
    pub(crate) status: u16,
}

impl Refusal {
    /// An error of the caller, HTTP 400.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            status: 400,
        }
    }

    /// The same with another HTTP status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// A body of bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// An answer with a content type.
pub(crate) fn respond(status: u16, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(kind));
    response
}

/// A JSON answer of an AWS service.
pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    respond(200, "application/x-amz-json-1.1", value.to_string())
}

/// An error in the form of the called service.
pub(crate) fn refuse(protocol: Protocol, refusal: &Refusal) -> Response<Body> {
    let (code, message) = (&refusal.code, &refusal.message);
    let (kind, body) = match protocol {
        Protocol::Json => (
            "application/x-amz-json-1.1",
            serde_json::json!({ "__type": code, "message": message }).to_string(),
        ),
        Protocol::Query => (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error><RequestId>stage</RequestId></ErrorResponse>",
                escape(message)
            ),
        ),
        Protocol::Ec2 => (
            "text/xml",
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors><RequestID>stage</RequestID></Response>",
                escape(message)
            ),
        ),
        Protocol::S3 => (
            "application/xml",
            format!(
                "<Error><Code>{code}</Code><Message>{}</Message></Error>",
                escape(message)
            ),
        ),
    };
    let mut response = respond(refusal.status, kind, body);
    if let (Protocol::Json, Ok(value)) = (protocol, HeaderValue::from_str(code)) {
        response.headers_mut().insert("x-amzn-errortype", value);
    }
    response
}

/// Text made safe for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The text between `<tag>` and `</tag>`, first occurrence. Enough for moto's flat answers.
pub(crate) fn xml_text<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}
