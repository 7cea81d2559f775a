use tidegate_plugin::prelude::*;

struct Count;

#[aggregate]
impl Aggregate for Count { //~ not all trait items implemented, missing: `finish`
    type Config = NoConfig;
    type State = u64;

    fn add(_: &NoConfig, count: &mut u64, _: &Record, _: &mut Outputs) -> Result<()> {
        *count += 1;
        Ok(())
    }

    fn merge(_: &NoConfig, count: &mut u64, later: u64) {
        *count += later;
    }
}
