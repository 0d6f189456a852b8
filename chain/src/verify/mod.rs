//! Verifying a chain: lines in, a verdict out, in bounded memory.
//!
//! Owns the rules of `docs/chain-format.md` §10. Trusts the anchors that it is given, then
//! signatures whose keys follow from the genesis, then the ledger's facts, in this order; trusts no
//! line. Never reads a clock, a file or the network: lines come one by one from the caller.
//!
//! A line names the head that it follows, so each line is reduced to one small node as it arrives.
//! A signed checkpoint (or an anchored head) is walked back over those nodes to the place that is
//! already proven; what the walk does not touch is foreign, however much there is of it. Where the lines
//! came in their order there is nothing to walk: all that arrived since the proven place follows it.

mod apply;
mod ends;
mod facts;
mod filter;
mod intake;
mod judge;
mod node;
mod parallel;
mod reduce;
mod report;
mod ring;
mod settle;
mod store;
mod tree;

pub use facts::{Inputs, LedgerFacts};
pub use intake::Verifier;
pub use parallel::verify_blocks;
pub use reduce::Reducer;
pub use report::{
    AnchorTally, Finding, Known, Missing, Report, Rule, SealSummary, SessionTally, SessionVerdict,
    Verdict,
};
pub use store::WINDOW;
