use super::*;

fn found(others: &[Is], own: Own) -> Searched {
    let others = others.iter().enumerate().map(|(n, is)| Other {
        instance: format!("i-{n}"),
        is: is.clone(),
    });
    Searched {
        bastions: 9,
        others: others.collect(),
        own,
    }
}

fn codes(searched: &Searched, attempt: u32) -> Vec<&'static str> {
    let found = searched.against(attempt).into_iter();
    found.map(|contradiction| contradiction.code).collect()
}

#[test]
fn only_an_instance_that_nothing_explains_is_held_against_the_request() {
    let told = found(&[Is::Later, Is::Stranger, Is::NoAnchor], Own::First);
    assert_eq!(codes(&told, 1), Vec::<&str>::new());
    assert_eq!(told.undecided(1, "own"), None);
    let one = found(&[Is::Unexplained, Is::Later], Own::First);
    assert_eq!(codes(&one, 1), ["other-genesis"]);
    assert_eq!(codes(&one, 2), Vec::<&str>::new());
    assert!(!one.against(1)[0].detail.contains("i-1"));
}

#[test]
fn an_instance_that_was_another_request_s_is_a_contradiction() {
    let other = found(&[], Own::Another("req-2".to_owned()));
    assert_eq!(codes(&other, 2), ["other-request"]);
}

#[test]
fn what_nobody_can_tell_is_no_contradiction_and_not_passed_over() {
    let own = found(&[], Own::Undecided);
    assert_eq!(codes(&own, 1), Vec::<&str>::new());
    assert_eq!(own.undecided(9, "own").as_deref(), Some("own"));
    let other = found(&[Is::Unexplained, Is::Undecided, Is::Later], Own::First);
    assert_eq!(codes(&other, 2), Vec::<&str>::new());
    assert_eq!(other.undecided(2, "own").as_deref(), Some("i-1"));
    // By the ledger both may be bastions of earlier tries: then neither answer contradicts.
    assert_eq!(other.undecided(3, "own"), None);
}

const ROLE: &str = "AROAEXAMPLE";

/// A bucket of this test's own at moto, and the time of its last write.
struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    async fn new(test: &str) -> Option<Bucket> {
        let Ok(endpoint) = std::env::var("POWERPOLE_TEST_AWS") else {
            eprintln!("SKIPPED {test}: POWERPOLE_TEST_AWS is not set");
            return None;
        };
        let keys = aws_sdk_s3::config::Credentials::new("AKIATRIAL", "secret", None, None, "trial");
        let settings = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(keys)
            .endpoint_url(endpoint)
            .load()
            .await;
        let client = bucket::client(&settings);
        let name = format!("{test}-{}", std::process::id());
        client.create_bucket().bucket(&name).send().await.unwrap();
        Some(Bucket { client, name })
    }

    async fn put(&self, key: &str) {
        let put = self.client.put_object().bucket(&self.name).key(key);
        put.body(b"x".to_vec().into()).send().await.unwrap();
    }

    /// What the instance wrote before `at`, in so many pages.
    async fn before(&self, at: &str, pages: usize) -> Own {
        let folder = Folder::parse(&format!("{ROLE}:i-1/req-own")).unwrap();
        let at = Some(at.parse().unwrap());
        let wrote = wrote_before(&self.client, &self.name, &folder, at, pages);
        wrote.await.unwrap()
    }
}

/// A page holds 1,000 versions.
#[tokio::test]
async fn a_flood_decides_nothing_and_an_earlier_beginning_is_found_behind_it() {
    let Some(bucket) = Bucket::new("search-flood").await else {
        return;
    };
    for n in 0..1001 {
        bucket
            .put(&format!("{ROLE}:i-1/req-{n:04}/genesis.json"))
            .await;
    }
    let (then, now) = ("2020-01-01T00:00:00Z", "2990-01-01T00:00:00Z");
    assert_eq!(bucket.before(then, 1).await, Own::Undecided);
    assert_eq!(bucket.before(then, 2).await, Own::First);
    let first = Own::Another("req-0000".to_owned());
    assert_eq!(bucket.before(now, 1).await, first);
    let last = format!("{ROLE}:i-1/req-0000/genesis.json");
    let first = bucket::first_version(&bucket.client, &bucket.name, &last, 0).await;
    assert!(matches!(first.unwrap(), First::Unknown));
}
