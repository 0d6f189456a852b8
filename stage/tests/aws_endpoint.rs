//! What the endpoint adds to moto, asked for by the real AWS CLI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::process::Stdio;
use support::{Stage, eventually, text};

/// One of moto's 1,300; listing them takes it seconds.
const IMAGE: &str = "ami-03cf127a";

fn launch(token: &str) -> String {
    format!("ec2 run-instances --image-id {IMAGE} --count 1 --client-token {token}")
}

fn instance(answer: &Value) -> String {
    answer["Instances"][0]["InstanceId"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn count(stage: &Stage) -> usize {
    let all = stage.answer("ec2 describe-instances --query Reservations[].Instances[].InstanceId");
    all.as_array().unwrap().len()
}

#[test]
fn one_client_token_launches_once_whatever_happens_to_the_answer() {
    let Some(mut stage) = Stage::up(true) else {
        return;
    };
    let together: Vec<_> = (0..2)
        .map(|_| {
            stage
                .shell("alice", &format!("aws {}", launch("req-a-1")))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let launched: Vec<String> = together
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            instance(&serde_json::from_slice(&output.stdout).unwrap())
        })
        .collect();
    assert_eq!(launched[0], launched[1]);

    stage.restart();
    assert_eq!(instance(&stage.answer(&launch("req-a-1"))), launched[0]);
    let other = format!("{} --instance-type t3.nano", launch("req-a-1"));
    assert_eq!(stage.refusal(&other), "IdempotentParameterMismatch");
    assert_eq!(count(&stage), 1);

    let mut asked = [vec![], vec![launched[0].clone()]].into_iter();
    for token in ["req-a", "req-a-1"] {
        let answer = stage.answer(&format!(
            "ec2 describe-instances --filters Name=client-token,Values={token} --query Reservations[].Instances[].InstanceId"
        ));
        assert_eq!(answer, serde_json::json!(asked.next()), "{token}");
    }

    for action in [
        r#"{"kind":"apply_then_error","code":"InternalError"}"#,
        r#"{"kind":"apply_then_drop"}"#,
    ] {
        let before = count(&stage);
        let token = format!("req-b-{before}");
        let rule = format!(r#"{{"operation":"RunInstances","action":{action}}}"#);
        stage.steer("POST", "faults", &rule);
        assert!(!stage.aws(&launch(&token)).status.success());
        assert_eq!(count(&stage), before + 1, "{action}");
        stage.answer(&launch(&token));
        assert_eq!(count(&stage), before + 1, "{action}");
    }

    let capacity = r#"{"service":"ec2","operation":"RunInstances","action":{"kind":"capacity"}}"#;
    stage.steer("POST", "faults", capacity);
    let before = count(&stage);
    assert_eq!(
        stage.refusal(&launch("req-c-1")),
        "InsufficientInstanceCapacity"
    );
    assert_eq!(count(&stage), before);
    stage.answer(&launch("req-c-1"));

    let large = stage.folder.path().join("user-data");
    std::fs::write(&large, vec![b'x'; 16_385]).unwrap();
    let large = format!(
        "{} --user-data file://{}",
        launch("req-d-1"),
        large.display()
    );
    assert_eq!(stage.refusal(&large), "InvalidParameterValue");
}

#[test]
fn logs_object_lock_and_secrets_behave_as_aws_says() {
    let Some(stage) = Stage::up(true) else { return };

    stage.aws("logs create-log-group --log-group-name g");
    stage.aws("logs create-log-stream --log-group-name g --log-stream-name s");
    let put = |events: &str| {
        format!(
            "logs put-log-events --log-group-name g --log-stream-name s --log-events '{events}'"
        )
    };
    let now = r#"'$(date +%s%3N)'"#;
    let answer = stage.answer(&put(&format!(
        r#"[{{"timestamp":{now},"message":"kept"}},{{"timestamp":'$(($(date +%s%3N)+7300000))',"message":"new"}}]"#
    )));
    assert_eq!(
        answer["rejectedLogEventsInfo"]["tooNewLogEventStartIndex"],
        1
    );
    let answer = stage.answer(&put(r#"[{"timestamp":1000,"message":"old"}]"#));
    assert_eq!(answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"], 1);
    let disorder =
        format!(r#"[{{"timestamp":{now},"message":"b"}},{{"timestamp":1000,"message":"a"}}]"#);
    assert_eq!(stage.refusal(&put(&disorder)), "InvalidParameterException");
    let events = stage.answer("logs get-log-events --log-group-name g --log-stream-name s");
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
    assert_eq!(events["events"][0]["message"], "kept");

    stage.aws("s3api create-bucket --bucket anchors --object-lock-enabled-for-bucket");
    stage.answer(
        "s3api put-object-lock-configuration --bucket anchors --object-lock-configuration 'ObjectLockEnabled=Enabled,Rule={DefaultRetention={Mode=COMPLIANCE,Days=1}}'",
    );
    let first = stage.answer("s3api put-object --bucket anchors --key k --body /etc/hostname");
    let first = first["VersionId"].as_str().unwrap();
    stage.answer("s3api put-object --bucket anchors --key k --body /etc/passwd");
    let version = format!("--bucket anchors --key k --version-id {first}");
    let retention = stage.answer(&format!("s3api get-object-retention {version}"));
    assert_eq!(retention["Retention"]["Mode"], "COMPLIANCE");
    let shorter = format!(
        "s3api put-object-retention {version} --retention Mode=COMPLIANCE,RetainUntilDate=2020-01-01"
    );
    assert_eq!(stage.refusal(&shorter), "AccessDenied");
    assert_eq!(
        stage.refusal(&format!("s3api delete-object {version}")),
        "AccessDenied"
    );
    let suspend =
        "s3api put-bucket-versioning --bucket anchors --versioning-configuration Status=Suspended";
    assert_eq!(stage.refusal(suspend), "InvalidBucketState");
    let old = stage.folder.path().join("old");
    stage.answer(&format!("s3api get-object {version} {}", old.display()));
    assert_eq!(
        std::fs::read(old).unwrap(),
        std::fs::read("/etc/hostname").unwrap()
    );

    stage.answer("secretsmanager create-secret --name handoff --secret-string hush-hush");
    stage
        .answer("secretsmanager delete-secret --secret-id handoff --force-delete-without-recovery");
    // Deletion is answered before it shows, as with AWS.
    stage.answer("secretsmanager get-secret-value --secret-id handoff");
    eventually("the deletion", || {
        !stage
            .aws("secretsmanager get-secret-value --secret-id handoff")
            .status
            .success()
    });
    let calls = stage.steer("GET", "calls?service=secretsmanager", "");
    assert_eq!(calls["calls"][0]["operation"], "CreateSecret");
    assert_eq!(
        calls["calls"][0]["principal"],
        "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com"
    );
    assert!(!calls.to_string().contains("hush-hush"));
}

#[test]
fn a_caller_is_named_and_a_fault_is_listed_and_cleared() {
    let Some(stage) = Stage::up(true) else { return };
    let output = stage
        .shell("bob", "aws sts get-caller-identity --query Arn")
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stdout).trim(),
        r#""arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/bob@example.com""#
    );
    let rule =
        r#"{"service":"sts","count":0,"action":{"kind":"error","code":"Throttling","status":400}}"#;
    let id = stage.steer("POST", "faults", rule)["id"].clone();
    assert_eq!(stage.refusal("sts get-caller-identity"), "Throttling");
    assert_eq!(stage.steer("GET", "faults", "")["faults"][0]["fired"], 1);
    stage.steer("DELETE", &format!("faults?id={id}"), "");
    stage.answer("sts get-caller-identity");
}

/// The steps of docs/control.md, "Bringing a key into KMS", with the tools that they name.
#[test]
fn imported_key_material_signs_like_the_same_key_elsewhere() {
    const STEPS: &str = r#"set -eu
        cd "$1"
        printf '%032d' 7 >ticket.key
        K=$(aws kms create-key --origin EXTERNAL --key-spec HMAC_256 --key-usage GENERATE_VERIFY_MAC --query KeyMetadata.KeyId --output text)
        echo "$K" >id
        aws kms get-parameters-for-import --key-id $K --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_3072 >import.json
        jq -r .PublicKey import.json | base64 -d >wrapping.der
        jq -r .ImportToken import.json | base64 -d >token
        wrap() {
            openssl pkeyutl -encrypt -in "$1" -out "$2" -pubin -keyform DER -inkey wrapping.der \
                -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256
        }
        wrap ticket.key wrapped
        printf '%032d' 8 >other.key
        wrap other.key other
        mac() { aws kms generate-mac --key-id "$1" --mac-algorithm HMAC_SHA_256 --message fileb://message --query Mac --output text; }
        printf 'powerpole-ticket-v1\nk1\n' >message
        mac $K 2>&1 | grep -o KMSInvalidStateException
        import() {
            aws kms import-key-material --key-id $K --import-token fileb://token --encrypted-key-material "fileb://$1" \
                --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
        }
        import message 2>&1 | grep -o InvalidCiphertextException
        import wrapped >/dev/null
        import other 2>&1 | grep -o IncorrectKeyMaterialException
        import wrapped >/dev/null
        aws kms create-alias --alias-name alias/powerpole/ticket/orders-prod --target-key-id $K
        for name in $K alias/powerpole/ticket/orders-prod; do mac $name; done
        openssl dgst -sha256 -mac HMAC -macopt key:$(cat ticket.key) -binary message | base64
        O=$(aws kms create-key --key-spec HMAC_256 --key-usage GENERATE_VERIFY_MAC --query KeyMetadata.KeyId --output text)
        aws kms get-parameters-for-import --key-id $O --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_3072 2>&1 \
            | grep -o UnsupportedOperationException
        mac $O | base64 -d | wc -c"#;
    let Some(stage) = Stage::up(true) else {
        return;
    };
    let steps = stage.folder.path().join("steps.sh");
    std::fs::write(&steps, STEPS).unwrap();
    let command = format!("bash {} {}", steps.display(), stage.folder.path().display());
    let output = stage.shell("alice", &command).output().unwrap();
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 8, "{said}{}", text(&output.stderr));
    assert_eq!(
        lines[..3],
        [
            "KMSInvalidStateException",
            "InvalidCiphertextException",
            "IncorrectKeyMaterialException"
        ]
    );
    assert_eq!(lines[3], lines[5], "by id as openssl does it");
    assert_eq!(lines[4], lines[5], "by alias as openssl does it");
    assert_eq!(lines[6..], ["UnsupportedOperationException", "32"]);
}
