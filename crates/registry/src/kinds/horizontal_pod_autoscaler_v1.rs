//! HorizontalPodAutoscaler, in its first version: what it says is checked in the second, in which it is kept.

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;

use crate::defaults::fill;
use crate::strategy::{Context, Strategy};
use crate::validation::ErrorList;

pub struct Rules;

impl Strategy for Rules {
    type Object = HorizontalPodAutoscaler;

    fn default(&self, object: &mut HorizontalPodAutoscaler) {
        fill(&mut object.spec.min_replicas, 1);
        object.status.get_or_insert_default();
    }

    fn validate_create(&self, _object: &HorizontalPodAutoscaler, _ctx: &Context) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(
        &self,
        _new: &HorizontalPodAutoscaler,
        _old: &HorizontalPodAutoscaler,
        _ctx: &Context,
    ) -> ErrorList {
        ErrorList::new()
    }
}
