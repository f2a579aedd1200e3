//! PriorityClass: its value is given once, and the highest are the system's.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::defaults::{fill, fill_text};
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, maybe_one_of, metadata, text};

const USER_MAX: i32 = 1_000_000_000;
const SYSTEM: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub struct Rules;

impl Strategy for Rules {
    type Object = PriorityClass;

    fn default(&self, object: &mut PriorityClass) {
        fill_text(&mut object.preemption_policy, "PreemptLowerPriority");
        fill(&mut object.value, 0);
    }

    fn validate_create(&self, object: &PriorityClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let (name, value) = (text(&object.metadata.name), object.value.unwrap_or(0));
        if name.starts_with("system-") {
            if !SYSTEM.contains(&(name, value)) {
                let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ".to_owned()
                    + &format!("{name} is not a known system priority class");
                errs.push(Error::forbidden(&metadata().child("name"), &detail));
            }
        } else if value > USER_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errs.push(Error::forbidden(&Path::new("value"), &detail));
        }
        policy(object, &mut errs);
        errs
    }

    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if new.value != old.value {
            errs.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        crate::validation::immutable_text(
            &new.preemption_policy,
            &old.preemption_policy,
            &Path::new("preemptionPolicy"),
            &mut errs,
        );
        errs
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn policy(object: &PriorityClass, errs: &mut ErrorList) {
    let policies = ["Never", "PreemptLowerPriority"];
    maybe_one_of(text(&object.preemption_policy), &policies, &Path::new("preemptionPolicy"), errs);
}
