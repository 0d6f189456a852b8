//! The grantor's secret: what a cluster's owner keeps in Secrets Manager for bastions: the grantor's credential, and the way
//! to the servers that may see it.
//!
//! Owns the document's form. Trusts its author, who is the database's owner and nobody else: control names the secret and can
//! neither write nor read it, so that it has no say in where the password goes. Never serialised, and no error quotes it.
//!
//! ```text
//! {"v": 1, "cluster": "orders-prod", "username": "powerpole_grantor", "password": "…",
//!  "host": "orders-prod.cluster-x.eu-central-1.rds.amazonaws.com", "port": 3306,
//!  "ca_pem": "-----BEGIN CERTIFICATE-----\n…",        absent: the bastion's own roots
//!  "readers": [{"host": "…", "port": 3306}]}          absent: none
//! ```

use crate::id::ClusterId;
use crate::secret::Secret;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The credential of one cluster's grantor and the way to its servers.
#[derive(Debug)]
pub struct GrantorSecret {
    /// The cluster that it is for.
    pub cluster: ClusterId,
    /// The grantor's user name.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The writer.
    pub writer: DatabaseEndpoint,
    /// Certificates to trust in PEM; `None`: the bastion's own roots.
    pub ca_pem: Option<String>,
    /// The cluster's further instances, each by its own address: whoever is connected there is ended there too.
    pub readers: Vec<DatabaseEndpoint>,
}

/// One server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEndpoint {
    /// Host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A grantor's secret that cannot be used. Names fields, and holds no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantorError {
    /// Not one JSON object.
    #[error("the grantor's secret is no JSON object (line {line}, column {column})")]
    Malformed {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// A field that this version does not know.
    #[error("the grantor's secret has a field that is not known: {0}")]
    Unknown(String),
    /// A field that is not there.
    #[error("the grantor's secret has no field {0}")]
    Missing(&'static str),
    /// A field that is there more than once.
    #[error("the grantor's secret has more than one field {0}")]
    Twice(&'static str),
    /// A field of another type or form.
    #[error("the grantor's secret's field {0} has not the form that docs/database.md gives")]
    Form(&'static str),
    /// Another version.
    #[error("the grantor's secret has version {0}; this agent reads version 1")]
    Version(u32),
    /// Another cluster's.
    #[error("the grantor's secret is for cluster {theirs}, the grant for {ours}")]
    OtherCluster {
        /// What the secret names.
        theirs: ClusterId,
        /// What the grant names.
        ours: ClusterId,
    },
}

impl GrantorSecret {
    /// Reads the document and checks that it is this cluster's.
    ///
    /// # Errors
    /// The first field that is unknown, missing, twice there or of another form, another version, or another cluster.
    pub fn parse(text: &Secret, cluster: &ClusterId) -> Result<Self, GrantorError> {
        let mut fault = None;
        let mut json = serde_json::Deserializer::from_str(text.expose());
        let fields = Reader(&mut fault)
            .deserialize(&mut json)
            .and_then(|fields| json.end().map(|()| fields));
        let fields = match (fields, fault) {
            (Ok(fields), _) => fields,
            (Err(_), Some(fault)) => return Err(fault),
            // serde_json quotes values in some of its messages; only the position is passed on.
            (Err(error), None) => {
                return Err(GrantorError::Malformed {
                    line: error.line(),
                    column: error.column(),
                });
            }
        };
        match must(fields.v, "v")? {
            1 => {}
            other => return Err(GrantorError::Version(other)),
        }
        let secret = Self {
            cluster: must(fields.cluster, "cluster")?,
            username: must(fields.username, "username")?,
            password: must(fields.password, "password")?,
            writer: DatabaseEndpoint {
                host: must(fields.host, "host")?,
                port: must(fields.port, "port")?,
            },
            ca_pem: fields.ca_pem,
            readers: fields.readers.unwrap_or_default(),
        };
        secret.check()?;
        if secret.cluster == *cluster {
            Ok(secret)
        } else {
            Err(GrantorError::OtherCluster {
                theirs: secret.cluster,
                ours: cluster.clone(),
            })
        }
    }

    fn check(&self) -> Result<(), GrantorError> {
        let rule = |holds: bool, field| {
            if holds {
                Ok(())
            } else {
                Err(GrantorError::Form(field))
            }
        };
        let pem = self.ca_pem.as_deref();
        rule(!self.username.is_empty(), "username")?;
        rule(!self.password.expose().is_empty(), "password")?;
        rule(is_host(&self.writer.host), "host")?;
        rule(self.writer.port > 0, "port")?;
        rule(
            pem.is_none_or(|pem| pem.contains("-----BEGIN CERTIFICATE-----")),
            "ca_pem",
        )?;
        rule(
            self.readers
                .iter()
                .all(|reader| is_host(&reader.host) && reader.port > 0),
            "readers",
        )
    }
}

/// A host name or an IPv4 address.
fn is_host(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

fn must<T>(field: Option<T>, name: &'static str) -> Result<T, GrantorError> {
    field.ok_or(GrantorError::Missing(name))
}

#[derive(Default)]
struct Fields {
    v: Option<u32>,
    cluster: Option<ClusterId>,
    username: Option<String>,
    password: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    ca_pem: Option<String>,
    readers: Option<Vec<DatabaseEndpoint>>,
}

/// Reads the fields one by one and notes which one was wrong: serde's own messages quote values.
struct Reader<'a>(&'a mut Option<GrantorError>);

impl Reader<'_> {
    fn take<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        slot: &mut Option<T>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return self.refuse(GrantorError::Twice(name));
        }
        match map.next_value() {
            Ok(value) => *slot = Some(value),
            Err(_) => return self.refuse(GrantorError::Form(name)),
        }
        Ok(())
    }

    fn refuse<E: serde::de::Error>(&mut self, fault: GrantorError) -> Result<(), E> {
        *self.0 = Some(fault);
        Err(E::custom("refused"))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Fields;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Fields, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the grantor's secret")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "v" => self.take("v", &mut fields.v, &mut map)?,
                "cluster" => self.take("cluster", &mut fields.cluster, &mut map)?,
                "username" => self.take("username", &mut fields.username, &mut map)?,
                "password" => self.take("password", &mut fields.password, &mut map)?,
                "host" => self.take("host", &mut fields.host, &mut map)?,
                "port" => self.take("port", &mut fields.port, &mut map)?,
                "ca_pem" => self.take("ca_pem", &mut fields.ca_pem, &mut map)?,
                "readers" => self.take("readers", &mut fields.readers, &mut map)?,
                other => {
                    *self.0 = Some(GrantorError::Unknown(shown(other)));
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(fields)
    }
}

/// An unknown field's name as it may be told: a text of another form may be a value in the wrong place.
fn shown(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
    if (1..=24).contains(&name.len()) && name.bytes().all(plain) {
        name.to_owned()
    } else {
        "(not shown)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PASSWORD: &str = "hunter2-of-the-grantor";

    fn document() -> Value {
        json!({
            "v": 1, "cluster": "orders-prod", "username": "powerpole_grantor", "password": PASSWORD,
            "host": "10.77.0.1", "port": 3306,
            "ca_pem": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "readers": [{ "host": "reader.example", "port": 3307 }],
        })
    }

    fn read(text: &str) -> Result<GrantorSecret, GrantorError> {
        GrantorSecret::parse(
            &Secret::new(text.to_owned()),
            &"orders-prod".parse().unwrap(),
        )
    }

    #[test]
    fn the_owners_document_is_read_and_its_password_does_not_print() {
        let secret = read(&document().to_string()).unwrap();
        assert_eq!(secret.password.expose(), PASSWORD);
        assert_eq!(secret.writer.host, "10.77.0.1");
        assert_eq!(secret.readers[0].port, 3307);
        assert!(!format!("{secret:?}").contains(PASSWORD));

        let mut short = document();
        for optional in ["ca_pem", "readers"] {
            short.as_object_mut().unwrap().remove(optional);
        }
        let short = read(&short.to_string()).unwrap();
        assert!(short.ca_pem.is_none() && short.readers.is_empty());
    }

    #[test]
    fn a_secret_of_another_cluster_is_refused() {
        let mut other = document();
        other["cluster"] = "billing-prod".into();
        assert_eq!(
            read(&other.to_string()).unwrap_err(),
            GrantorError::OtherCluster {
                theirs: "billing-prod".parse().unwrap(),
                ours: "orders-prod".parse().unwrap()
            }
        );
    }

    #[test]
    fn every_field_that_must_be_there_is_missed_by_its_name() {
        for name in ["v", "cluster", "username", "password", "host", "port"] {
            let mut lacking = document();
            lacking.as_object_mut().unwrap().remove(name);
            assert_eq!(
                read(&lacking.to_string()).unwrap_err(),
                GrantorError::Missing(name)
            );
        }
    }

    #[test]
    fn a_field_of_another_form_is_named_and_no_value_is_told() {
        for (name, wrong) in [
            ("v", json!(PASSWORD)),
            ("cluster", json!(PASSWORD.to_uppercase())),
            ("username", json!([PASSWORD])),
            ("username", json!("")),
            ("password", json!({ "password": PASSWORD })),
            ("password", json!("")),
            ("host", json!(format!("{PASSWORD}@host"))),
            ("host", json!("")),
            ("port", json!(PASSWORD)),
            ("port", json!(0)),
            ("port", json!(65_536)),
            ("ca_pem", json!(PASSWORD)),
            ("ca_pem", json!(null)),
            ("readers", json!([PASSWORD])),
            (
                "readers",
                json!([{ "host": "a", "port": 1, "user": PASSWORD }]),
            ),
            ("readers", json!([{ "host": "", "port": 1 }])),
        ] {
            let mut bad = document();
            bad[name] = wrong;
            let error = read(&bad.to_string()).unwrap_err();
            assert_eq!(error, GrantorError::Form(name));
            let told = format!("{error} {error:?}").to_lowercase();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn unknown_and_repeated_fields_and_other_versions_are_refused() {
        let with = |more: &str| {
            document()
                .to_string()
                .replacen('{', &format!("{{{more},"), 1)
        };
        assert_eq!(
            read(&with("\"engine\": \"mysql\"")).unwrap_err(),
            GrantorError::Unknown("engine".into())
        );
        let pasted = read(&with(&format!("\"{PASSWORD}\": 1"))).unwrap_err();
        assert!(!pasted.to_string().contains("hunter2"), "{pasted}");
        assert_eq!(
            read(&with("\"host\": \"10.9.9.9\"")).unwrap_err(),
            GrantorError::Twice("host")
        );
        let mut second = document();
        second["v"] = 2.into();
        assert_eq!(
            read(&second.to_string()).unwrap_err(),
            GrantorError::Version(2)
        );
        for text in ["", "[]", PASSWORD, &format!("{} {PASSWORD}", document())] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, GrantorError::Malformed { .. }), "{error:?}");
        }
    }
}
