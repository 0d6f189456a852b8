//! Record 0: who may do what, where, for whom, and the first public key.
//!
//! The payload is a TLV of 22 fields in this order: request, attempt u32, operator, principal,
//! approver, approved_at, reason, cluster, level, schemas (each u16 length ‖ name), account,
//! aws_account, region, instance, image, boot, agent, log_group, log_stream, started_us u64,
//! first public key 32, epoch policy (records u32 ‖ bytes u32 ‖ active_us u64 ‖ idle_us u64).

use crate::{cursor::Cursor, tlv};

/// The most that one text field of the genesis may hold, in bytes.
pub const MAX_TEXT: usize = 4096;

/// How long an epoch may last. The sealer only says when a checkpoint is due; the recorder makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochPolicy {
    /// Records in an epoch before a checkpoint is due.
    pub records: u32,
    /// Payload bytes in an epoch before a checkpoint is due.
    pub bytes: u32,
    /// Age in microseconds of an epoch's first record at which a checkpoint is due.
    pub active_us: u64,
    /// Microseconds without any checkpoint, even when nothing happened.
    pub idle_us: u64,
}

impl Default for EpochPolicy {
    /// 4,096 records, 4 MiB, 1 s of activity, 30 s of silence.
    fn default() -> EpochPolicy {
        EpochPolicy {
            records: 4096,
            bytes: 4 << 20,
            active_us: 1_000_000,
            idle_us: 30_000_000,
        }
    }
}

/// Everything that the chain is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Request id, `req-…`. Characters `[A-Za-z0-9._:/@-]`, as in `instance` and `log_stream`.
    pub request: String,
    /// Launch attempt, from 1.
    pub attempt: u32,
    /// The operator's email address.
    pub operator: String,
    /// The operator's AWS principal.
    pub principal: String,
    /// The approver's email address.
    pub approver: String,
    /// When it was approved, RFC 3339.
    pub approved_at: String,
    /// Why the operator asked.
    pub reason: String,
    /// RDS identifier of the cluster.
    pub cluster: String,
    /// `READ`, `WRITE` or `ADMIN`.
    pub level: String,
    /// Schemas that the account reaches.
    pub schemas: Vec<String>,
    /// The MySQL account, `'user'@'host'`.
    pub account: String,
    /// AWS account id.
    pub aws_account: String,
    /// AWS region.
    pub region: String,
    /// EC2 instance id.
    pub instance: String,
    /// Image id.
    pub image: String,
    /// The kernel's boot id.
    pub boot: String,
    /// The agent's version and build.
    pub agent: String,
    /// CloudWatch log group.
    pub log_group: String,
    /// CloudWatch log stream, `<request>/<instance>`.
    pub log_stream: String,
    /// Start of the chain, microseconds since 1970 UTC.
    pub started_us: u64,
    /// When checkpoints are due.
    pub policy: EpochPolicy,
}

/// A genesis together with the public key of epoch 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedGenesis {
    /// What the chain is bound to.
    pub genesis: Genesis,
    /// Public key of epoch 0.
    pub first_key: [u8; 32],
}

/// Why a genesis cannot be written or read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A field is longer than the format allows.
    #[error("genesis field {0} is longer than {MAX_TEXT} bytes")]
    TooLong(&'static str),
    /// A field that stands in an anchor has a character that an anchor cannot spell.
    #[error("genesis field {0} is empty or has a character outside [A-Za-z0-9._:/@-]")]
    Characters(&'static str),
    /// The bytes are not a genesis.
    #[error("genesis bytes do not follow the format")]
    Malformed,
}

impl GenesisError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            GenesisError::TooLong(_) => "genesis-too-long",
            GenesisError::Characters(_) => "genesis-characters",
            GenesisError::Malformed => "genesis-malformed",
        }
    }
}

/// True for the texts that anchors spell without escapes.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 512
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:/@-".contains(&b))
}

impl SignedGenesis {
    /// The TLV bytes that record 0 carries.
    pub fn encode(&self) -> Result<Vec<u8>, GenesisError> {
        let g = &self.genesis;
        for (name, text) in [
            ("request", &g.request),
            ("instance", &g.instance),
            ("log_stream", &g.log_stream),
        ] {
            if !is_plain(text) {
                return Err(GenesisError::Characters(name));
            }
        }
        let mut schemas = Vec::new();
        for schema in &g.schemas {
            let len = u16::try_from(schema.len()).map_err(|_| GenesisError::TooLong("schemas"))?;
            schemas.extend_from_slice(&len.to_be_bytes());
            schemas.extend_from_slice(schema.as_bytes());
        }
        let mut policy = Vec::new();
        policy.extend_from_slice(&g.policy.records.to_be_bytes());
        policy.extend_from_slice(&g.policy.bytes.to_be_bytes());
        policy.extend_from_slice(&g.policy.active_us.to_be_bytes());
        policy.extend_from_slice(&g.policy.idle_us.to_be_bytes());
        let attempt = g.attempt.to_be_bytes();
        let started = g.started_us.to_be_bytes();
        let fields: [(&'static str, &[u8]); 22] = [
            ("request", g.request.as_bytes()),
            ("attempt", &attempt),
            ("operator", g.operator.as_bytes()),
            ("principal", g.principal.as_bytes()),
            ("approver", g.approver.as_bytes()),
            ("approved_at", g.approved_at.as_bytes()),
            ("reason", g.reason.as_bytes()),
            ("cluster", g.cluster.as_bytes()),
            ("level", g.level.as_bytes()),
            ("schemas", &schemas),
            ("account", g.account.as_bytes()),
            ("aws_account", g.aws_account.as_bytes()),
            ("region", g.region.as_bytes()),
            ("instance", g.instance.as_bytes()),
            ("image", g.image.as_bytes()),
            ("boot", g.boot.as_bytes()),
            ("agent", g.agent.as_bytes()),
            ("log_group", g.log_group.as_bytes()),
            ("log_stream", g.log_stream.as_bytes()),
            ("started_us", &started),
            ("first_key", &self.first_key),
            ("policy", &policy),
        ];
        let mut writer = tlv::Writer::new();
        for (name, value) in fields {
            let limit = if name == "schemas" {
                3 * MAX_TEXT
            } else {
                MAX_TEXT
            };
            if value.len() > limit {
                return Err(GenesisError::TooLong(name));
            }
            writer.field(value);
        }
        let bytes = writer.finish().ok_or(GenesisError::Malformed)?;
        if bytes.len() > crate::line::MAX_PAYLOAD {
            return Err(GenesisError::TooLong("all"));
        }
        Ok(bytes)
    }

    /// Reads what [`SignedGenesis::encode`] wrote and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<SignedGenesis, GenesisError> {
        let decoded = decode_fields(bytes).ok_or(GenesisError::Malformed)?;
        if decoded.encode().as_deref() != Ok(bytes) {
            return Err(GenesisError::Malformed);
        }
        Ok(decoded)
    }
}

fn decode_fields(bytes: &[u8]) -> Option<SignedGenesis> {
    let mut r = tlv::Reader::new(bytes);
    let request = r.text()?;
    let attempt = u32::from_be_bytes(r.array()?);
    let operator = r.text()?;
    let principal = r.text()?;
    let approver = r.text()?;
    let approved_at = r.text()?;
    let reason = r.text()?;
    let cluster = r.text()?;
    let level = r.text()?;
    let mut list = Cursor(r.field()?);
    let mut schemas = Vec::new();
    while !list.is_empty() {
        let len = list.u16()?;
        schemas.push(
            std::str::from_utf8(list.take(usize::from(len))?)
                .ok()?
                .to_owned(),
        );
    }
    let genesis = Genesis {
        request,
        attempt,
        operator,
        principal,
        approver,
        approved_at,
        reason,
        cluster,
        level,
        schemas,
        account: r.text()?,
        aws_account: r.text()?,
        region: r.text()?,
        instance: r.text()?,
        image: r.text()?,
        boot: r.text()?,
        agent: r.text()?,
        log_group: r.text()?,
        log_stream: r.text()?,
        started_us: u64::from_be_bytes(r.array()?),
        policy: EpochPolicy::default(),
    };
    let first_key = r.array()?;
    let mut policy = Cursor(r.field()?);
    let genesis = Genesis {
        policy: EpochPolicy {
            records: policy.u32()?,
            bytes: policy.u32()?,
            active_us: policy.u64()?,
            idle_us: policy.u64()?,
        },
        ..genesis
    };
    policy.is_empty().then_some(())?;
    r.end()?;
    Some(SignedGenesis { genesis, first_key })
}
