//! Where evidence lies: what the auditor says of it, and what the ledger says.
//!
//! Whoever can edit the ledger must not choose what is verified. So log group, bucket and the bastions' role id are the
//! auditor's to name, and the ledger gives the instance alone. Where it says otherwise that is a contradiction, which
//! is told and never followed.

use powerpole_protocol::ledger::attribute;

use crate::{error::CheckError, ledger::Item};

/// Where the ledger is.
#[derive(clap::Args)]
pub(crate) struct TableArgs {
    /// Table of the ledger, control's `ledger_table` [env: POWERPOLE_LEDGER_TABLE]
    #[arg(long, value_name = "TABLE")]
    ledger_table: Option<String>,
}

const TABLE: &str = "--ledger-table or POWERPOLE_LEDGER_TABLE";

impl TableArgs {
    fn said(&self) -> Option<String> {
        said(self.ledger_table.as_deref(), "POWERPOLE_LEDGER_TABLE")
    }

    /// The table; without one that is wrong usage.
    pub(crate) fn named(&self) -> Result<String, CheckError> {
        self.said()
            .ok_or_else(|| CheckError::Usage(format!("{TABLE} is needed")))
    }
}

/// Where evidence lies, by the auditor's own knowledge. Needed for what is read from AWS, compared with what a file says.
#[derive(clap::Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// Log group of the evidence, control's `evidence.log_group` [env: POWERPOLE_LOG_GROUP]
    #[arg(long, value_name = "GROUP")]
    log_group: Option<String>,
    /// Bucket of the anchors, control's `evidence.anchor_bucket` [env: POWERPOLE_ANCHOR_BUCKET]
    #[arg(long, value_name = "BUCKET")]
    anchor_bucket: Option<String>,
    /// Unique id of the bastions' role, control's `bastion.role_id` [env: POWERPOLE_ROLE_ID]
    #[arg(long, value_name = "AROA…")]
    role_id: Option<String>,
}

fn said(flag: Option<&str>, variable: &str) -> Option<String> {
    flag.map(str::to_owned)
        .or_else(|| std::env::var(variable).ok())
        .filter(|text| !text.is_empty())
}

/// `<role id>:<instance>/<request>`, the one folder of the bucket that a bastion may write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Folder {
    pub(crate) role_id: String,
    pub(crate) instance: String,
    pub(crate) request: String,
}

impl Folder {
    pub(crate) fn parse(text: &str) -> Option<Folder> {
        let (user, request) = text.strip_suffix('/').unwrap_or(text).split_once('/')?;
        let (role_id, instance) = user.split_once(':')?;
        let whole = !instance.is_empty() && !request.is_empty() && !request.contains('/');
        whole.then(|| Folder {
            role_id: role_id.to_owned(),
            instance: instance.to_owned(),
            request: request.to_owned(),
        })
    }

    /// As a prefix of keys.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:{}/{}/", self.role_id, self.instance, self.request)
    }

    /// The stream that belongs to it.
    pub(crate) fn stream(&self) -> String {
        format!("{}/{}", self.request, self.instance)
    }
}

/// What the auditor said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) table: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) bucket: Option<String>,
    pub(crate) role_id: Option<String>,
    /// The folder, where `--anchors` names one.
    pub(crate) folder: Option<Folder>,
    /// The request.
    pub(crate) request: Option<String>,
}

impl PlaceArgs {
    /// Takes the options, then the environment. `anchors` is that option where it names a bucket.
    pub(crate) fn said(
        &self,
        anchors: Option<&str>,
        request: Option<&str>,
    ) -> Result<Said, CheckError> {
        let mut all = Said {
            table: self.table.said(),
            group: said(self.log_group.as_deref(), "POWERPOLE_LOG_GROUP"),
            bucket: said(self.anchor_bucket.as_deref(), "POWERPOLE_ANCHOR_BUCKET"),
            role_id: said(self.role_id.as_deref(), "POWERPOLE_ROLE_ID"),
            folder: None,
            request: request.map(str::to_owned),
        };
        if let Some(place) = anchors.and_then(|place| place.strip_prefix("s3://")) {
            self.take_bucket(place, &mut all)?;
        }
        if let Some(role_id) = &all.role_id
            && !is_role_id(role_id)
        {
            return Err(CheckError::Usage(format!(
                "{role_id} is not a role's unique id: AROA, then capital letters and digits (RoleId in `aws iam \
                 get-role`)"
            )));
        }
        Ok(all)
    }

    /// `BUCKET` or `BUCKET/FOLDER`.
    fn take_bucket(&self, place: &str, all: &mut Said) -> Result<(), CheckError> {
        let wrong = |text: &str| Err(CheckError::Usage(text.to_owned()));
        let place = place.trim_end_matches('/');
        let (bucket, folder) = place
            .split_once('/')
            .map_or((place, None), |(bucket, folder)| (bucket, Some(folder)));
        if bucket.is_empty() {
            return wrong("--anchors s3:// names no bucket");
        }
        if self.anchor_bucket.as_deref().is_some_and(|b| b != bucket) {
            return wrong("--anchors and --anchor-bucket name two buckets");
        }
        all.bucket = Some(bucket.to_owned());
        if let Some(text) = folder {
            let Some(folder) = Folder::parse(text) else {
                return wrong(
                    "--anchors names no folder of anchors after the bucket: <role id>:<instance>/<request>",
                );
            };
            if *all.role_id.get_or_insert(folder.role_id.clone()) != folder.role_id {
                return wrong("--anchors and --role-id name two roles");
            }
            if all.request.as_ref().is_some_and(|r| *r != folder.request) {
                return wrong("--anchors names the folder of another request");
            }
            all.folder = Some(folder);
        }
        Ok(())
    }
}

fn is_role_id(text: &str) -> bool {
    text.strip_prefix("AROA").is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

/// What is read from AWS, so that the auditor has to say where it lies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    pub(crate) ledger: bool,
    pub(crate) lines: bool,
    pub(crate) anchors: bool,
}

impl Said {
    /// Wrong usage where something is read from AWS and the auditor did not say where it lies: all that is missing.
    pub(crate) fn suffice(&self, read: Read) -> Result<(), CheckError> {
        let evidence = read.lines || read.anchors;
        let missing: Vec<&str> = [
            (read.ledger && self.table.is_none(), TABLE),
            (
                read.ledger && self.request.is_none(),
                "--request REQUEST",
            ),
            (
                evidence && self.role_id.is_none(),
                "--role-id or POWERPOLE_ROLE_ID (unique id AROA… of the bastions' role: bastion.role_id in control's \
                 configuration, RoleId in `aws iam get-role`)",
            ),
            (
                read.lines && self.group.is_none(),
                "--log-group or POWERPOLE_LOG_GROUP (evidence.log_group in control's configuration)",
            ),
            (
                read.anchors && self.bucket.is_none(),
                "--anchor-bucket or POWERPOLE_ANCHOR_BUCKET (evidence.anchor_bucket in control's configuration)",
            ),
        ]
        .into_iter()
        .filter_map(|(missing, what)| missing.then_some(what))
        .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CheckError::Usage(format!(
            "what is read from AWS is read where you say, not where the ledger says: whoever can edit the ledger would \
             choose what is verified. Give {}",
            missing.join(", and ")
        )))
    }

    /// The folder of the request's bastion: the auditor's role id and request, and the ledger's instance.
    pub(crate) fn folder_of(&self, item: &Item) -> Result<Folder, CheckError> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        // Denied, lapsed, or not launched yet: no line and no anchor was ever written.
        let Some(instance) = item.text(attribute::INSTANCE) else {
            return Err(match item.text(attribute::LOG_STREAM) {
                None => CheckError::NoBastion {
                    state: item.need(attribute::STATE)?,
                },
                Some(_) => CheckError::NoAttribute(attribute::INSTANCE),
            });
        };
        let request = match &self.request {
            Some(request) => request.clone(),
            None => item.need(attribute::REQUEST)?,
        };
        let role_id = self.role_id.clone().unwrap_or_default();
        let folder = Folder {
            role_id,
            instance,
            request,
        };
        // A text with a slash or a colon in a wrong place would be another folder than it seems.
        (Folder::parse(&folder.prefix()).as_ref() == Some(&folder))
            .then_some(folder)
            .ok_or_else(|| CheckError::Ledger {
                path: "the ledger item".to_owned(),
                detail: "request and instance name no folder of the bucket".to_owned(),
            })
    }

    /// What the ledger says against the auditor. `folder` is where anchors and lines are read.
    pub(crate) fn against(&self, item: &Item, folder: Option<&Folder>) -> Vec<Contradiction> {
        let mut found = Vec::new();
        let mut compare = |code, name: &str, ours: Option<&str>| {
            let Some(ours) = ours else { return };
            let theirs = match (item.has(name), item.text(name)) {
                (false, _) => return,
                (true, None) => "something that is no text".to_owned(),
                (true, Some(theirs)) if theirs == ours => return,
                (true, Some(theirs)) => theirs,
            };
            found.push(Contradiction {
                code,
                detail: format!("{name} of the ledger is {theirs}, you say {ours}"),
            });
        };
        let request = self.request.as_deref();
        compare("place-request", attribute::REQUEST, request);
        compare(
            "place-bucket",
            attribute::ANCHOR_BUCKET,
            self.bucket.as_deref(),
        );
        compare(
            "place-log-group",
            attribute::LOG_GROUP,
            self.group.as_deref(),
        );
        if let Some(folder) = folder {
            compare(
                "place-instance",
                attribute::INSTANCE,
                Some(&folder.instance),
            );
            compare(
                "place-log-stream",
                attribute::LOG_STREAM,
                Some(&folder.stream()),
            );
        }
        found.extend(self.against_prefix(item, folder));
        found
    }

    fn against_prefix(&self, item: &Item, folder: Option<&Folder>) -> Option<Contradiction> {
        let name = attribute::ANCHOR_PREFIX;
        if !item.has(name) {
            return None;
        }
        let theirs = item.text(name).unwrap_or_default();
        let theirs_is = Folder::parse(&theirs);
        let (code, ours) = match (&self.role_id, folder) {
            (Some(role_id), _) if theirs_is.as_ref().is_none_or(|f| f.role_id != *role_id) => {
                ("place-role-id", format!("the role id {role_id}"))
            }
            (_, Some(folder)) if theirs_is.as_ref() != Some(folder) => {
                ("place-prefix", folder.prefix())
            }
            _ => return None,
        };
        Some(Contradiction {
            code,
            detail: format!("{name} of the ledger is {theirs:?}, you say {ours}"),
        })
    }
}

/// Something that was said of the evidence from outside contradicts where it lies, or what the rolls say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    /// Stable.
    pub(crate) code: &'static str,
    /// For a person.
    pub(crate) detail: String,
}

/// Who alone says a part of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The auditor; what the ledger or a file says is compared with it.
    You,
    /// The ledger item.
    Ledger,
    /// The keys in a file of anchors.
    File,
}

/// Where what was verified came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// `s3://BUCKET` or a file; none without anchors.
    pub(crate) anchors: Option<String>,
    /// The folders that their keys name.
    pub(crate) prefixes: Vec<String>,
    /// A file, or `logs` for CloudWatch Logs.
    pub(crate) lines: String,
    /// bucket, role_id, instance, log_group and log_stream: what each is, and by whom.
    pub(crate) parts: Vec<(&'static str, String, By)>,
}

/// The lines came from CloudWatch Logs.
pub(crate) const LOGS: &str = "logs";

impl Place {
    /// The parts, from the auditor's word, then the folder that was read, then the ledger.
    pub(crate) fn parts_of(
        &mut self,
        said: &Said,
        item: Option<&Item>,
        folders: &[Folder],
        read: Read,
    ) {
        let ledger = |name: &str| item.and_then(|item| item.text(name));
        let folder = match folders {
            [folder] => Some(folder),
            _ => None,
        };
        let instance_by = match (&said.folder, read.anchors || read.lines) {
            (Some(_), _) => By::You,
            (None, true) => By::Ledger,
            (None, false) => By::File,
        };
        let file = |f: &Folder| (f.role_id.clone(), By::File);
        let you = |text: &String| (text.clone(), By::You);
        let by_ledger = |name: &str| ledger(name).map(|text| (text, By::Ledger));
        let parts = [
            (
                "bucket",
                said.bucket
                    .as_ref()
                    .map(you)
                    .or_else(|| by_ledger(attribute::ANCHOR_BUCKET)),
            ),
            (
                "role_id",
                said.role_id.as_ref().map(you).or_else(|| folder.map(file)),
            ),
            (
                "instance",
                folder
                    .map(|f| (f.instance.clone(), instance_by))
                    .or_else(|| by_ledger(attribute::INSTANCE)),
            ),
            (
                "log_group",
                said.group
                    .as_ref()
                    .map(you)
                    .or_else(|| by_ledger(attribute::LOG_GROUP)),
            ),
            (
                "log_stream",
                match folder.filter(|_| read.lines) {
                    Some(folder) => Some((folder.stream(), instance_by)),
                    None => by_ledger(attribute::LOG_STREAM),
                },
            ),
        ];
        self.parts = parts
            .into_iter()
            .filter_map(|(name, part)| part.map(|(text, by)| (name, text, by)))
            .collect();
    }

    /// The part of that name.
    pub(crate) fn part(&self, name: &str) -> Option<&str> {
        self.parts
            .iter()
            .find(|(n, ..)| *n == name)
            .map(|(_, text, _)| text.as_str())
    }

    /// Names of the parts that nobody but this one says.
    pub(crate) fn only(&self, by: By) -> Vec<&'static str> {
        self.parts
            .iter()
            .filter(|(.., b)| *b == by)
            .map(|(name, ..)| *name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: &str = r#"{"request":{"S":"req-1"},"state":{"S":"CLOSED"},"instance":{"S":"i-1"},
        "log_stream":{"S":"req-1/i-1"},"log_group":{"S":"/group"},"anchor_bucket":{"S":"bucket"},
        "anchor_prefix":{"S":"AROA1:i-1/req-1/"}}"#;

    fn item(text: &str) -> Item {
        Item::parse("LEDGER.json", text.as_bytes()).unwrap()
    }

    fn said() -> Said {
        Said {
            table: Some("table".to_owned()),
            group: Some("/group".to_owned()),
            bucket: Some("bucket".to_owned()),
            role_id: Some("AROA1".to_owned()),
            folder: None,
            request: Some("req-1".to_owned()),
        }
    }

    fn codes(said: &Said, text: &str) -> Vec<&'static str> {
        let item = item(text);
        let folder = said.folder_of(&item).unwrap();
        assert!(folder.prefix().starts_with("AROA1:"), "{folder:?}");
        let found = said.against(&item, Some(&folder));
        found
            .iter()
            .map(|contradiction| contradiction.code)
            .collect()
    }

    #[test]
    fn what_the_ledger_says_of_the_place_is_compared_and_never_followed() {
        let said = said();
        assert_eq!(codes(&said, ITEM), Vec::<&str>::new());
        for (from, to, code) in [
            ("/group", "/other", "place-log-group"),
            (r#""S":"bucket""#, r#""S":"mine""#, "place-bucket"),
            (r#""S":"bucket""#, r#""N":"5""#, "place-bucket"),
            ("AROA1:", "AROA2:", "place-role-id"),
            ("AROA1:i-1/req-1/", "everything", "place-role-id"),
            ("AROA1:i-1/req-1", "AROA1:i-2/req-1", "place-prefix"),
            (r#""req-1/i-1""#, r#""req-1/i-2""#, "place-log-stream"),
            (
                r#""request":{"S":"req-1"}"#,
                r#""request":{"S":"req-2"}"#,
                "place-request",
            ),
        ] {
            let changed = ITEM.replacen(from, to, 1);
            assert_ne!(changed, ITEM);
            assert_eq!(codes(&said, &changed), [code], "{changed}");
        }
        // What the ledger does not say cannot be followed either.
        let bare = r#"{"request":{"S":"req-1"},"instance":{"S":"i-1"}}"#;
        assert_eq!(codes(&said, bare), Vec::<&str>::new());
    }

    #[test]
    fn another_instance_in_the_ledger_moves_every_part_of_the_place_with_it() {
        let said = said();
        let rogue = ITEM.replace("i-1", "i-2");
        let folder = said.folder_of(&item(&rogue)).unwrap();
        assert_eq!(folder.prefix(), "AROA1:i-2/req-1/");
        assert_eq!(folder.stream(), "req-1/i-2");
        for instance in ["i-2/x", "", "/"] {
            let torn = ITEM.replacen(
                r#""instance":{"S":"i-1"}"#,
                &format!(r#""instance":{{"S":"{instance}"}}"#),
                1,
            );
            let error = said.folder_of(&item(&torn)).unwrap_err();
            assert_eq!(error.code(), "ledger-form", "{instance}");
        }
    }

    #[test]
    fn files_are_compared_with_what_was_given_alone() {
        let rogue = item(
            &ITEM
                .replace("bucket\"}", "mine\"}")
                .replace("AROA1", "AROA2"),
        );
        assert_eq!(Said::default().against(&rogue, None), []);
        let given = Said {
            role_id: Some("AROA1".to_owned()),
            ..Said::default()
        };
        let found = given.against(&rogue, None);
        assert_eq!(
            found.iter().map(|c| c.code).collect::<Vec<_>>(),
            ["place-role-id"]
        );
    }

    #[test]
    fn all_that_is_missing_is_asked_for_at_once_and_why() {
        let all = Read {
            ledger: true,
            lines: true,
            anchors: true,
        };
        let error = Said::default().suffice(all).unwrap_err();
        assert!(error.is_usage());
        for hint in [
            "POWERPOLE_LEDGER_TABLE",
            "POWERPOLE_ROLE_ID",
            "POWERPOLE_LOG_GROUP",
            "POWERPOLE_ANCHOR_BUCKET",
            "bastion.role_id in control's configuration",
            "whoever can edit the ledger would choose",
        ] {
            assert!(error.to_string().contains(hint), "{error}");
        }
        assert!(said().suffice(all).is_ok());
        assert!(Said::default().suffice(Read::default()).is_ok());
    }

    #[test]
    fn a_request_without_a_bastion_has_no_evidence_and_says_why() {
        let denied = item(r#"{"request":{"S":"req-1"},"state":{"S":"DENIED"}}"#);
        let error = said().folder_of(&denied).unwrap_err();
        assert_eq!(error.code(), "no-bastion");
        assert!(
            error
                .to_string()
                .contains("never had a bastion (it is DENIED)"),
            "{error}"
        );
        let open = item(r#"{"request":{"S":"req-1"},"state":{"S":"REQUESTED"}}"#);
        let error = said().folder_of(&open).unwrap_err();
        assert_eq!(error.code(), "no-bastion");
        assert!(
            error
                .to_string()
                .contains("has no bastion yet (it is REQUESTED)"),
            "{error}"
        );
        let torn = item(r#"{"request":{"S":"req-1"},"log_stream":{"S":"req-1/i-1"}}"#);
        let error = said().folder_of(&torn).unwrap_err();
        assert_eq!(error.code(), "ledger-no-attribute");
    }
}
