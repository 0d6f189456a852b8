//! `powerpole-control`: reads arguments and settings, puts the service together, maps the end to an exit code.

use anyhow::Context as _;
use aws_config::timeout::TimeoutConfig;
use clap::{Parser, Subcommand};
use powerpole_control::aws::cloud::Aws;
use powerpole_control::aws::rolls::RollBucket;
use powerpole_control::clock::Clock;
use powerpole_control::config::Config;
use powerpole_control::furthest::Furthest;
use powerpole_control::hardening;
use powerpole_control::keys::{self, Keys};
use powerpole_control::ledger::dynamodb::DynamoDb;
use powerpole_control::roll::RollMemory;
use powerpole_control::run::{Listeners, run};
use powerpole_control::service::Service;
use powerpole_control::slack::client::SlackApi;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

/// PowerPole's control service.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Serve until SIGTERM or SIGINT.
    Run {
        /// Configuration file; systemd/control.example.toml is one.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say all that is wrong with a configuration and the files that it names.
    CheckConfig {
        /// Configuration file; systemd/control.example.toml is one.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make control's keys: signing.key, sealing.key, derivation.key, each for the owner alone.
    Keygen {
        /// Folder to make them in; nothing in it is overwritten.
        #[arg(long)]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerpole-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: Arguments) -> anyhow::Result<()> {
    hardening::keep_memory_private().context("this process's memory cannot be kept private")?;
    match arguments.command {
        Task::Keygen { dir } => Ok(keys::generate(&dir)?),
        Task::CheckConfig { config } => {
            load(&config)?;
            println!("{}: good", config.display());
            Ok(())
        }
        Task::Run { config } => {
            logs();
            let loaded = load(&config)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("no runtime")?;
            runtime.block_on(serve(loaded))
        }
    }
}

struct Loaded {
    config: Config,
    keys: Keys,
}

fn load(file: &Path) -> anyhow::Result<Loaded> {
    let config = Config::load(file)?;
    let keys = Keys::load(&config).map_err(|errors| {
        let faults = errors.into_iter().map(anyhow::Error::new);
        let faults: Vec<String> = faults.map(|error| format!("{error:#}")).collect();
        anyhow::anyhow!(faults.join("\n"))
    })?;
    Ok(Loaded { config, keys })
}

async fn serve(Loaded { config, keys }: Loaded) -> anyhow::Result<()> {
    let settings = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(config.region.clone()))
        // A call that hangs must not hold a launch for longer than its claim in the ledger.
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(Duration::from_secs(12))
                .operation_timeout(Duration::from_secs(30))
                .build(),
        )
        .load()
        .await;
    let listeners = Listeners {
        bastions: TcpListener::bind(config.listen.bastions)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen.bastions))?,
        slack: TcpListener::bind(config.listen.slack)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen.slack))?,
    };
    let (nudges, nudged) = mpsc::channel(1024);
    let service = Arc::new(Service {
        ledger: Arc::new(DynamoDb::new(&settings, &config.ledger_table)),
        cloud: Arc::new(Aws::new(&settings)),
        rolls: Arc::new(RollBucket::new(&settings, &config.evidence.anchor_bucket)),
        roll_memory: RollMemory::default(),
        furthest: Furthest::default(),
        chat: Arc::new(SlackApi::new(
            &config.slack.api_url,
            &keys.slack_token,
            &config.slack.team,
        )?),
        clock: Clock::system(),
        tasks: TaskTracker::new(),
        nudges,
        config,
        keys,
    });
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        told.cancel();
    });
    run(service, listeners, nudged, stop, || {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })
    .await
    .context("a listener broke")
}

/// JSON for machines, text for a terminal. `RUST_LOG` narrows or widens; the default keeps the SDK quiet.
fn logs() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,aws_config=warn,hyper=warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        subscriber.init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
}
