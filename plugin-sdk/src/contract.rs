//! The contract in Rust: the types and host functions that every world shares.
//!
//! Owns nothing but the bindings. It must not know what they are used for. Invariant: they are generated from
//! `wit/plugin.wit`, and nothing that a plugin exports is described here, so that only the author's own crate says which
//! world it is.

#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

wit_bindgen::generate!({
    path: "wit",
    inline: "
        package tidegate:sdk;
        world shared {
            import tidegate:plugin/types@0.1.0;
            import tidegate:plugin/host@0.1.0;
        }
    ",
    world: "tidegate:sdk/shared",
    pub_export_macro: false,
    generate_all,
    generate_unused_types: true,
    additional_derives: [PartialEq],
});

pub use tidegate::plugin::{host, types};
