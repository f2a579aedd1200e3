//! Disruption budgets and priorities.

use super::{age, age_column, boolean, column, either, number, printer, text};
use crate::meta;
use crate::table::Printer;

pub fn pod_disruption_budget() -> Printer {
    let columns = vec![
        column("Min Available", "string", "The minimum number of pods that must be available."),
        column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
        column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."),
        age_column(),
    ];
    printer(columns, |budget, now| {
        vec![
            meta::name(budget).into(),
            either(budget, "/spec/minAvailable", "N/A").into(),
            either(budget, "/spec/maxUnavailable", "N/A").into(),
            number(budget, "/status/disruptionsAllowed").into(),
            age(budget, now),
        ]
    })
}

pub fn priority_class() -> Printer {
    let columns = vec![
        column("Value", "integer", "The integer value of this priority class."),
        column("Global-Default", "boolean", "Whether pods without a priority class get this one."),
        age_column(),
        column("PreemptionPolicy", "string", "The policy for preempting pods with lower priority."),
    ];
    printer(columns, |class, now| {
        vec![
            meta::name(class).into(),
            number(class, "/value").into(),
            boolean(class, "/globalDefault").into(),
            age(class, now),
            text(class, "/preemptionPolicy").into(),
        ]
    })
}
