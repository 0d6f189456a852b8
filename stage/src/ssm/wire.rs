//! What the stage's agents, workers, plugins and the gateway say to each other over TCP.
//!
//! A frame is one byte of kind, four bytes of length (big endian) and the payload. Every connection
//! opens with [`Hello`]. It is the stage's own form: the real services speak another, and nothing of
//! PowerPole sees either.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest payload.
const MAX_PAYLOAD_BYTES: u32 = 1 << 20;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    #[error("frame of {0} bytes is too long")]
    Length(u32),
    #[error("frame {0} does not carry what it should")]
    Payload(&'static str, #[source] serde_json::Error),
}

/// First frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum Hello {
    /// An instance's agent, which stays connected.
    Agent {
        instance: String,
        version: String,
        host: String,
    },
    /// The worker of one session.
    Worker { session: String, token: String },
    /// A person's plugin.
    Plugin {
        session: String,
        token: String,
        size: Size,
    },
    /// `ssm-cli` asks whether the instance is registered.
    Status { instance: String },
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// What a session runs; the names are those of the real documents' `sessionType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SessionType {
    #[serde(rename = "Standard_Stream")]
    StandardStream,
    InteractiveCommands,
    NonInteractiveCommands,
    Port,
}

impl SessionType {
    /// The real agent's name of the plugin that runs it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SessionType::StandardStream => "Standard_Stream",
            SessionType::InteractiveCommands => "InteractiveCommands",
            SessionType::NonInteractiveCommands => "NonInteractiveCommands",
            SessionType::Port => "Port",
        }
    }
}

/// A session document after its parameters were put in. Absent texts are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) session_type: SessionType,
    pub(crate) commands: String,
    pub(crate) run_as_elevated: bool,
    pub(crate) run_as_enabled: bool,
    pub(crate) run_as_user: String,
    pub(crate) shell_profile: String,
    pub(crate) host: String,
    pub(crate) port: String,
    pub(crate) local_port: String,
    pub(crate) port_type: String,
}

/// A session that an agent shall start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) session: String,
    pub(crate) owner: String,
    pub(crate) document_name: String,
    pub(crate) document: Document,
    /// With it the worker joins the session.
    pub(crate) token: String,
}

/// Both ends are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) document: Document,
    pub(crate) size: Size,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello(Hello),
    Start(Box<Start>),
    Join(Box<Join>),
    Data(Vec<u8>),
    /// No more input, without an end of the session.
    End,
    Resize(Size),
    /// The shell's exit code; 128 + n for signal n.
    Exit(i32),
    Terminate,
    Ping,
    Pong,
    /// Text for people: why it ends.
    Notice(String),
    /// Whether the instance asked for is registered.
    Registered(bool),
}

impl Frame {
    async fn write_to(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), WireError> {
        let (kind, payload): (u8, Vec<u8>) = match self {
            Frame::Hello(hello) => (1, encode("hello", hello)?),
            Frame::Start(start) => (2, encode("start", start)?),
            Frame::Join(join) => (3, encode("join", join)?),
            Frame::Data(bytes) => (4, bytes.clone()),
            Frame::Resize(size) => (5, encode("resize", size)?),
            Frame::Exit(code) => (6, encode("exit", code)?),
            Frame::Terminate => (7, Vec::new()),
            Frame::Ping => (8, Vec::new()),
            Frame::Pong => (9, Vec::new()),
            Frame::Notice(text) => (10, text.clone().into_bytes()),
            Frame::Registered(yes) => (11, encode("registered", yes)?),
            Frame::End => (12, Vec::new()),
        };
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(kind);
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        stream.write_all(&bytes).await?;
        Ok(stream.flush().await?)
    }
}

/// Sends one frame.
pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &Frame,
) -> Result<(), WireError> {
    frame.write_to(stream).await
}

/// Takes one frame. Not to be cancelled half-way: give it a task of its own.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, WireError> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    if length > MAX_PAYLOAD_BYTES {
        return Err(WireError::Length(length));
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    Ok(match kind {
        1 => Frame::Hello(decode("hello", &payload)?),
        2 => Frame::Start(decode("start", &payload)?),
        3 => Frame::Join(decode("join", &payload)?),
        4 => Frame::Data(payload),
        5 => Frame::Resize(decode("resize", &payload)?),
        6 => Frame::Exit(decode("exit", &payload)?),
        7 => Frame::Terminate,
        8 => Frame::Ping,
        9 => Frame::Pong,
        10 => Frame::Notice(String::from_utf8_lossy(&payload).into_owned()),
        11 => Frame::Registered(decode("registered", &payload)?),
        12 => Frame::End,
        other => return Err(WireError::Kind(other)),
    })
}

fn encode(name: &'static str, value: &impl Serialize) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(value).map_err(|source| WireError::Payload(name, source))
}

fn decode<T: for<'a> Deserialize<'a>>(name: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(bytes).map_err(|source| WireError::Payload(name, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent() {
        let size = Size {
            columns: 80,
            rows: 24,
        };
        let frames = [
            Frame::Hello(Hello::Status {
                instance: "i-1".into(),
            }),
            Frame::Data(vec![0, 255, 3]),
            Frame::Resize(size),
            Frame::Exit(130),
            Frame::End,
            Frame::Registered(true),
            Frame::Notice("why".into()),
        ];
        let (mut one, mut other) = tokio::io::duplex(4096);
        for frame in &frames {
            send(&mut one, frame).await.unwrap();
        }
        for frame in &frames {
            assert_eq!(&receive(&mut other).await.unwrap(), frame);
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let (mut one, mut other) = tokio::io::duplex(64);
        one.write_all(&[4, 0xff, 0, 0, 0]).await.unwrap();
        assert!(matches!(
            receive(&mut other).await,
            Err(WireError::Length(_))
        ));
    }
}
