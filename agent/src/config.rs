//! The agent's configuration, `/etc/powerpole/agent.toml`: places and limits of this image.
//!
//! Everything about a grant comes by boot document and handoff instead. Endpoints of AWS are the SDK's own
//! settings. There is no secret here.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Places and limits. Every field has a default, so an empty file is a valid one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where raw and sealed evidence waits until it is shipped; root only.
    pub(crate) spool_dir: PathBuf,
    /// Socket on which the shim finds the broker.
    pub(crate) broker_socket: PathBuf,
    /// The shell that an operator gets.
    pub(crate) shell: PathBuf,
    /// User under which amazon-ssm-agent starts sessions; it runs the shim and nothing else.
    pub(crate) ssm_user: String,
    /// User under which an operator's shell runs.
    pub(crate) operator_user: String,
    /// Address of the recorder's own database endpoint.
    pub(crate) sql_listen: std::net::SocketAddr,
    /// amazon-ssm-agent's systemd unit, started last.
    pub(crate) ssm_unit: String,
    /// Program that tells whether amazon-ssm-agent is online.
    pub(crate) ssm_cli: PathBuf,
    /// Package manager.
    pub(crate) dnf: PathBuf,
    /// Longest time for the patch, in seconds.
    pub(crate) patch_limit_s: u64,
    /// How long after the patch a missing handoff counts as gone, in seconds.
    pub(crate) handoff_limit_s: u64,
    /// Longest time until amazon-ssm-agent is online, in seconds; halfway it is restarted once.
    pub(crate) ssm_limit_s: u64,
    /// Longest time that `ready` is repeated until Slack has taken the message, in seconds.
    pub(crate) ready_limit_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            spool_dir: "/var/lib/powerpole/spool".into(),
            broker_socket: "/run/powerpole/broker.sock".into(),
            shell: "/bin/bash".into(),
            ssm_user: "ssm-user".to_owned(),
            operator_user: "operator".to_owned(),
            sql_listen: std::net::SocketAddr::from(([127, 0, 0, 1], 3306)),
            ssm_unit: "amazon-ssm-agent.service".to_owned(),
            ssm_cli: "/usr/bin/ssm-cli".into(),
            dnf: "/usr/bin/dnf".into(),
            patch_limit_s: 300,
            handoff_limit_s: 60,
            ssm_limit_s: 180,
            ready_limit_s: 300,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not of the form; the source names line and key.
    #[error("{path} is not a valid configuration")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// Reads the configuration.
///
/// # Errors
/// When the file cannot be read or holds an unknown key or a wrong value.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<Config>("spool_dirr = '/tmp'").unwrap_err();
        assert!(error.to_string().contains("spool_dirr"), "{error}");
        assert!(toml::from_str::<Config>("").is_ok());
    }
}
