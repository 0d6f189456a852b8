//! The stand-in ssm-session-worker: one process a session, argv[1] is the session's id.
//!
//! It joins the session at the gateway, waits for the person, starts the program and pipes. At the end
//! it kills its direct child and nothing else: what the person left in the background lives on.

use super::{
    gateway::{spawn_reader, spawn_writer},
    gateway_address, shell,
    wire::{Document, Frame, Hello, Join, SessionType, Size, Start},
};
use anyhow::{Context, bail};
use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Child,
    sync::{mpsc, oneshot},
};

/// How long output may still come after the program's end.
const DRAIN: Duration = Duration::from_millis(300);
/// How long the gateway may take to close after the exit.
const FAREWELL: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 * 1024;
/// The order comes by a pipe that the agent closes.
const MAX_ORDER_BYTES: u64 = 1 << 20;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The session's id.
    session: String,
}

type Frames = mpsc::Receiver<Frame>;
type Queue = mpsc::Sender<Frame>;

/// Runs one session.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut order = Vec::new();
    tokio::io::stdin()
        .take(MAX_ORDER_BYTES)
        .read_to_end(&mut order)
        .await?;
    let start: Start = serde_json::from_slice(&order).context("the agent's order")?;
    if start.session != args.session {
        bail!("the agent's order is for session {}", start.session);
    }
    let stream = TcpStream::connect(gateway_address())
        .await
        .context("reaching the gateway")?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let mut frames = spawn_reader(reader);
    let queue = spawn_writer(writer);
    queue
        .send(Frame::Hello(Hello::Worker {
            session: start.session,
            token: start.token,
        }))
        .await?;
    let Some(Frame::Join(join)) = frames.recv().await else {
        return Ok(ExitCode::SUCCESS);
    };
    let code = match serve(*join, &mut frames, &queue).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "session failed");
            queue.send(Frame::Notice(format!("{error:#}"))).await?;
            1
        }
    };
    // The gateway closes when it has the exit; until then the queue must not die with this process.
    let farewell = async {
        if queue.send(Frame::Exit(code)).await.is_ok() {
            drop(queue);
            while frames.recv().await.is_some() {}
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    Ok(ExitCode::SUCCESS)
}

async fn serve(join: Join, frames: &mut Frames, queue: &Queue) -> anyhow::Result<i32> {
    let Join { document, size } = join;
    match document.session_type {
        SessionType::Port => forward_port(&document, frames, queue).await,
        SessionType::NonInteractiveCommands => run_command(&document, frames, queue).await,
        SessionType::StandardStream | SessionType::InteractiveCommands => {
            run_shell(&document, size, frames, queue).await
        }
    }
}

async fn run_shell(
    document: &Document,
    size: Size,
    frames: &mut Frames,
    queue: &Queue,
) -> anyhow::Result<i32> {
    let user = shell::find_user(document).await?;
    let shell::Shell { mut child, master } = shell::start(document, user.as_ref(), size)?;
    let input = pump_in(master.try_clone()?);
    let pumped = pump_out(master.try_clone()?, queue.clone());
    if !document.shell_profile.trim().is_empty() {
        input.send(format!("{}\n", document.shell_profile).into_bytes())?;
    }
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status?,
            frame = frames.recv() => match frame {
                Some(Frame::Data(bytes)) => input.send(bytes)?,
                Some(Frame::Resize(size)) => shell::resize(&master, size)?,
                Some(Frame::Terminate) | None => break kill(&mut child).await?,
                Some(_) => {}
            },
        }
    };
    let _ = tokio::time::timeout(DRAIN, pumped).await;
    Ok(code(status))
}

async fn run_command(
    document: &Document,
    frames: &mut Frames,
    queue: &Queue,
) -> anyhow::Result<i32> {
    let user = shell::find_user(document).await?;
    let mut child = shell::start_command(document, user.as_ref())?;
    let pipes = [
        child
            .stdout
            .take()
            .map(|pipe| copy_out(pipe, queue.clone())),
        child
            .stderr
            .take()
            .map(|pipe| copy_out(pipe, queue.clone())),
    ];
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            frame = frames.recv() => if matches!(frame, Some(Frame::Terminate) | None) {
                break kill(&mut child).await?;
            },
        }
    };
    for pipe in pipes.into_iter().flatten() {
        let _ = tokio::time::timeout(DRAIN, pipe).await;
    }
    Ok(code(status))
}

async fn forward_port(
    document: &Document,
    frames: &mut Frames,
    queue: &Queue,
) -> anyhow::Result<i32> {
    let host = if document.host.is_empty() {
        "localhost"
    } else {
        document.host.as_str()
    };
    let address = format!("{host}:{}", document.port);
    let stream = TcpStream::connect(&address)
        .await
        .with_context(|| format!("dialling {address}"))?;
    let (reader, mut writer) = stream.into_split();
    let mut reading = copy_out(reader, queue.clone());
    loop {
        tokio::select! {
            _ = &mut reading => return Ok(0),
            frame = frames.recv() => match frame {
                Some(Frame::Data(bytes)) => writer.write_all(&bytes).await?,
                Some(Frame::End) => writer.shutdown().await?,
                Some(Frame::Terminate) | None => return Ok(0),
                Some(_) => {}
            },
        }
    }
}

fn copy_out(
    mut reader: impl AsyncRead + Unpin + Send + 'static,
    queue: Queue,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = reader.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if queue.send(Frame::Data(bytes.to_vec())).await.is_err() {
                break;
            }
        }
    })
}

/// Reads the terminal in a thread of its own, which ends with the process: a read there cannot be
/// cancelled. The receiver fires when the last process has closed the terminal.
fn pump_out(mut master: File, queue: Queue) -> oneshot::Receiver<()> {
    let (done, pumped) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = master.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if queue.blocking_send(Frame::Data(bytes.to_vec())).is_err() {
                break;
            }
        }
        let _ = done.send(());
    });
    pumped
}

/// Writes to the terminal in a thread of its own: a program that reads nothing blocks it, and must
/// not keep a resize or the session's end waiting.
fn pump_in(mut master: File) -> mpsc::UnboundedSender<Vec<u8>> {
    let (sender, mut input) = mpsc::unbounded_channel::<Vec<u8>>();
    std::thread::spawn(move || {
        while let Some(bytes) = input.blocking_recv() {
            if let Err(error) = master.write_all(&bytes) {
                tracing::debug!(%error, "terminal takes no more input");
            }
        }
    });
    sender
}

/// Kills the direct child, and nothing else.
async fn kill(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.kill().await?;
    child.wait().await
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}
