//! The optimizer: a table of rules, each a rewrite that gives the same rows with less work, each switchable.

use crate::exec::Runtime;
use crate::plan::Plan;

/// Which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules(u32);

impl Rules {
    pub(crate) const ALL: Rules = Rules(u32::MAX);
    pub(crate) const NONE: Rules = Rules(0);
}

pub(crate) fn optimize(plan: Plan, _rules: Rules, _runtime: &Runtime<'_>) -> Plan {
    plan
}
