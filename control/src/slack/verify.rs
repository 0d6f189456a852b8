//! Slack's signature over a raw body. Nothing that Slack sends is read before this has accepted it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use powerpole_protocol::secret::Secret;
use sha2::Sha256;

/// Header with the signature.
pub const SIGNATURE: &str = "x-slack-signature";
/// Header with the time in seconds since 1970.
pub const TIMESTAMP: &str = "x-slack-request-timestamp";
/// How far a request's time may be from ours, in seconds; Slack's own advice.
pub const WINDOW_S: i64 = 300;

/// Why a request is not Slack's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSlack {
    /// The time is missing, not a number, or too far from ours.
    #[error("the request's time is missing or more than 300 s off")]
    Time,
    /// The signature is missing or does not fit.
    #[error("the request's signature does not fit")]
    Signature,
}

/// Accepts a body only with `v0=` + hex HMAC-SHA256 of `v0:<timestamp>:<body>`, compared in constant time.
///
/// # Errors
/// When the time or the signature is not right.
pub fn verify(
    secret: &Secret,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NotSlack> {
    let at: i64 = timestamp.parse().map_err(|_| NotSlack::Time)?;
    if now.as_second().abs_diff(at) > WINDOW_S.unsigned_abs() {
        return Err(NotSlack::Time);
    }
    let claimed = signature
        .strip_prefix("v0=")
        .and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok())
        .ok_or(NotSlack::Signature)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .map_err(|_| NotSlack::Signature)?;
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac.verify_slice(&claimed).map_err(|_| NotSlack::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Slack's documented example ("Verifying requests from Slack").
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const AT: &str = "1531420618";
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn check(at: &str, signature: &str, body: &str, now: i64) -> Result<(), NotSlack> {
        let secret = Secret::new(SECRET.to_owned());
        verify(
            &secret,
            at,
            signature,
            body.as_bytes(),
            Timestamp::from_second(now).unwrap(),
        )
    }

    #[test]
    fn slacks_own_example_is_accepted_within_its_window_only() {
        for (now, expected) in [
            (1_531_420_618, Ok(())),
            (1_531_420_918, Ok(())),
            (1_531_420_318, Ok(())),
            (1_531_420_919, Err(NotSlack::Time)),
            (1_531_420_317, Err(NotSlack::Time)),
        ] {
            assert_eq!(check(AT, SIGNATURE, BODY, now), expected, "{now}");
        }
    }

    #[test]
    fn a_changed_body_time_or_signature_is_refused() {
        let now = 1_531_420_618;
        assert_eq!(
            check(AT, SIGNATURE, &BODY.replace("roadrunner", "coyote"), now),
            Err(NotSlack::Signature)
        );
        assert_eq!(
            check("1531420619", SIGNATURE, BODY, now),
            Err(NotSlack::Signature)
        );
        for bad in [
            "",
            "v0=",
            "v1=a211",
            &SIGNATURE[..66],
            &SIGNATURE.to_uppercase(),
        ] {
            assert_eq!(check(AT, bad, BODY, now), Err(NotSlack::Signature), "{bad}");
        }
        assert_eq!(check("", SIGNATURE, BODY, now), Err(NotSlack::Time));
        assert_eq!(
            check("-9223372036854775808", SIGNATURE, BODY, now),
            Err(NotSlack::Time)
        );
    }
}
