//! What sealing takes from the operating system: memory that stays in memory, and randomness.
//!
//! A key is made from fresh randomness, signs one checkpoint or the seal, and is wiped when the next takes its place
//! (`EpochKey` does that when it is dropped). With the process's memory locked it never reaches a swap device.

use super::error::EvidenceError;
use powerpole_chain::EpochKey;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// Keeps every page of the process out of swap. Needs `LimitMEMLOCK=infinity`: under a finite limit a lock that
/// succeeds now would make allocations fail later.
///
/// # Errors
/// When the limit is finite or the kernel refuses; the caller records that keys may reach a swap device, if there
/// is one.
pub(crate) fn lock_memory() -> std::io::Result<()> {
    use rustix::mm::MlockAllFlags;
    use rustix::process::{Resource, getrlimit};
    if getrlimit(Resource::Memlock).current.is_some() {
        return Err(std::io::Error::other("LimitMEMLOCK is not infinity"));
    }
    Ok(rustix::mm::mlockall(
        MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT,
    )?)
}

/// A new epoch's key.
///
/// # Errors
/// When the operating system gives no randomness.
pub(crate) fn fresh_key() -> Result<EpochKey, EvidenceError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    SysRng
        .try_fill_bytes(&mut *seed)
        .map_err(|_| EvidenceError::Random)?;
    Ok(EpochKey::from_seed(*seed))
}

/// Sixteen bytes that hide what a payload was once it is withheld. Drawn in bulk.
#[derive(Debug)]
pub(crate) struct Salts {
    pool: Vec<u8>,
}

impl Salts {
    /// An empty pool.
    pub(crate) fn new() -> Self {
        Self { pool: Vec::new() }
    }

    /// The next salt.
    pub(crate) fn next(&mut self) -> Result<[u8; 16], EvidenceError> {
        if self.pool.len() < 16 {
            self.pool.resize(4096, 0);
            SysRng
                .try_fill_bytes(&mut self.pool)
                .map_err(|_| EvidenceError::Random)?;
        }
        let rest = self.pool.len() - 16;
        let salt = self
            .pool
            .get(rest..)
            .and_then(|tail| <[u8; 16]>::try_from(tail).ok())
            .ok_or(EvidenceError::Random)?;
        self.pool.truncate(rest);
        Ok(salt)
    }
}
