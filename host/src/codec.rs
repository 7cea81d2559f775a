//! Bytes to columns and back.
//!
//! Owns the formats. It must not know where bytes come from or go to.
