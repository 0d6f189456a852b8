//! The ledger: one item a request, moved forward only by conditional updates.
//!
//! Owns the port to the store and the words in which a move is written. [`transitions`] decides what a move
//! demands and writes; [`dynamodb`] carries it out and decides nothing.

pub mod dynamodb;
pub mod item;
pub mod transitions;

use futures_util::future::BoxFuture;
use item::Item;
use powerpole_protocol::id::RequestId;
use std::collections::BTreeMap;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// DynamoDB's S.
    Text(String),
    /// DynamoDB's N; whole numbers only.
    Number(u64),
    /// DynamoDB's BOOL.
    Flag(bool),
    /// DynamoDB's L of S.
    List(Vec<String>),
}

/// An item's attributes by name.
pub type Attributes = BTreeMap<String, Value>;

/// What must hold for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The attribute is not there.
    Absent(&'static str),
    /// The attribute is there with this value.
    Is(&'static str, Value),
    /// The attribute is there with one of these values.
    IsOneOf(&'static str, Vec<Value>),
    /// The attribute is not there, or less than this. Times compare as text: all are UTC with whole seconds.
    AbsentOrBelow(&'static str, Value),
    /// The attribute is not there, or more than this.
    AbsentOrAbove(&'static str, Value),
}

/// One conditional update of one item: every condition holds and all is written, or nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Move {
    /// What must hold.
    pub when: Vec<Condition>,
    /// What is written.
    pub set: Vec<(&'static str, Value)>,
    /// What is removed.
    pub remove: Vec<&'static str>,
}

/// How an update ended.
#[derive(Debug)]
#[must_use]
pub enum Moved {
    /// It happened; the item as it is now.
    Won(Box<Item>),
    /// A condition did not hold; nothing was changed. It may also have happened before.
    Lost,
}

/// Whether an item was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// It is new.
    New,
    /// An item of this id was there already; it was not touched.
    Exists,
}

/// The store did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It failed, or may have happened.
    #[error("the ledger's {operation} failed: {detail}")]
    Unavailable {
        /// Which call.
        operation: &'static str,
        /// The store's own words.
        detail: String,
    },
    /// An item that control did not write so.
    #[error("the ledger's item {request} cannot be read: {fault}")]
    Item {
        /// The item.
        request: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl LedgerError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "ledger_unavailable",
            Self::Item { .. } => "ledger_item",
        }
    }
}

/// The store of requests.
///
/// Contract: `create` and `apply` are atomic and durable when they return `Ok`. After an error a
/// write may or may not have happened: whoever calls repeats it, and every [`Move`] is written so that its
/// repetition is harmless. `read` sees every write that ended before it began. `open` may lag behind by
/// moments and must never be the ground of a decision: read the item first.
pub trait Ledger: Send + Sync {
    /// Makes an item unless one of its id exists, and gives it the next number in the same step: no number is
    /// left out and none is given twice, whatever fails in between. The item's own `number` and seals are ignored;
    /// `seal` is asked for the seal of the item under the number that it gets.
    fn create<'a>(
        &'a self,
        item: &'a Item,
        seal: &'a (dyn Fn(&Item) -> String + Send + Sync),
    ) -> BoxFuture<'a, Result<Created, LedgerError>>;
    /// The number that was given last, as the ledger counts; 0 before the first.
    fn last_number(&self) -> BoxFuture<'_, Result<u64, LedgerError>>;
    /// From now on this adapter gives no number up to this one, whatever the ledger counts: it is known to be given.
    fn given(&self, number: u64);
    /// The item as it is now.
    fn read<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<Item>, LedgerError>>;
    /// Carries out a move.
    fn apply<'a>(
        &'a self,
        request: &'a RequestId,
        step: &'a Move,
    ) -> BoxFuture<'a, Result<Moved, LedgerError>>;
    /// Every item on which work is left, oldest first.
    fn open(&self) -> BoxFuture<'_, Result<Vec<Item>, LedgerError>>;
    /// Every item whose end no roll names yet, in no order; may lag behind as `open` may.
    fn unrolled(&self) -> BoxFuture<'_, Result<Vec<Item>, LedgerError>>;
}

impl Move {
    /// Demands.
    pub fn when(mut self, condition: Condition) -> Self {
        self.when.push(condition);
        self
    }

    /// Writes.
    pub fn set(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set.push((name, value.into()));
        self
    }

    /// Writes when there is something to write.
    pub fn set_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// Removes.
    pub fn remove(mut self, name: &'static str) -> Self {
        self.remove.push(name);
        self
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}
impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
impl From<jiff::Timestamp> for Value {
    fn from(time: jiff::Timestamp) -> Self {
        Self::Text(time.to_string())
    }
}
impl From<powerpole_protocol::ledger::State> for Value {
    fn from(state: powerpole_protocol::ledger::State) -> Self {
        Self::Text(state.as_str().to_owned())
    }
}
impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}
