//! Keeps the requests that failed.
//!
//! Owns what "failed" means: a status from `min` on. It must not know where records come from. Invariant: it looks at one
//! record at a time.

use tidegate_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The lowest status to keep.
    min: u16,
}

#[derive(Deserialize)]
struct Access {
    status: u16,
}

#[filter(selftest = "selftest.json")]
fn by_status(config: &Config, record: &Record) -> Result<bool> {
    Ok(record.json::<Access>()?.status >= config.min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_failed_and_refuses_what_has_no_status() {
        let records = [r#"{ "status": 503 }"#, r#"{ "status": 200 }"#, "{}"].map(testing::json);
        let given = testing::filter::<by_status>(r#"{ "min": 500 }"#, records);
        assert_eq!(given.kept, [0]);
        assert_eq!(given.refused[0].at, 2);
        assert!(given.refused[0].reason.contains("missing field `status`"), "{}", given.refused[0].reason);
    }

    #[test]
    fn a_configuration_without_min_is_refused() {
        assert!(testing::configure::<by_status>("{}").unwrap_err().contains("min"));
    }
}
