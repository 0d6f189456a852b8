//! Imported key material for KMS's HMAC keys, which moto lacks: GetParametersForImport, ImportKeyMaterial, and
//! GenerateMac under what was imported. Keys that moto made itself are moto's.
//!
//! Material lives in this process's memory: after a restart of the endpoint it is imported again, as after a deletion of
//! imported material on AWS.

use super::{
    answer::Refusal,
    clock,
    upstream::{Upstream, UpstreamError},
};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Seconds that a wrapping key may be used: AWS gives 24 hours.
const IMPORT_WITHIN_S: i64 = 24 * 3600;
/// Longest message of GenerateMac, in bytes.
const MESSAGE_LIMIT: usize = 4096;
/// Bytes of an HMAC_256 key.
const MATERIAL_LEN: usize = 32;

/// What was offered to import under, and what was imported, by key id.
#[derive(Default)]
pub(crate) struct Kms {
    offers: Mutex<HashMap<String, Offer>>,
    material: Mutex<HashMap<String, [u8; MATERIAL_LEN]>>,
}

struct Offer {
    token: String,
    key: PrivateDecryptingKey,
    until: i64,
}

/// A key of HMAC_256 whose material comes from outside.
struct External {
    id: String,
    arn: String,
}

impl Kms {
    /// Answers a call that is about imported material; `None` leaves it to moto.
    pub(crate) async fn answer(
        &self,
        upstream: &Upstream,
        operation: &str,
        body: &[u8],
    ) -> Result<Option<Result<Value, Refusal>>, UpstreamError> {
        if !matches!(
            operation,
            "GetParametersForImport" | "ImportKeyMaterial" | "GenerateMac"
        ) {
            return Ok(None);
        }
        let input: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(key) = external(upstream, &input).await? else {
            let importing = operation != "GenerateMac";
            return Ok(importing.then(|| {
                Err(Refusal::new(
                    "UnsupportedOperationException",
                    "the key's origin is not EXTERNAL, or its spec not HMAC_256",
                ))
            }));
        };
        Ok(Some(match operation {
            "GetParametersForImport" => self.offer(&key, &input),
            "ImportKeyMaterial" => self.import(&key, &input),
            _ => self.mac(&key, &input),
        }))
    }

    fn offer(&self, key: &External, input: &Value) -> Result<Value, Refusal> {
        if text(input, "WrappingAlgorithm") != "RSAES_OAEP_SHA_256" {
            return Err(Refusal::new(
                "ValidationException",
                "the stage wraps with RSAES_OAEP_SHA_256 only",
            ));
        }
        let size = match text(input, "WrappingKeySpec") {
            "RSA_2048" => KeySize::Rsa2048,
            "RSA_3072" => KeySize::Rsa3072,
            "RSA_4096" => KeySize::Rsa4096,
            other => {
                return Err(Refusal::new(
                    "ValidationException",
                    format!("no wrapping key of spec {other:?}"),
                ));
            }
        };
        let wrapping = PrivateDecryptingKey::generate(size).map_err(|_| internal())?;
        let public: PublicKeyX509Der<'_> =
            wrapping.public_key().as_der().map_err(|_| internal())?;
        let mut token = [0; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut token)
            .map_err(|_| internal())?;
        let token = STANDARD.encode(token);
        let until = clock::now().as_second() + IMPORT_WITHIN_S;
        let answer = json!({
            "KeyId": key.arn,
            "ImportToken": token,
            "PublicKey": STANDARD.encode(public.as_ref()),
            "ParametersValidTo": until,
        });
        let offer = Offer {
            token,
            key: wrapping,
            until,
        };
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.insert(key.id.clone(), offer);
        Ok(answer)
    }

    fn import(&self, key: &External, input: &Value) -> Result<Value, Refusal> {
        if text(input, "ExpirationModel") != "KEY_MATERIAL_DOES_NOT_EXPIRE" {
            return Err(Refusal::new(
                "ValidationException",
                "the stage keeps only material that does not expire",
            ));
        }
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let offer = offers
            .get(&key.id)
            .filter(|offer| offer.token == text(input, "ImportToken"))
            .ok_or_else(|| Refusal::new("InvalidImportTokenException", "not this key's token"))?;
        if offer.until <= clock::now().as_second() {
            return Err(Refusal::new("ExpiredImportTokenException", "too late"));
        }
        let wrapped = STANDARD
            .decode(text(input, "EncryptedKeyMaterial"))
            .map_err(|_| Refusal::new("ValidationException", "not base64"))?;
        let material = unwrap(&offer.key, &wrapped)
            .ok_or_else(|| Refusal::new("InvalidCiphertextException", "it does not open"))?;
        let material: [u8; MATERIAL_LEN] = material.as_slice().try_into().map_err(|_| {
            Refusal::new("IncorrectKeyMaterialException", "HMAC_256 takes 32 bytes")
        })?;
        let mut kept = self.material.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.get(&key.id).is_some_and(|old| *old != material) {
            return Err(Refusal::new(
                "IncorrectKeyMaterialException",
                "the key had other material before",
            ));
        }
        kept.insert(key.id.clone(), material);
        Ok(json!({ "KeyId": key.arn }))
    }

    fn mac(&self, key: &External, input: &Value) -> Result<Value, Refusal> {
        if text(input, "MacAlgorithm") != "HMAC_SHA_256" {
            return Err(Refusal::new(
                "InvalidKeyUsageException",
                "an HMAC_256 key makes HMAC_SHA_256",
            ));
        }
        let message = STANDARD
            .decode(text(input, "Message"))
            .ok()
            .filter(|message| (1..=MESSAGE_LIMIT).contains(&message.len()))
            .ok_or_else(|| {
                Refusal::new("ValidationException", "Message must have 1 to 4096 bytes")
            })?;
        let kept = self.material.lock().unwrap_or_else(PoisonError::into_inner);
        let material = kept
            .get(&key.id)
            .ok_or_else(|| Refusal::new("KMSInvalidStateException", "the key is pending import"))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(material).map_err(|_| internal())?;
        mac.update(&message);
        Ok(json!({
            "KeyId": key.arn,
            "MacAlgorithm": "HMAC_SHA_256",
            "Mac": STANDARD.encode(mac.finalize().into_bytes()),
        }))
    }
}

/// The key as moto knows it, where it is one of those that are kept here.
async fn external(upstream: &Upstream, input: &Value) -> Result<Option<External>, UpstreamError> {
    let ask = json!({ "KeyId": input.get("KeyId") });
    let (status, answer) = upstream
        .json("kms", "TrentService.DescribeKey", &ask)
        .await?;
    let Some(key) = answer.get("KeyMetadata").filter(|_| status == 200) else {
        return Ok(None);
    };
    let ours = text(key, "Origin") == "EXTERNAL" && text(key, "KeySpec") == "HMAC_256";
    Ok(ours.then(|| External {
        id: text(key, "KeyId").to_owned(),
        arn: text(key, "Arn").to_owned(),
    }))
}

fn unwrap(key: &PrivateDecryptingKey, wrapped: &[u8]) -> Option<Vec<u8>> {
    let key = OaepPrivateDecryptingKey::new(key.clone()).ok()?;
    let mut buffer = vec![0; key.min_output_size()];
    let opened = key
        .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, None)
        .ok()?;
    Some(opened.to_vec())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn internal() -> Refusal {
    Refusal::new("KMSInternalException", "the stage's KMS could not").with_status(500)
}
