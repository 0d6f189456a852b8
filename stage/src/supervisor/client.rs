//! What people of the stage have on their own machines: the AWS CLI, its plugin, and a profile each.

use super::files::StageFiles;
use super::layout::{ANCHOR_BUCKET, LEDGER_TABLE, LOG_GROUP, REGION};
use std::net::SocketAddr;

/// Somebody of the stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person {
    /// First name; also the AWS profile.
    pub(crate) name: &'static str,
    /// Slack user id.
    pub(crate) slack: &'static str,
}

/// The stage's people. Alice and Bob may ask, Bob, Carol and Dave may approve, Mallory may nothing.
pub(crate) const PEOPLE: [Person; 5] = [
    Person {
        name: "alice",
        slack: "U0ALICE0001",
    },
    Person {
        name: "bob",
        slack: "U0BOB000001",
    },
    Person {
        name: "carol",
        slack: "U0CAROL0001",
    },
    Person {
        name: "dave",
        slack: "U0DAVE00001",
    },
    Person {
        name: "mallory",
        slack: "U0MALLORY01",
    },
];

/// Who verifies; no operator and no approver.
pub(crate) const AUDITOR: &str = "auditor";

/// The environment of a person's shell, and of an auditor's.
pub(crate) fn environment(
    files: &StageFiles,
    aws: SocketAddr,
    gateway: SocketAddr,
    role_id: &str,
    person: &str,
) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let client = files.dir.join("client");
    let pairs = [
        (
            "PATH",
            format!(
                "{}:{}:{}:{path}",
                client.join("bin").display(),
                files.dir.join("bin").display(),
                files.clone.join(".stage/bin").display()
            ),
        ),
        (
            "AWS_CONFIG_FILE",
            client.join("config").display().to_string(),
        ),
        (
            "AWS_SHARED_CREDENTIALS_FILE",
            client.join("credentials").display().to_string(),
        ),
        ("AWS_PROFILE", person.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{aws}")),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("POWERPOLE_STAGE_SSM_GATEWAY_HOST", gateway.to_string()),
        ("POWERPOLE_LEDGER_TABLE", LEDGER_TABLE.to_owned()),
        ("POWERPOLE_LOG_GROUP", LOG_GROUP.to_owned()),
        ("POWERPOLE_ANCHOR_BUCKET", ANCHOR_BUCKET.to_owned()),
        ("POWERPOLE_ROLE_ID", role_id.to_owned()),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The same as a file to source. An interactive shell says in its prompt, too, who one is now.
pub(crate) fn env_file(environment: &[(String, String)], person: &str, stage: &str) -> String {
    let quote = |value: &str| format!("'{}'", value.replace('\'', r"'\''"));
    let mut text: String = environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quote(value)))
        .collect();
    text.push_str(&format!(
        "if [ -n \"${{PS1-}}\" ]; then\n\
         \x20 : \"${{POWERPOLE_PS1=$PS1}}\"\n\
         \x20 PS1=\"({person}) $POWERPOLE_PS1\"\n\
         \x20 echo \"This shell is {person}'s now, on the stage {stage}: aws and powerpole speak to it.\" >&2\n\
         fi\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sourced_environment_names_the_person_in_the_prompt_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = |person: &str| {
            let path = dir.path().join(person);
            let pairs = [("AWS_PROFILE".to_owned(), "it's".to_owned())];
            std::fs::write(&path, env_file(&pairs, person, "demo")).unwrap();
            path.display().to_string()
        };
        let script = format!(
            "set -eu; PS1='$ '; . {}; . {}; echo \"$AWS_PROFILE|$PS1\"; unset PS1; . {}",
            file("alice"),
            file("auditor"),
            file("bob")
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "it's|(auditor) $ \n"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
