//! What stands at the other end of the shipper: in place of CloudWatch Logs and S3, something that takes everything.
//!
//! Two forms. *In process*: a batch is taken after 20 ms, about what PutLogEvents needs; the SDK's JSON, signature
//! and HTTP cost nothing then. *By the SDK*: the agent's own CloudWatch adapter talks HTTP to a listener of the
//! comparing process on 127.0.0.1, which reads and answers; TLS still costs nothing. S3 is in process in both.

use crate::evidence::anchor::{AnchorStore, AnchorStoreError, Put};
use crate::evidence::cloudwatch::CloudWatchStream;
use crate::evidence::shipper::{LogEvent, LogStream, LogsError, Rejected};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// A log stream that takes everything, and keeps it in a file where somebody wants to read it.
pub enum Cloud {
    InProcess { kept: Option<Mutex<File>> },
    BySdk(CloudWatchStream),
}

impl Cloud {
    pub fn in_process(kept: Option<&Path>) -> Self {
        let open = |path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        Self::InProcess {
            kept: kept.map(|path| Mutex::new(open(path))),
        }
    }

    pub async fn by_sdk(endpoint: &str) -> Self {
        let credentials =
            aws_sdk_s3::config::Credentials::new("AKIABENCH", "secret", None, None, "bench");
        let config: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            .load()
            .await;
        Self::BySdk(CloudWatchStream::new(&config, "group", "stream"))
    }
}

impl LogStream for Cloud {
    async fn create(&self) -> Result<(), LogsError> {
        match self {
            Self::InProcess { .. } => Ok(()),
            Self::BySdk(stream) => stream.create().await,
        }
    }

    async fn put(&self, events: &[LogEvent]) -> Result<Rejected, LogsError> {
        match self {
            Self::InProcess { kept } => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Some(kept) = kept {
                    let mut text = String::new();
                    for event in events {
                        text.push_str(&event.message);
                        text.push('\n');
                    }
                    kept.lock().unwrap().write_all(text.as_bytes()).unwrap();
                }
                Ok(Rejected::default())
            }
            Self::BySdk(stream) => stream.put(events).await,
        }
    }
}

/// A bucket that takes everything, and keeps what a directory is given for.
pub struct Bucket;

impl AnchorStore for Bucket {
    async fn put_once(&self, _: &str, _: Vec<u8>) -> Result<Put, AnchorStoreError> {
        Ok(Put::Stored)
    }
}

/// Answers every call as CloudWatch Logs would that took all; returns its address.
pub fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection));
        }
    });
    format!("http://{address}")
}

fn answer(connection: TcpStream) -> std::io::Result<()> {
    let mut requests = BufReader::with_capacity(256 << 10, connection.try_clone()?);
    let mut answers = connection;
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        answers.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 2\r\n\r\n{}",
        )?;
    }
}
