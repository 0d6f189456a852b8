//! Anchors: genesis, heads and the seal, kept where neither control nor another bastion can write.
//!
//! A head is anchored only when CloudWatch has accepted every line up to it, so that an auditor can tell a crash
//! from a cut. Each key is written once; the first version is the one that counts.

use super::progress::Progress;
use super::shipper::backoff;
use powerpole_chain::Anchor;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Put {
    /// It is there now.
    Stored,
    /// Something was there already: an earlier try of ours whose answer was lost, or a stranger's. The verifier
    /// compares; here the two look alike, because a bastion may not read anchors.
    WasThere,
}

/// A write whose effect is unknown.
#[derive(Debug, thiserror::Error)]
#[error("S3 PutObject {key}: {reason}")]
pub(crate) struct AnchorStoreError {
    /// The object's key.
    pub(crate) key: String,
    /// The service's error, or the transport's.
    pub(crate) reason: String,
}

/// Where anchors go. Durable and locked when `put_once` returns; an object that exists is never replaced; the
/// caller retries.
pub(crate) trait AnchorStore: Send + Sync + 'static {
    /// Writes an object unless one of that key exists.
    fn put_once(
        &self,
        key: &str,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<Put, AnchorStoreError>> + Send;
}

/// Time between two anchored heads while there is activity; CHAIN.md allows at most 15 s.
pub(crate) const BETWEEN_HEADS: Duration = Duration::from_secs(10);

/// Writes anchors under one prefix.
#[derive(Debug)]
pub(crate) struct Anchorer<S> {
    store: Arc<S>,
    prefix: String,
    between: Duration,
    progress: Arc<Progress>,
}

impl<S: AnchorStore> Anchorer<S> {
    /// Anchors below `prefix`, which ends in a slash; heads at least `between` apart.
    pub(crate) fn new(
        store: Arc<S>,
        prefix: String,
        between: Duration,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            store,
            prefix,
            between,
            progress,
        }
    }

    /// Writes one anchor.
    ///
    /// # Errors
    /// When S3 did not answer that it is stored.
    pub(crate) async fn put(&self, anchor: &Anchor) -> Result<(), AnchorStoreError> {
        let key = format!("{}{}", self.prefix, anchor.object_name());
        match self
            .store
            .put_once(&key, anchor.to_json().into_bytes())
            .await?
        {
            Put::Stored => {}
            Put::WasThere => tracing::warn!(key, "an anchor of this name was there already"),
        }
        self.progress.anchored(anchor.seq);
        Ok(())
    }

    /// Anchors heads until `stop` is set.
    pub(crate) async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut accepted = self.progress.watch_accepted();
        let mut failures = 0;
        loop {
            accepted.borrow_and_update();
            let pause = match self.progress.next_anchor() {
                None => Duration::ZERO,
                Some(anchor) => match self.put(&anchor).await {
                    Ok(()) => {
                        failures = 0;
                        self.between
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, failures, "a head is not anchored, trying again");
                        self.progress.remark(error.to_string());
                        backoff(failures)
                    }
                },
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
            if failures == 0 {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    changed = accepted.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::tests::{FakeBucket, genesis};
    use super::super::keys::fresh_key;
    use super::*;
    use powerpole_chain::Sealer;

    #[tokio::test]
    async fn while_there_is_activity_heads_are_anchored_again_and_again_and_the_last_one_too() {
        let genesis = genesis();
        let (mut sealer, _) = Sealer::begin(&genesis, fresh_key().unwrap(), [1; 16]).unwrap();
        let progress = Arc::new(Progress::new(sealer.head()));
        let bucket = Arc::new(FakeBucket::default());
        let between = Duration::from_millis(60);
        let anchorer = Anchorer::new(
            Arc::new(Arc::clone(&bucket)),
            "p/".to_owned(),
            between,
            Arc::clone(&progress),
        );
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(async move { anchorer.run(stopped).await });
        let mut last = String::new();
        for t in 1..=40u64 {
            let line = sealer.checkpoint(t, [2; 16], fresh_key().unwrap()).unwrap();
            progress.checkpoint(&line, &genesis);
            progress.accepted(line.seq + 1, 0, None);
            last = format!("p/head-{:020}.json", line.seq);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..200 {
            if bucket.objects.lock().unwrap().contains_key(&last) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.send_replace(true);
        running.await.unwrap();
        let objects = bucket.objects.lock().unwrap();
        assert!(objects.contains_key(&last));
        assert!((4..=20).contains(&objects.len()), "{:?}", objects.keys());
    }

    #[test]
    fn a_head_is_anchored_within_fifteen_seconds_of_activity() {
        // The oldest record of an epoch waits for its checkpoint, for being shipped, and for its turn.
        let checkpoint = genesis().policy.active_us;
        let until_due = Duration::from_micros(checkpoint) + Duration::from_secs(1);
        assert!(until_due + BETWEEN_HEADS < Duration::from_secs(15));
    }
}
