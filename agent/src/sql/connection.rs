//! One client's connection: login passed through, statements recorded before they are passed on.

use super::answers::{Answers, Expected};
use super::broken::Broken;
use super::client_stream::{Asked, ClientStream, Taken};
use super::login::{HEAD, Login};
use super::packet::{Greeting, Packet, capability, client_capabilities};
use super::{Endpoint, SqlRefusal};
use crate::evidence::{EvidenceError, Gate};
use powerpole_chain::Kind;
use serde_json::json;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

const LOGIN_WITHIN: Duration = Duration::from_secs(15);
const CHUNK: usize = 64 * 1024;
/// Commands that end in one chunk at most: an empty one is four bytes, and three may have come before.
const MOST_COMMANDS: usize = CHUNK / 4 + 1;
/// ER_SECURE_TRANSPORT_REQUIRED.
const TLS_REQUIRED: u16 = 3159;
/// CR-free server error for everything else of ours: ER_UNKNOWN_ERROR.
const UNKNOWN: u16 = 1105;
/// ER_ACCESS_DENIED_ERROR.
const ACCESS_DENIED: u16 = 1045;
/// How long a client may take to hear why its connection ends.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// How a connection broke off; an orderly end is not among these.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A leg failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something could not be recorded.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The client or the server does what this endpoint does not pass.
    #[error("{0}")]
    Refused(SqlRefusal),
    /// The same, and it is in the record already.
    #[error("refused, as recorded")]
    Recorded,
}

/// Which connection this is, and in which login its client runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    /// The connection's number.
    pub(super) number: u32,
    /// The login's number; 0 when it is not known.
    pub(super) session: u32,
}

/// Serves one client to its end.
pub(super) async fn serve(
    endpoint: &Endpoint,
    whose: Whose,
    client: TcpStream,
) -> Result<(), Trouble> {
    let login = tokio::time::timeout(LOGIN_WITHIN, log_in(endpoint, whose, client));
    let legs = login
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    relay(endpoint, whose, legs).await
}

/// Both legs after the login's packet, which has this number.
struct Legs {
    client: ClientTls,
    server: ServerTls,
    login: u8,
    /// Whether CLIENT_DEPRECATE_EOF is agreed.
    deprecate_eof: bool,
}

type ClientTls = tokio_rustls::server::TlsStream<TcpStream>;
type ServerTls = tokio_rustls::client::TlsStream<TcpStream>;

/// Greeting, TLS on both legs, and the client's login packet. Both legs exchange the same packets, so their
/// sequence numbers stay the same and the rest needs no rewriting.
async fn log_in(endpoint: &Endpoint, whose: Whose, mut client: TcpStream) -> Result<Legs, Trouble> {
    client.set_nodelay(true)?;
    let address = (endpoint.target.host.as_str(), endpoint.target.port);
    let mut server = match TcpStream::connect(address).await {
        Ok(server) => server,
        Err(error) => {
            let text = format!("PowerPole: the database cannot be reached ({error})");
            Packet::error(0, UNKNOWN, &text).write(&mut client).await?;
            return Err(error.into());
        }
    };
    server.set_nodelay(true)?;
    let mut greeting = Packet::read(&mut server).await?;
    if greeting.payload.first() == Some(&0xff) {
        // The server's own refusal, such as "Too many connections".
        greeting.write(&mut client).await?;
        return Err(Trouble::Refused(SqlRefusal::ByServer));
    }
    let read = Greeting::parse(&greeting.payload)
        .filter(|greeting| greeting.capabilities & capability::SSL != 0);
    let Some(read) = read else {
        let text = "PowerPole: the database offers no TLS, so nothing is passed to it";
        Packet::error(greeting.seq, UNKNOWN, text)
            .write(&mut client)
            .await?;
        return Err(Trouble::Refused(SqlRefusal::ServerWithoutTls));
    };
    let offered = read.capabilities;
    greeting.payload = read.without(capability::STRIPPED, &greeting.payload);
    greeting.write(&mut client).await?;

    let request = Packet::read(&mut client).await?;
    let asked = client_capabilities(&request.payload).unwrap_or(0);
    if asked & capability::SSL == 0 || request.payload.len() != 32 {
        let text = "Connections using insecure transport are prohibited (PowerPole: add --ssl)";
        Packet::error(request.seq.wrapping_add(1), TLS_REQUIRED, text)
            .write(&mut client)
            .await?;
        return Err(Trouble::Refused(SqlRefusal::ClientWithoutTls));
    }
    let mut client = endpoint.acceptor.accept(client).await?;

    let mut login = Packet::read(&mut client).await?;
    let Some(read) = Login::parse(&login.payload, offered) else {
        return Err(Trouble::Refused(SqlRefusal::OldLogin));
    };
    if read.capabilities & capability::REFUSED != 0 {
        return Err(Trouble::Refused(SqlRefusal::Capability));
    }
    let account = &endpoint.clients.account;
    if let Err(broken) = Broken::unless_account(account, &read.user) {
        endpoint.refuse(whose, &SqlRefusal::Broken(broken.clone()))?;
        tell(&mut client, login.seq.wrapping_add(1), &broken).await;
        return Err(Trouble::Recorded);
    }
    let event = json!({
        "event": "sql_login",
        "connection": whose.number,
        "user": account,
        "database": read.database,
        "charset": read.charset,
        "capabilities": read.capabilities,
    });
    endpoint
        .recorder
        .record_json(Kind::Event, whose.session, &event)?;
    login.payload = read.passed(login.payload);
    // Not what the client asked for TLS with: the server reads the login by it.
    let request = Packet {
        seq: request.seq,
        payload: login.payload.get(..HEAD).unwrap_or_default().to_vec(),
    };
    request.write(&mut server).await?;
    let mut server = endpoint
        .connector
        .connect(endpoint.server_name.clone(), server)
        .await?;
    login.write(&mut server).await?;
    Ok(Legs {
        client,
        server,
        login: login.seq,
        deprecate_eof: read.capabilities & capability::DEPRECATE_EOF != 0,
    })
}

/// Tells a client why its connection ends, as far as it listens. Its refusal is in the record before.
async fn tell(client: &mut (impl AsyncWrite + Unpin), seq: u8, broken: &Broken) {
    let code = match broken {
        Broken::OtherAccount { .. } => ACCESS_DENIED,
        _ => UNKNOWN,
    };
    let packet = Packet::error(seq, code, &format!("PowerPole: {broken}"));
    let told = async {
        packet.write(client).await?;
        client.shutdown().await
    };
    let _ = tokio::time::timeout(TELL_WITHIN, told).await;
}

async fn relay(endpoint: &Endpoint, whose: Whose, legs: Legs) -> Result<(), Trouble> {
    let (from_client, mut to_client) = tokio::io::split(legs.client);
    let (from_server, to_server) = tokio::io::split(legs.server);
    let (expected, expecting) = mpsc::channel(2 * MOST_COMMANDS);
    let answers = Answers::after_login(legs.login, legs.deprecate_eof, expecting);
    let mut stream = ClientStream::after_login(&endpoint.clients.account, legs.login);
    let asked = Asked::default();
    let statements = Statements {
        stream: &mut stream,
        asked: &asked,
        expected,
    };
    let ended = tokio::select! {
        // Statements first: an answer can only be told of when its statement is known.
        biased;
        ended = pass_statements(endpoint, whose, from_client, to_server, statements) => ended,
        ended = pass_answers(endpoint, whose, from_server, &mut to_client, &asked, answers) => ended,
    };
    let Err(Trouble::Refused(SqlRefusal::Broken(broken))) = ended else {
        return ended;
    };
    endpoint.refuse(whose, &SqlRefusal::Broken(broken.clone()))?;
    tell(&mut to_client, stream.answer_seq(), &broken).await;
    Err(Trouble::Recorded)
}

/// Where a client's statements are followed.
struct Statements<'a> {
    stream: &'a mut ClientStream,
    /// What the other direction hears the server ask for.
    asked: &'a Asked,
    /// Tells the other direction which statements will be answered. Commands are not read while it has no room for a chunk
    /// of them.
    expected: mpsc::Sender<Expected>,
}

/// Client to server: each piece is in the spool before a byte of it is passed on.
async fn pass_statements<T: AsyncRead + AsyncWrite, U: AsyncRead + AsyncWrite>(
    endpoint: &Endpoint,
    whose: Whose,
    mut client: ReadHalf<T>,
    mut server: WriteHalf<U>,
    statements: Statements<'_>,
) -> Result<(), Trouble> {
    let Statements {
        stream,
        asked,
        expected,
    } = statements;
    let mut gate = endpoint.gate.clone();
    let mut buffer = vec![0; CHUNK];
    let mut taken = Taken::default();
    loop {
        wait_open(&mut gate).await?;
        // Nobody listens when the other direction has ended, and this one ends with it. The room stays: nobody else sends.
        let _ = expected.reserve_many(MOST_COMMANDS).await;
        let length = client.read(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            server.shutdown().await?;
            return Ok(());
        }
        let before = stream.statements();
        // What breaks the protocol is recorded like everything else, and then not passed on.
        let whole = stream.take(bytes, asked, &mut taken);
        for piece in taken.pieces.drain(..) {
            endpoint.recorder.record(
                Kind::Statement,
                whose.session,
                &piece.payload(whose.number),
            )?;
        }
        for answer in taken.expected.drain(..) {
            let _ = expected.try_send(answer);
        }
        endpoint
            .statements
            .fetch_add(stream.statements() - before, Ordering::Relaxed);
        whole.map_err(|broken| Trouble::Refused(SqlRefusal::Broken(broken)))?;
        server.write_all(&taken.pass).await?;
        server.flush().await?;
        taken.pass.clear();
    }
}

/// Server to client.
async fn pass_answers<T: AsyncRead + AsyncWrite, U: AsyncRead + AsyncWrite>(
    endpoint: &Endpoint,
    whose: Whose,
    mut server: ReadHalf<T>,
    client: &mut WriteHalf<U>,
    asked: &Asked,
    mut answers: Answers,
) -> Result<(), Trouble> {
    let mut buffer = vec![0; CHUNK];
    let mut told = Vec::new();
    loop {
        let length = server.read(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            client.shutdown().await?;
            return Ok(());
        }
        answers.take(bytes, |statement, outcome| told.push((statement, outcome)));
        // Before the client hears it, so that no honest one is early.
        asked.note(answers.asks_for_data());
        for (statement, mut outcome) in told.drain(..) {
            if let Some(fields) = outcome.as_object_mut() {
                fields.insert("connection".to_owned(), whose.number.into());
                fields.insert("statement".to_owned(), statement.into());
            }
            endpoint
                .recorder
                .record_json(Kind::StatementResult, whose.session, &outcome)?;
        }
        client.write_all(bytes).await?;
        client.flush().await?;
    }
}

async fn wait_open(gate: &mut watch::Receiver<Gate>) -> Result<(), EvidenceError> {
    match gate.wait_for(|gate| *gate != Gate::Frozen).await {
        Ok(gate) if *gate == Gate::Open => Ok(()),
        _ => Err(EvidenceError::Lost),
    }
}
