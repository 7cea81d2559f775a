//! Source `host_metrics`.
