//! The three services that hold evidence, and a bastion's folder in one of them. Endpoints come from the usual AWS settings.

pub(crate) mod bucket;
pub(crate) mod folder;
pub(crate) mod logs;
pub(crate) mod rolls;
pub(crate) mod table;

use crate::error::CheckError;

/// Region, credentials and endpoints of the environment.
pub(crate) async fn settings() -> aws_config::SdkConfig {
    aws_config::load_from_env().await
}

fn failed<E>(operation: &'static str) -> impl FnOnce(E) -> CheckError
where
    E: std::error::Error,
{
    move |error| {
        let mut words = vec![error.to_string()];
        let mut source = error.source();
        while let Some(inner) = source {
            let inner_words = inner.to_string();
            // The SDK's last cause is a dump of what the one before has said.
            if !inner_words.starts_with("Error {") {
                words.push(inner_words);
            }
            source = inner.source();
        }
        // On one line: some causes are lists.
        let detail = words.join(": ");
        let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        CheckError::Aws { operation, detail }
    }
}
