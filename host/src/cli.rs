//! The command line: what a user types and sees.
//!
//! Owns verbs, output and exit codes. Nothing below may name it.

pub mod author;
