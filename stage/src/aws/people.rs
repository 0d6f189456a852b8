//! Who a caller is: the stage's people and its bastions, known by the form of their access key.
//!
//! A key of a person is `AKIASTAGE` + name in upper case, padded with `0` to 20 characters. Nothing
//! is proven by it: any secret is taken, as moto does.

/// The stage's account.
pub(crate) const ACCOUNT: &str = "123456789012";

const PERSON_PREFIX: &str = "AKIASTAGE";
const KEY_LENGTH: usize = 20;
const BASTION_PREFIX: &str = "ASIASTAGE";

/// A caller as STS would name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// `arn:aws:sts::<account>:assumed-role/<role>/<session name>`.
    pub(crate) arn: String,
    /// `AROA…:<session name>`.
    pub(crate) user_id: String,
    /// The last part of both.
    pub(crate) session_name: String,
}

/// The access key id of a person's name.
pub(crate) fn access_key(name: &str) -> String {
    let mut key = format!("{PERSON_PREFIX}{}", name.to_ascii_uppercase());
    while key.len() < KEY_LENGTH {
        key.push('0');
    }
    key
}

/// The caller behind an access key, where it is one of the stage's own.
///
/// `ASIASTAGE` + an instance id's hexadecimal digits in upper case is that instance with the
/// bastion's role; other keys (such as those that moto's AssumeRole gave) are moto's to name.
pub(crate) fn principal(access_key: &str) -> Option<Principal> {
    if let Some(name) = access_key.strip_prefix(PERSON_PREFIX) {
        let name = name.trim_end_matches('0').to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        return Some(assumed(
            "PowerPoleOperator",
            "AROASTAGEOPERATOR0000",
            format!("{name}@example.com"),
        ));
    }
    let digits = access_key.strip_prefix(BASTION_PREFIX)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let instance = format!("i-{}", digits.to_ascii_lowercase());
    Some(assumed(
        "PowerPoleBastion",
        "AROASTAGEBASTION00000",
        instance,
    ))
}

fn assumed(role: &str, role_id: &str, session_name: String) -> Principal {
    Principal {
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session_name}"),
        user_id: format!("{role_id}:{session_name}"),
        session_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_key_leads_back_to_their_email() {
        assert_eq!(access_key("alice"), "AKIASTAGEALICE000000");
        let alice = principal(&access_key("alice")).unwrap();
        assert_eq!(
            alice.arn,
            "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com"
        );
    }

    #[test]
    fn a_bastions_key_leads_back_to_its_instance() {
        let bastion = principal("ASIASTAGE0123456789ABCDEF0").unwrap();
        assert_eq!(bastion.user_id, "AROASTAGEBASTION00000:i-0123456789abcdef0");
        assert_eq!(principal("ASIARZPUZDIKNQQCINH7"), None);
    }
}
