//! Cases after the bugs that etcd's own history tells of.

use anyhow::Result;

use crate::host::Host;

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
}
pub const ALL: &[Case] = &[];
pub async fn run(_case: &Case, _host: &Host, _seed: u32) -> Result<bool> {
    Ok(true)
}
