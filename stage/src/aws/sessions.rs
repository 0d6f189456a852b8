//! The calls of Systems Manager about instances and sessions, answered from what the gateway knows.

use super::{
    answer::Refusal,
    call::Call,
    documents::{DEFAULT_DOCUMENT, Parameters, resolve},
    people,
    upstream::{Upstream, UpstreamError},
};
use crate::ssm::gateway::{Gateway, Request, Session, Standing};
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};

const MAX_REASON_CHARACTERS: usize = 256;

/// Answers SSM's session calls.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) gateway: Gateway,
    /// `host:port` of the gateway as StreamUrl names it.
    pub(crate) gateway_address: String,
    /// Names that are Standard_Stream documents though moto holds none.
    pub(crate) standard_documents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartSession {
    target: String,
    document_name: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

impl Sessions {
    /// Whether an SSM operation is answered here and not by moto.
    pub(crate) fn answers(operation: &str) -> bool {
        matches!(
            operation,
            "DescribeInstanceInformation"
                | "GetConnectionStatus"
                | "StartSession"
                | "TerminateSession"
                | "DescribeSessions"
        )
    }

    /// Answers one call.
    pub(crate) async fn answer(
        &self,
        upstream: &Upstream,
        call: &Call,
        body: &[u8],
    ) -> Result<Result<Value, Refusal>, UpstreamError> {
        let input: Value = match serde_json::from_slice(body) {
            Ok(input) => input,
            Err(error) => return Ok(Err(validation(error.to_string()))),
        };
        Ok(match call.operation.as_str() {
            "DescribeInstanceInformation" => Ok(self.instances(&input)),
            "GetConnectionStatus" => {
                let target = text(&input, "Target");
                let status = if self.gateway.is_connected(target) {
                    "connected"
                } else {
                    "notconnected"
                };
                Ok(json!({ "Target": target, "Status": status }))
            }
            "TerminateSession" => {
                let id = text(&input, "SessionId");
                self.gateway.terminate(id).await;
                Ok(json!({ "SessionId": id }))
            }
            "DescribeSessions" => Ok(self.sessions(&input)),
            _ => return self.start(upstream, call, input).await,
        })
    }

    fn instances(&self, input: &Value) -> Value {
        let wanted = instance_filter(input);
        let list: Vec<Value> = self
            .gateway
            .agents()
            .into_iter()
            .filter(|agent| {
                wanted
                    .as_ref()
                    .is_none_or(|ids| ids.contains(&agent.instance))
            })
            .map(|agent| {
                json!({
                    "InstanceId": agent.instance,
                    "PingStatus": "Online",
                    "LastPingDateTime": agent.last_ping.as_millisecond() as f64 / 1000.0,
                    "AgentVersion": agent.version,
                    "IsLatestVersion": true,
                    "PlatformType": "Linux",
                    "ResourceType": "EC2Instance",
                    "IPAddress": agent.address.to_string(),
                    "ComputerName": agent.host,
                })
            })
            .collect();
        json!({ "InstanceInformationList": list })
    }

    fn sessions(&self, input: &Value) -> Value {
        let active = text(input, "State") == "Active";
        let list: Vec<Value> = self
            .gateway
            .sessions()
            .iter()
            .filter(|session| active == session.ended.is_none())
            .filter(|session| session_filter(input, session))
            .map(describe)
            .collect();
        json!({ "Sessions": list })
    }

    async fn start(
        &self,
        upstream: &Upstream,
        call: &Call,
        input: Value,
    ) -> Result<Result<Value, Refusal>, UpstreamError> {
        let input: StartSession = match serde_json::from_value(input) {
            Ok(input) => input,
            Err(error) => return Ok(Err(validation(error.to_string()))),
        };
        let reason = input.reason.unwrap_or_default();
        if reason.chars().count() > MAX_REASON_CHARACTERS {
            return Ok(Err(validation(
                "Value at 'reason' failed to satisfy constraint: Member must have length less than or equal to 256",
            )));
        }
        let document_name = input
            .document_name
            .unwrap_or_else(|| DEFAULT_DOCUMENT.to_owned());
        let document = match resolve(
            upstream,
            &self.standard_documents,
            &document_name,
            &input.parameters,
        )
        .await?
        {
            Ok(document) => document,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let caller = call.access_key.as_deref().and_then(people::principal);
        let (owner, name) = match caller {
            Some(caller) => (caller.arn, caller.session_name),
            None => (
                format!("arn:aws:iam::{}:root", people::ACCOUNT),
                "root".to_owned(),
            ),
        };
        let plugin_token = random_hex(4);
        let id = format!("{name}-0{}", random_hex(1));
        let request = Request {
            id: id.clone(),
            instance: input.target.clone(),
            owner,
            document_name,
            document,
            reason,
            worker_token: random_hex(4),
            plugin_token: plugin_token.clone(),
        };
        if let Err(error) = self.gateway.start(request).await {
            return Ok(Err(Refusal::new("TargetNotConnected", error.to_string())));
        }
        Ok(Ok(json!({
            "SessionId": id,
            "TokenValue": plugin_token,
            "StreamUrl": format!("tcp://{}/v1/data-channel/{id}", self.gateway_address),
        })))
    }
}

fn describe(session: &Session) -> Value {
    let status = match session.standing {
        Standing::Connecting => "Connecting",
        Standing::Connected => "Connected",
        Standing::Terminated => "Terminated",
        Standing::Failed => "Failed",
    };
    let mut value = json!({
        "SessionId": session.id,
        "Target": session.instance,
        "Status": status,
        "StartDate": session.started.as_millisecond() as f64 / 1000.0,
        "DocumentName": session.document_name,
        "Owner": session.owner,
        "Reason": session.reason,
    });
    if let (Some(ended), Value::Object(fields)) = (session.ended, &mut value) {
        fields.insert(
            "EndDate".into(),
            json!(ended.as_millisecond() as f64 / 1000.0),
        );
    }
    value
}

fn session_filter(input: &Value, session: &Session) -> bool {
    let filters = input.get("Filters").and_then(Value::as_array);
    filters.into_iter().flatten().all(|filter| {
        let value = text(filter, "value");
        match text(filter, "key") {
            "Target" => value == session.instance,
            "Owner" => value == session.owner,
            "SessionId" => value == session.id,
            _ => true,
        }
    })
}

/// The ids that a DescribeInstanceInformation asks for; absent where it asks for all.
fn instance_filter(input: &Value) -> Option<Vec<String>> {
    let lists = [
        ("Filters", "Key", "Values"),
        ("InstanceInformationFilterList", "key", "valueSet"),
    ];
    lists.iter().find_map(|(list, key, values)| {
        let filters = input.get(*list)?.as_array()?;
        let filter = filters
            .iter()
            .find(|filter| text(filter, key) == "InstanceIds")?;
        let values = filter.get(*values)?.as_array()?;
        Some(
            values
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
        )
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn validation(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationException", message)
}

/// 16 hexadecimal digits for each word.
fn random_hex(words: usize) -> String {
    let mut random = rand::rng();
    (0..words)
        .map(|_| format!("{:016x}", random.random::<u64>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_instance_filter_are_understood() {
        for input in [
            json!({"Filters": [{"Key": "InstanceIds", "Values": ["i-1"]}]}),
            json!({"InstanceInformationFilterList": [{"key": "InstanceIds", "valueSet": ["i-1"]}]}),
        ] {
            assert_eq!(instance_filter(&input), Some(vec!["i-1".to_owned()]));
        }
        assert_eq!(instance_filter(&json!({})), None);
    }

    #[test]
    fn a_random_word_has_sixteen_digits() {
        assert_eq!(random_hex(1).len(), 16);
        assert_ne!(random_hex(4), random_hex(4));
    }
}
