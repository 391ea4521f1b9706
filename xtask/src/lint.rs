//! `lint`.
use anyhow::Result;
/// x
pub fn run(_: &mut dyn std::io::Write) -> Result<()> {
    Ok(())
}
