//! Session documents: what StartSession's document name means.

use super::{
    answer::Refusal,
    upstream::{Upstream, UpstreamError},
};
use crate::ssm::wire::{Document, SessionType};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The document that AWS takes where none is named.
pub(crate) const DEFAULT_DOCUMENT: &str = "SSM-SessionManagerRunShell";

/// Parameters of a StartSession call.
pub(crate) type Parameters = BTreeMap<String, Vec<String>>;

/// Finds a document, AWS' own or one that moto holds, and puts the parameters in.
pub(crate) async fn resolve(
    upstream: &Upstream,
    standard: &[String],
    name: &str,
    parameters: &Parameters,
) -> Result<Result<Document, Refusal>, UpstreamError> {
    let body = json!({ "Name": name });
    let (status, answer) = upstream.json("ssm", "AmazonSSM.GetDocument", &body).await?;
    let held = (status == 200)
        .then(|| answer.get("Content")?.as_str().map(str::to_owned))
        .flatten()
        .and_then(|content| serde_json::from_str::<Value>(&content).ok());
    let content = match held {
        Some(content) => content,
        None => match builtin(name, standard) {
            Some(content) => content,
            None => {
                return Ok(Err(Refusal::new(
                    "InvalidDocument",
                    format!("Document with name {name} does not exist."),
                )));
            }
        },
    };
    Ok(parse(&content, parameters))
}

fn builtin(name: &str, standard: &[String]) -> Option<Value> {
    if name == DEFAULT_DOCUMENT || standard.iter().any(|known| known == name) {
        return Some(json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream"}));
    }
    let port = |properties: Value| json!({"sessionType": "Port", "properties": properties});
    let local = |extra: Option<&str>| {
        let mut properties = json!({
            "portNumber": "{{ portNumber }}",
            "localPortNumber": "{{ localPortNumber }}",
            "type": "LocalPortForwarding",
        });
        if let (Some(host), Value::Object(fields)) = (extra, &mut properties) {
            fields.insert("host".into(), json!(host));
        }
        properties
    };
    Some(match name {
        "AWS-StartSSHSession" => port(json!({"portNumber": "{{ portNumber }}"})),
        "AWS-StartPortForwardingSession" => port(local(None)),
        "AWS-StartPortForwardingSessionToRemoteHost" => port(local(Some("{{ host }}"))),
        "AWS-StartInteractiveCommand" => json!({
            "sessionType": "InteractiveCommands",
            "properties": {"linux": {"commands": "{{ command }}"}},
        }),
        "AWS-StartNoninteractiveCommand" => json!({
            "sessionType": "NonInteractiveCommands",
            "properties": {"linux": {"commands": "{{ command }}"}},
        }),
        _ => return None,
    })
}

fn parse(content: &Value, parameters: &Parameters) -> Result<Document, Refusal> {
    let kind = content
        .get("sessionType")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let session_type = match kind {
        "Standard_Stream" => SessionType::StandardStream,
        "InteractiveCommands" => SessionType::InteractiveCommands,
        "NonInteractiveCommands" => SessionType::NonInteractiveCommands,
        "Port" => SessionType::Port,
        _ => {
            return Err(Refusal::new(
                "InvalidDocument",
                format!("Document is not of type Session: {kind}"),
            ));
        }
    };
    let inputs = content.get("inputs").cloned().unwrap_or_default();
    let properties = content.get("properties").cloned().unwrap_or_default();
    let shell = properties.get("linux").cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .map(|text| fill(text, parameters))
            .unwrap_or_default()
    };
    let flag = |value: &Value, key: &str| {
        value
            .get(key)
            .is_some_and(|value| value == &json!(true) || value == &json!("true"))
    };
    let profile = inputs.get("shellProfile").cloned().unwrap_or_default();
    Ok(Document {
        session_type,
        commands: text(&shell, "commands"),
        run_as_elevated: flag(&shell, "runAsElevated"),
        run_as_enabled: flag(&inputs, "runAsEnabled"),
        run_as_user: text(&inputs, "runAsDefaultUser"),
        shell_profile: text(&profile, "linux"),
        host: text(&properties, "host"),
        port: text(&properties, "portNumber"),
        local_port: text(&properties, "localPortNumber"),
        port_type: text(&properties, "type"),
    })
}

fn fill(template: &str, parameters: &Parameters) -> String {
    let mut text = template.to_owned();
    for (name, values) in parameters {
        let value = values.join(" ");
        text = text.replace(&format!("{{{{ {name} }}}}"), &value);
        text = text.replace(&format!("{{{{{name}}}}}"), &value);
    }
    if text.contains("{{") {
        default_of(&text).to_owned()
    } else {
        text
    }
}

/// What AWS' own documents take for a parameter that was not given.
fn default_of(template: &str) -> &'static str {
    match template {
        "{{ portNumber }}" => "22",
        "{{ localPortNumber }}" => "0",
        "{{ host }}" => "localhost",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interactive_command_takes_its_parameter() {
        let content = builtin("AWS-StartInteractiveCommand", &[]).unwrap();
        let parameters = Parameters::from([("command".into(), vec!["ls /".into()])]);
        let document = parse(&content, &parameters).unwrap();
        assert_eq!(document.session_type, SessionType::InteractiveCommands);
        assert_eq!(document.commands, "ls /");
    }

    #[test]
    fn a_document_that_is_no_session_is_refused() {
        assert!(parse(&json!({"schemaVersion": "2.2"}), &Parameters::new()).is_err());
        assert!(builtin("Anything", &[]).is_none());
        assert!(builtin("Anything", &["Anything".into()]).is_some());
    }
}
