//! The session's state file, at the real agent's place and in its form.
//!
//! The real agent (`agent/framework/docmanager`, `agent/contracts/document.go`, version 3.3) keeps
//! `/var/lib/amazon/ssm/<instance>/document/state/current/<session id>`: indented JSON, mode 0600,
//! written before the worker starts and removed after the session's end. PowerPole's broker reads
//! `DocumentInformation.SessionOwner` and `DocumentInformation.RunAsUser` (the IAM tag's value, empty
//! without one) from it, and may compare `DocumentInformation.DocumentID` with the worker's argv[1].

use super::wire::Start;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

/// The agent's data folder unless `POWERPOLE_STAGE_SSM_DATA` names another.
const DATA: &str = "/var/lib/amazon/ssm";

/// A state file, removed when dropped.
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Writes it; its place is made where it is absent.
    pub(crate) fn write(instance: &str, start: &Start, now: Timestamp) -> io::Result<Self> {
        let data = std::env::var_os("POWERPOLE_STAGE_SSM_DATA").unwrap_or_else(|| DATA.into());
        let folder = PathBuf::from(data)
            .join(instance)
            .join("document/state/current");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let path = folder.join(&start.session);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&serde_json::to_vec_pretty(&content(instance, start, now))?)?;
        Ok(Self { path })
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "state file stays");
        }
    }
}

fn content(instance: &str, start: &Start, now: Timestamp) -> Value {
    let session = &start.session;
    let document = &start.document;
    let plugin = document.session_type.name();
    let orchestration = format!("{DATA}/{instance}/session/orchestration/{session}/{plugin}");
    json!({
        "DocumentInformation": {
            "DocumentID": session,
            "CommandID": session,
            "AssociationID": "",
            "InstanceID": instance,
            "MessageID": session,
            "RunID": now.strftime("%Y-%m-%dT%H-%M-%S.%3fZ").to_string(),
            "CreatedDate": now.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
            "DocumentName": start.document_name,
            "DocumentVersion": "",
            "DocumentStatus": "InProgress",
            "RunCount": 0,
            "ProcInfo": { "Pid": 0, "StartTime": "0001-01-01T00:00:00Z" },
            "ClientId": "",
            "RunAsUser": "",
            "SessionOwner": start.owner,
        },
        "DocumentType": "StartSession",
        "SchemaVersion": "1.0",
        "InstancePluginsInformation": [{
            "Configuration": {
                "Settings": null,
                "Properties": {
                    "linux": {
                        "commands": document.commands,
                        "runAsElevated": document.run_as_elevated,
                    },
                },
                "OutputS3KeyPrefix": "",
                "OutputS3BucketName": "",
                "S3EncryptionEnabled": false,
                "CloudWatchLogGroup": "",
                "CloudWatchEncryptionEnabled": false,
                "CloudWatchStreamingEnabled": false,
                "OrchestrationDirectory": orchestration,
                "MessageId": session,
                "BookKeepingFileName": session,
                "PluginName": plugin,
                "PluginID": plugin,
                "DefaultWorkingDirectory": "",
                "Preconditions": null,
                "IsPreconditionEnabled": false,
                "CurrentAssociations": null,
                "SessionId": session,
                "ClientId": "",
                "KmsKeyId": "",
                "RunAsEnabled": document.run_as_enabled,
                "RunAsUser": document.run_as_user,
                "ShellProfile": { "Windows": "", "Linux": document.shell_profile },
                "SessionOwner": start.owner,
                "UpstreamServiceName": "",
            },
            "Name": plugin,
            "Result": {
                "pluginID": "",
                "pluginName": "",
                "status": "",
                "code": 0,
                "output": null,
                "startDateTime": "0001-01-01T00:00:00Z",
                "endDateTime": "0001-01-01T00:00:00Z",
                "outputS3BucketName": "",
                "outputS3KeyPrefix": "",
                "stepName": "",
                "error": "",
                "standardOutput": "",
                "standardError": "",
            },
            "Id": plugin,
        }],
        "CancelInformation": {
            "CancelMessageID": "",
            "CancelCommandID": "",
            "Payload": "",
            "DebugInfo": "",
        },
        "IOConfig": {
            "OrchestrationDirectory": format!("{DATA}/{instance}/session/orchestration/{session}"),
            "OutputS3BucketName": "",
            "OutputS3KeyPrefix": "",
            "CloudWatchConfig": {
                "LogGroupName": "",
                "LogStreamPrefix": "",
                "LogGroupEncryptionEnabled": false,
            },
        },
        "UpstreamServiceName": "MessageGatewayService",
    })
}
