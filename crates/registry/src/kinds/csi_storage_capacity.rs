//! CSIStorageCapacity: how much room a class has in a part of the cluster.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, NOT_NEGATIVE, Path, each, immutable, names, resources, selector};

pub struct Rules;

impl Strategy for Rules {
    type Object = CSIStorageCapacity;

    fn default(&self, _object: &mut CSIStorageCapacity) {}

    fn validate_create(&self, object: &CSIStorageCapacity, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let class = object.storage_class_name.as_str();
        each(names::dns_subdomain(class), class, &Path::new("storageClassName"), &mut errs);
        amount(object.capacity.as_ref(), "capacity", &mut errs);
        amount(object.maximum_volume_size.as_ref(), "maximumVolumeSize", &mut errs);
        if let Some(topology) = &object.node_topology {
            selector::label_selector(topology, &Path::new("nodeTopology"), &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &CSIStorageCapacity, old: &CSIStorageCapacity, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        immutable(&new.node_topology, &old.node_topology, &Path::new("nodeTopology"), &mut errs);
        immutable(&new.storage_class_name, &old.storage_class_name, &Path::new("storageClassName"), &mut errs);
        errs
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn amount(quantity: Option<&Quantity>, field: &str, errs: &mut ErrorList) {
    let negative = |q: &&Quantity| resources::value(&q.0).is_some_and(|amount| amount.is_negative());
    if let Some(quantity) = quantity.filter(negative) {
        errs.push(Error::invalid(&Path::new(field), quantity.0.as_str(), NOT_NEGATIVE));
    }
}
