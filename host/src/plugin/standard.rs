//! The plugins that the binary carries: what a pipeline calls `std/NAME`.
//!
//! Owns their bytes, which the build script made from `plugins/`. It must not know what they do. Invariant: names are
//! sorted and none comes twice, for each is a folder of `plugins/`.

/// Name and bytes of each, sorted by name.
static PLUGINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/standard_plugins.rs"));

/// Bytes of the standard plugin `name`, given without `std/`.
#[must_use]
pub fn find(name: &str) -> Option<&'static [u8]> {
    PLUGINS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// Names of the standard plugins, sorted, without `std/`.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_plugin_is_wasm_and_is_found_by_its_name() {
        for name in names() {
            assert_eq!(find(name).map(|bytes| &bytes[..4]), Some(&b"\0asm"[..]), "std/{name}");
        }
    }

    #[test]
    fn names_are_sorted_and_none_comes_twice() {
        assert!(names().is_sorted_by(|a, b| a < b));
        assert_eq!(find("no such plugin"), None);
    }
}
