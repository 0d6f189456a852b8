//! The session gateway: which instances are connected, and the pipe between plugin and worker.
//!
//! An agent's connection is its registration. A session begins when StartSession asks for it: the agent
//! starts a worker, the worker waits here for the plugin, and only then does a shell start, as with the
//! real service. A plugin that goes away ends the session (the stage knows no ResumeSession), and so does the
//! end of this process; agents come back by themselves.

use super::wire::{Document, Frame, Hello, Join, Size, Start, WireError, receive, send};
use crate::aws::{clock, upstream::Upstream};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// An agent pings every 5 s; one that was silent for so long is not connected.
const AGENT_SILENCE: Duration = Duration::from_secs(15);
/// From StartSession to the worker's arrival.
const WORKER_ARRIVAL: Duration = Duration::from_secs(20);
/// From StartSession to the plugin's arrival.
const PLUGIN_ARRIVAL: Duration = Duration::from_secs(60);
/// For the first frame of any connection.
const GREETING: Duration = Duration::from_secs(10);
/// Frames in flight one way before the sender has to wait.
const QUEUE: usize = 64;

/// A connected instance.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) last_ping: Timestamp,
    connection: u64,
    queue: mpsc::Sender<Frame>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Connecting,
    Connected,
    Terminated,
    Failed,
}

/// What is known of a session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) owner: String,
    pub(crate) document_name: String,
    pub(crate) reason: String,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) standing: Standing,
    document: Document,
    worker_token: String,
    /// Taken by the first plugin.
    plugin_token: Option<String>,
    size: Size,
    to_worker: Option<mpsc::Sender<Frame>>,
    to_plugin: Option<mpsc::Sender<Frame>>,
}

/// A StartSession call.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) owner: String,
    pub(crate) document_name: String,
    pub(crate) document: Document,
    pub(crate) reason: String,
    pub(crate) worker_token: String,
    pub(crate) plugin_token: String,
}

/// The instance has no connected agent.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not connected.")]
pub(crate) struct NotConnected(pub(crate) String);

#[derive(Default)]
struct State {
    agents: BTreeMap<String, Agent>,
    sessions: BTreeMap<String, Session>,
    connections: u64,
}

/// The gateway; clones share it.
#[derive(Clone)]
pub(crate) struct Gateway {
    state: Arc<Mutex<State>>,
    /// Where an instance's private address is looked up; absent, any address may register any instance.
    directory: Option<Upstream>,
}

impl Gateway {
    /// A gateway that knows nobody yet.
    pub(crate) fn new(directory: Option<Upstream>) -> Self {
        Self {
            state: Arc::default(),
            directory,
        }
    }

    /// The connected instances.
    pub(crate) fn agents(&self) -> Vec<Agent> {
        self.with(|state| state.agents.values().cloned().collect())
    }

    /// Whether an instance is connected.
    pub(crate) fn is_connected(&self, instance: &str) -> bool {
        self.with(|state| state.agents.contains_key(instance))
    }

    /// All sessions since the start.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.with(|state| state.sessions.values().cloned().collect())
    }

    /// Has the instance's agent start a worker.
    pub(crate) async fn start(&self, request: Request) -> Result<(), NotConnected> {
        let start = Frame::Start(Box::new(Start {
            session: request.id.clone(),
            owner: request.owner.clone(),
            document_name: request.document_name.clone(),
            document: request.document.clone(),
            token: request.worker_token.clone(),
        }));
        let id = request.id.clone();
        let instance = request.instance.clone();
        let queue = self.with(|state| {
            let queue = state.agents.get(&request.instance)?.queue.clone();
            state
                .sessions
                .insert(request.id.clone(), Session::new(request));
            Some(queue)
        });
        let Some(queue) = queue else {
            return Err(NotConnected(instance));
        };
        if queue.send(start).await.is_err() {
            self.finish(&id, Standing::Failed);
            return Err(NotConnected(instance));
        }
        tokio::spawn(self.clone().expire(id));
        Ok(())
    }

    /// Ends a session; false where there is none of this id.
    pub(crate) async fn terminate(&self, id: &str) -> bool {
        let Some((worker, plugin)) = self.with(|state| {
            let session = state.sessions.get(id)?;
            Some((session.to_worker.clone(), session.to_plugin.clone()))
        }) else {
            return false;
        };
        if let Some(worker) = worker {
            let _ = worker.send(Frame::Terminate).await;
        } else {
            if let Some(plugin) = plugin {
                let _ = plugin
                    .send(Frame::Notice("session was terminated".into()))
                    .await;
            }
            self.finish(id, Standing::Terminated);
        }
        true
    }

    /// Takes connections for ever.
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let gateway = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = gateway.greet(stream, peer).await {
                            tracing::debug!(%peer, %error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn greet(self, mut stream: TcpStream, peer: SocketAddr) -> Result<(), WireError> {
        stream.set_nodelay(true)?;
        let Ok(first) = timeout(GREETING, receive(&mut stream)).await else {
            return Ok(());
        };
        let Frame::Hello(hello) = first? else {
            return Ok(());
        };
        match hello {
            Hello::Status { instance } => {
                send(
                    &mut stream,
                    &Frame::Registered(self.is_connected(&instance)),
                )
                .await
            }
            Hello::Agent {
                instance,
                version,
                host,
            } => {
                if !self.is_at(&instance, peer.ip()).await {
                    let text = format!("{} is not the address of {instance}", peer.ip());
                    tracing::warn!(%instance, address = %peer.ip(), "agent refused");
                    return send(&mut stream, &Frame::Notice(text)).await;
                }
                self.keep_agent(stream, instance, version, host, peer.ip())
                    .await
            }
            Hello::Worker { session, token } => self.join_worker(stream, session, token).await,
            Hello::Plugin {
                session,
                token,
                size,
            } => self.join_plugin(stream, session, token, size).await,
        }
    }

    async fn is_at(&self, instance: &str, address: IpAddr) -> bool {
        let Some(directory) = &self.directory else {
            return true;
        };
        let plain = instance
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain {
            return false;
        }
        let form = format!("Action=DescribeInstances&Version=2016-11-15&InstanceId.1={instance}");
        match directory.query("ec2", form).await {
            Ok(xml) => crate::aws::answer::xml_text(&xml, "privateIpAddress")
                .is_some_and(|text| text.parse() == Ok(address)),
            Err(error) => {
                tracing::warn!(%error, "instance could not be looked up");
                false
            }
        }
    }

    async fn keep_agent(
        self,
        stream: TcpStream,
        instance: String,
        version: String,
        host: String,
        address: IpAddr,
    ) -> Result<(), WireError> {
        let (mut reader, writer) = stream.into_split();
        let queue = spawn_writer(writer);
        let connection = self.with(|state| {
            state.connections += 1;
            let connection = state.connections;
            let agent = Agent {
                instance: instance.clone(),
                version,
                host,
                address,
                last_ping: clock::now(),
                connection,
                queue: queue.clone(),
            };
            state.agents.insert(instance.clone(), agent);
            connection
        });
        tracing::info!(%instance, %address, "agent connected");
        let _ = queue.send(Frame::Pong).await;
        while let Ok(Ok(frame)) = timeout(AGENT_SILENCE, receive(&mut reader)).await {
            if frame == Frame::Ping {
                self.with(|state| {
                    if let Some(agent) = state.agents.get_mut(&instance) {
                        agent.last_ping = clock::now();
                    }
                });
                let _ = queue.send(Frame::Pong).await;
            }
        }
        self.with(|state| {
            // A newer connection of the same instance stays.
            if state
                .agents
                .get(&instance)
                .is_some_and(|agent| agent.connection == connection)
            {
                state.agents.remove(&instance);
            }
        });
        tracing::info!(%instance, "agent gone");
        Ok(())
    }

    async fn join_worker(
        self,
        stream: TcpStream,
        id: String,
        token: String,
    ) -> Result<(), WireError> {
        let (mut reader, writer) = stream.into_split();
        let queue = spawn_writer(writer);
        let plugin = self.with(|state| {
            let session = state.sessions.get_mut(&id)?;
            let welcome = session.worker_token == token
                && session.to_worker.is_none()
                && session.standing == Standing::Connecting;
            if !welcome {
                return None;
            }
            session.to_worker = Some(queue.clone());
            Some(session.to_plugin.clone())
        });
        let Some(plugin) = plugin else { return Ok(()) };
        if plugin.is_some() {
            self.join(&id).await;
        }
        loop {
            let frame = match receive(&mut reader).await {
                Ok(frame) => frame,
                Err(_) => break,
            };
            let plugin = self.with(|state| state.sessions.get(&id)?.to_plugin.clone());
            if let Some(plugin) = plugin {
                let _ = plugin.send(frame).await;
            }
        }
        self.finish(&id, Standing::Terminated);
        Ok(())
    }

    async fn join_plugin(
        self,
        stream: TcpStream,
        id: String,
        token: String,
        size: Size,
    ) -> Result<(), WireError> {
        let (mut reader, writer) = stream.into_split();
        let queue = spawn_writer(writer);
        let worker = self.with(|state| {
            let session = state.sessions.get_mut(&id)?;
            if session.plugin_token.as_deref() != Some(&token) {
                return None;
            }
            session.plugin_token = None;
            session.size = size;
            session.to_plugin = Some(queue.clone());
            Some(session.to_worker.clone())
        });
        let Some(worker) = worker else {
            let _ = queue
                .send(Frame::Notice("session is unknown or already in use".into()))
                .await;
            return Ok(());
        };
        if worker.is_some() {
            self.join(&id).await;
        }
        drop(queue);
        while let Ok(frame) = receive(&mut reader).await {
            let worker = self.with(|state| state.sessions.get(&id)?.to_worker.clone());
            if let Some(worker) = worker {
                let _ = worker.send(frame).await;
            }
        }
        self.terminate(&id).await;
        Ok(())
    }

    /// Tells both ends that the other is there.
    async fn join(&self, id: &str) {
        let ends = self.with(|state| {
            let session = state.sessions.get_mut(id)?;
            session.standing = Standing::Connected;
            let join = Join {
                document: session.document.clone(),
                size: session.size,
            };
            Some((session.to_worker.clone()?, session.to_plugin.clone()?, join))
        });
        if let Some((worker, plugin, join)) = ends {
            let _ = plugin.send(Frame::Join(Box::new(join.clone()))).await;
            let _ = worker.send(Frame::Join(Box::new(join))).await;
        }
    }

    /// Gives up on a session whose worker or plugin does not come.
    async fn expire(self, id: String) {
        tokio::time::sleep(WORKER_ARRIVAL).await;
        let missing = |state: &mut State, worker: bool| {
            state.sessions.get(&id).is_some_and(|session| {
                session.standing == Standing::Connecting && (!worker || session.to_worker.is_none())
            })
        };
        if !self.with(|state| missing(state, true)) {
            tokio::time::sleep(PLUGIN_ARRIVAL.saturating_sub(WORKER_ARRIVAL)).await;
            if !self.with(|state| missing(state, false)) {
                return;
            }
        }
        self.terminate(&id).await;
        self.finish(&id, Standing::Failed);
    }

    fn finish(&self, id: &str, standing: Standing) {
        self.with(|state| {
            let Some(session) = state.sessions.get_mut(id) else {
                return;
            };
            session.to_worker = None;
            session.to_plugin = None;
            session.plugin_token = None;
            if session.ended.is_none() {
                session.standing = standing;
                session.ended = Some(clock::now());
            }
        });
    }

    fn with<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        body(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Session {
    fn new(request: Request) -> Self {
        Self {
            id: request.id,
            instance: request.instance,
            owner: request.owner,
            document_name: request.document_name,
            reason: request.reason,
            started: clock::now(),
            ended: None,
            standing: Standing::Connecting,
            document: request.document,
            worker_token: request.worker_token,
            plugin_token: Some(request.plugin_token),
            size: Size {
                columns: 80,
                rows: 24,
            },
            to_worker: None,
            to_plugin: None,
        }
    }
}

/// A queue before a connection; the connection's write side closes when all senders are gone.
pub(crate) fn spawn_writer(
    mut writer: impl AsyncWrite + Unpin + Send + 'static,
) -> mpsc::Sender<Frame> {
    let (sender, mut frames) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            if send(&mut writer, &frame).await.is_err() {
                break;
            }
        }
    });
    sender
}

/// A queue behind a connection; it closes when the connection does.
pub(crate) fn spawn_reader(
    mut reader: impl AsyncRead + Unpin + Send + 'static,
) -> mpsc::Receiver<Frame> {
    let (sender, frames) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Ok(frame) = receive(&mut reader).await {
            if sender.send(frame).await.is_err() {
                break;
            }
        }
    });
    frames
}
