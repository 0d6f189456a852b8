//! A message's bytes with a secret in them: spliced in at the last moment, into one buffer that is wiped.

use super::view::SECRET_MARK;
use powerpole_protocol::secret::Secret;
use serde_json::Value;
use zeroize::Zeroizing;

/// The body's JSON, with the secret where the mark stands; the only copy outside of [`Secret`], and wiped.
pub(super) fn spell(body: &Value, secret: Option<&Secret>) -> Zeroizing<Vec<u8>> {
    let text = body.to_string();
    let mark = format!("\\u{:04x}", u32::from(SECRET_MARK));
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 256));
    let mut rest = text.as_str();
    // Escapes are read one by one: the mark's letters after an escaped backslash are somebody's text.
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.extend_from_slice(before.as_bytes());
        if let Some(after) = escape.strip_prefix(mark.as_str()) {
            splice(&mut out, secret.map_or("", Secret::expose));
            rest = after;
        } else {
            let (pair, after) = escape.split_at_checked(2).unwrap_or((escape, ""));
            out.extend_from_slice(pair.as_bytes());
            rest = after;
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Spells a secret as mrkdwn inside a JSON string.
fn splice(out: &mut Vec<u8>, secret: &str) {
    for c in secret.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c if c.is_control() => {}
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_secret_stands_where_the_mark_was_and_reads_back_as_it_was() {
        let body = json!({"text": format!("a{SECRET_MARK}b"), "other": "\\u0001"});
        let secret = Secret::new("p\"w\\<&>".to_owned());
        let spelt = spell(&body, Some(&secret));
        let read: Value = serde_json::from_slice(&spelt).unwrap();
        assert_eq!(read["text"], "ap\"w\\&lt;&amp;&gt;b");
        let without: Value = serde_json::from_slice(&spell(&body, None)).unwrap();
        assert_eq!(without["text"], "ab");
        assert_eq!(read["other"], "\\u0001");
    }
}
