//! One recorded login: a pseudo-terminal, the operator's shell on it, and the relay between it and the operator.

pub(crate) mod pty;
pub(crate) mod relay;
pub(crate) mod shell;
mod wire;

#[cfg(test)]
mod tests;
