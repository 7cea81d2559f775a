//! Event time: watermarks and windows.
//!
//! Owns what time means to records. It must not know tasks, plugins or files.
