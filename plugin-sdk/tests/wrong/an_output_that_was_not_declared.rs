use tidegate_plugin::prelude::*;

#[map(outputs = ["slow"])]
fn wrong(record: &Record, out: &mut Outputs) -> Result<()> {
    out.same().to("slow")?;
    out.same().to("fast")?; //~ no output is called `fast`; add it to the attribute: `outputs = ["fast"]`
    Ok(())
}
