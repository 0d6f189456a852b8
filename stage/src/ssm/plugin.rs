//! The stand-in session-manager-plugin, run by the real AWS CLI.
//!
//! The CLI gives StartSession's answer in the variable that the first argument names, or as the first
//! argument itself; then region, operation, profile, parameters and endpoint. The terminal is raw, so
//! Ctrl-C is the byte 0x03; a signal that comes all the same is turned into its byte. After the last
//! byte of a pipe Ctrl-D is sent, again every second until the session ends.

use super::{
    gateway::{spawn_reader, spawn_writer},
    terminal::{self, RawTerminal},
    wire::{Document, Frame, Hello, SessionType},
};
use anyhow::{Context, bail};
use serde::Deserialize;
use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// The oldest that the AWS CLI does not warn about; it takes the answer by the environment.
const VERSION: &str = "1.2.764.0";
const RESPONSE: &str = "AWS_SSM_START_SESSION_RESPONSE";
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_Z: u8 = 0x1a;
const CTRL_BACKSLASH: u8 = 0x1c;
const END_AGAIN: Duration = Duration::from_secs(1);

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// As the AWS CLI gives them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    given: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    session_id: String,
    token_value: String,
    stream_url: String,
}

type Frames = mpsc::Receiver<Frame>;
type Queue = mpsc::Sender<Frame>;

/// Runs one session.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut given = args.given.into_iter();
    let first = match given.next() {
        None => {
            println!(
                "\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n"
            );
            return Ok(ExitCode::SUCCESS);
        }
        Some(word) if word == "--version" => {
            println!("{VERSION}");
            return Ok(ExitCode::SUCCESS);
        }
        Some(word) => word,
    };
    if given.nth(1).as_deref() != Some("StartSession") {
        bail!("unknown operation");
    }
    let text = if first.starts_with(RESPONSE) {
        std::env::var(&first).with_context(|| format!("reading {first}"))?
    } else {
        first
    };
    let answer: Answer = serde_json::from_str(&text).context("StartSession's answer")?;
    let address = std::env::var("POWERPOLE_STAGE_SSM_GATEWAY_HOST")
        .unwrap_or_else(|_| host_of(&answer.stream_url).to_owned());
    println!("\nStarting session with SessionId: {}", answer.session_id);
    let stream = TcpStream::connect(&address)
        .await
        .with_context(|| format!("reaching the session gateway at {address}"))?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let mut frames = spawn_reader(reader);
    let queue = spawn_writer(writer);
    let hello = Hello::Plugin {
        session: answer.session_id.clone(),
        token: answer.token_value,
        size: terminal::size(),
    };
    queue.send(Frame::Hello(hello)).await?;
    let join = match frames.recv().await {
        Some(Frame::Join(join)) => join,
        Some(Frame::Notice(text)) => bail!("cannot start session: {text}"),
        _ => bail!("cannot start session: the gateway closed the connection"),
    };
    let document = join.document;
    match document.session_type {
        SessionType::Port if document.port_type == "LocalPortForwarding" => {
            forward(&document, &mut frames, &queue).await?;
        }
        SessionType::Port => converse(false, &mut frames, &queue).await?,
        _ => converse(true, &mut frames, &queue).await?,
    }
    println!(
        "\n\nExiting session with sessionId: {}.\n",
        answer.session_id
    );
    Ok(ExitCode::SUCCESS)
}

/// Pipes standard input and output until the remote end closes or a signal ends it.
async fn converse(shell: bool, frames: &mut Frames, queue: &Queue) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let raw = if shell { RawTerminal::enter()? } else { None };
    let mut input = pump_stdin();
    let mut ended = false;
    let mut last = b'\n';
    let mut again = tokio::time::interval(END_AGAIN);
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(Frame::Data(bytes)) => {
                    let mut output = io::stdout().lock();
                    output.write_all(&bytes)?;
                    output.flush()?;
                }
                Some(Frame::Notice(text)) => {
                    drop(raw);
                    eprintln!("\r\n{text}");
                    return Ok(());
                }
                Some(Frame::Exit(_)) | None => return Ok(()),
                Some(_) => {}
            },
            bytes = input.recv(), if !ended => match bytes {
                Some(bytes) => {
                    last = bytes.last().copied().unwrap_or(last);
                    queue.send(Frame::Data(bytes)).await?;
                }
                None => {
                    ended = true;
                    if !shell {
                        queue.send(Frame::End).await?;
                    } else if last != b'\n' {
                        // The first Ctrl-D after an unfinished line only delivers the line.
                        queue.send(Frame::Data(vec![CTRL_D])).await?;
                    }
                    again.reset_immediately();
                }
            },
            _ = again.tick(), if ended && shell => queue.send(Frame::Data(vec![CTRL_D])).await?,
            event = signals.next() => match event {
                Event::Byte(byte) => queue.send(Frame::Data(vec![byte])).await?,
                Event::Resized => queue.send(Frame::Resize(terminal::size())).await?,
                Event::Ended => return Ok(()),
            },
        }
    }
}

/// Listens on the local port and pipes the first connection that comes.
async fn forward(document: &Document, frames: &mut Frames, queue: &Queue) -> anyhow::Result<()> {
    let port: u16 = document.local_port.parse().context("local port")?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .context("local port")?;
    println!(
        "Port {} opened for session.\nWaiting for connections...",
        listener.local_addr()?.port()
    );
    let mut signals = Signals::new()?;
    let (mut reader, mut writer) = loop {
        tokio::select! {
            accepted = listener.accept() => break accepted?.0.into_split(),
            frame = frames.recv() => match frame {
                Some(Frame::Notice(text)) => bail!("{text}"),
                Some(Frame::Exit(_)) | None => return Ok(()),
                Some(_) => {}
            },
            event = signals.next() => if !matches!(event, Event::Resized) { return Ok(()) },
        }
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            length = reader.read(&mut buffer) => {
                let bytes = buffer.get(..length?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                queue.send(Frame::Data(bytes.to_vec())).await?;
            }
            frame = frames.recv() => match frame {
                Some(Frame::Data(bytes)) => writer.write_all(&bytes).await?,
                Some(Frame::Notice(text)) => bail!("{text}"),
                Some(Frame::Exit(_)) | None => return Ok(()),
                Some(_) => {}
            },
            event = signals.next() => if !matches!(event, Event::Resized) { return Ok(()) },
        }
    }
}

enum Event {
    /// A control signal, as the byte that a raw terminal would have given.
    Byte(u8),
    Resized,
    Ended,
}

struct Signals {
    interrupt: Signal,
    quit: Signal,
    stop: Signal,
    resized: Signal,
    terminated: Signal,
    hung_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            resized: signal(SignalKind::window_change())?,
            terminated: signal(SignalKind::terminate())?,
            hung_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.interrupt.recv() => Event::Byte(CTRL_C),
            _ = self.quit.recv() => Event::Byte(CTRL_BACKSLASH),
            _ = self.stop.recv() => Event::Byte(CTRL_Z),
            _ = self.resized.recv() => Event::Resized,
            _ = self.terminated.recv() => Event::Ended,
            _ = self.hung_up.recv() => Event::Ended,
        }
    }
}

/// Reads standard input in a thread of its own, which ends with the process.
fn pump_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, input) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1024];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(length) => {
                    let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                        break;
                    };
                    if sender.blocking_send(bytes.to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
    input
}

/// `host:port` of a StreamUrl.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_host_of_the_stream_url() {
        assert_eq!(
            host_of("tcp://10.77.0.1:8022/v1/data-channel/a@b-01"),
            "10.77.0.1:8022"
        );
        assert_eq!(host_of("127.0.0.1:1"), "127.0.0.1:1");
    }
}
