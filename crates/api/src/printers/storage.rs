//! Volumes, claims and classes.

use serde_json::Value;

use super::{UNSET, age, age_column, boolean, column, list, printer, text, text_or, wide};
use crate::meta;
use crate::table::Printer;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const NONE: &str = "<none>";
const BETA_DEFAULT_CLASS: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub fn persistent_volume() -> Printer {
    let columns = vec![
        column("Capacity", "string", "The resources of the volume."),
        column("Access Modes", "string", "All ways the volume can be mounted."),
        column("Reclaim Policy", "string", "What happens to the volume when released from its claim."),
        column("Status", "string", "Whether the volume is available, bound to a claim, or released by a claim."),
        column("Claim", "string", "The claim that the volume is bound to."),
        column("StorageClass", "string", "The storage class that the volume belongs to."),
        column("VolumeAttributesClass", "string", "The volume attributes class that the volume belongs to."),
        column("Reason", "string", "Why the volume is in this state."),
        age_column(),
        wide("VolumeMode", "string", "Whether the volume has a file system or is a raw block device."),
    ];
    printer(columns, |volume, now| {
        let claim = match volume.pointer("/spec/claimRef") {
            Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
            None => String::new(),
        };
        vec![
            meta::name(volume).into(),
            text(volume, "/spec/capacity/storage").into(),
            access_modes(list(volume, "/spec/accessModes")).into(),
            text(volume, "/spec/persistentVolumeReclaimPolicy").into(),
            phase(volume).into(),
            claim.into(),
            text(volume, "/spec/storageClassName").into(),
            text_or(volume, "/spec/volumeAttributesClassName", UNSET).into(),
            text(volume, "/status/reason").into(),
            age(volume, now),
            text_or(volume, "/spec/volumeMode", UNSET).into(),
        ]
    })
}

pub fn persistent_volume_claim() -> Printer {
    let columns = vec![
        column("Status", "string", "The current phase of the claim."),
        column("Volume", "string", "The volume that backs the claim."),
        column("Capacity", "string", "The actual resources of the underlying volume."),
        column("Access Modes", "string", "The actual access modes of the volume."),
        column("StorageClass", "string", "The storage class that the claim requires."),
        column("VolumeAttributesClass", "string", "The volume attributes class that the claim uses."),
        age_column(),
        wide("VolumeMode", "string", "Whether the claim needs a file system or a raw block device."),
    ];
    printer(columns, |claim, now| {
        let volume = text(claim, "/spec/volumeName");
        let bound = !volume.is_empty();
        let modes = if bound { access_modes(list(claim, "/status/accessModes")) } else { String::new() };
        vec![
            meta::name(claim).into(),
            phase(claim).into(),
            volume.into(),
            if bound { text(claim, "/status/capacity/storage") } else { "" }.into(),
            modes.into(),
            text(claim, "/spec/storageClassName").into(),
            text_or(claim, "/spec/volumeAttributesClassName", UNSET).into(),
            age(claim, now),
            text_or(claim, "/spec/volumeMode", UNSET).into(),
        ]
    })
}

fn phase(object: &Value) -> &str {
    if meta::is_deleting(object) { "Terminating" } else { text(object, "/status/phase") }
}

/// `RWO,ROX`, each once, in the order in which people list them.
fn access_modes(modes: &[Value]) -> String {
    const KNOWN: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    KNOWN.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

pub fn storage_class() -> Printer {
    let columns = vec![
        column("Provisioner", "string", "The type of the provisioner."),
        column("ReclaimPolicy", "string", "The reclaim policy of volumes of this class."),
        column("VolumeBindingMode", "string", "When claims are bound and volumes provisioned."),
        column("AllowVolumeExpansion", "boolean", "Whether volumes of this class can be expanded."),
        age_column(),
    ];
    printer(columns, |class, now| {
        let marked = |annotation| meta::annotation(class, annotation) == Some("true");
        let default = if marked(DEFAULT_CLASS) || marked(BETA_DEFAULT_CLASS) { " (default)" } else { "" };
        vec![
            format!("{}{default}", meta::name(class)).into(),
            text(class, "/provisioner").into(),
            text_or(class, "/reclaimPolicy", "Delete").into(),
            text_or(class, "/volumeBindingMode", "Immediate").into(),
            boolean(class, "/allowVolumeExpansion").into(),
            age(class, now),
        ]
    })
}

pub fn csi_node() -> Printer {
    let columns = vec![column("Drivers", "integer", "The number of drivers on the node."), age_column()];
    printer(columns, |node, now| {
        vec![meta::name(node).into(), list(node, "/spec/drivers").len().into(), age(node, now)]
    })
}

pub fn csi_driver() -> Printer {
    let columns = vec![
        column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
        column("PodInfoOnMount", "boolean", "Whether the driver is told of the pod that it mounts for."),
        column("StorageCapacity", "boolean", "Whether the scheduler looks at what room the driver reports."),
        column("TokenRequests", "string", "The audiences of the tokens that the driver is given."),
        column("RequiresRepublish", "boolean", "Whether mounts are made again from time to time."),
        column("Modes", "string", "How long volumes of the driver live."),
        age_column(),
    ];
    printer(columns, |driver, now| {
        let audiences = list(driver, "/spec/tokenRequests").iter().map(|request| text(request, "/audience"));
        let audiences = audiences.collect::<Vec<_>>().join(",");
        let modes = list(driver, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str);
        let modes = modes.collect::<Vec<_>>().join(",");
        vec![
            meta::name(driver).into(),
            // Unless it says no, a driver attaches.
            (driver.pointer("/spec/attachRequired") != Some(&Value::Bool(false))).into(),
            boolean(driver, "/spec/podInfoOnMount").into(),
            boolean(driver, "/spec/storageCapacity").into(),
            if audiences.is_empty() { UNSET } else { &audiences }.into(),
            boolean(driver, "/spec/requiresRepublish").into(),
            if modes.is_empty() { NONE } else { &modes }.into(),
            age(driver, now),
        ]
    })
}

pub fn csi_storage_capacity() -> Printer {
    let columns = vec![
        column("StorageClassName", "string", "The class that the room is of."),
        column("Capacity", "string", "How much room there is."),
    ];
    printer(columns, |capacity, _| {
        vec![
            meta::name(capacity).into(),
            text(capacity, "/storageClassName").into(),
            text_or(capacity, "/capacity", UNSET).into(),
        ]
    })
}

pub fn volume_attachment() -> Printer {
    let columns = vec![
        column("Attacher", "string", "The driver that is to attach the volume."),
        column("PV", "string", "The persistent volume."),
        column("Node", "string", "The node that the volume is attached to."),
        column("Attached", "boolean", "Whether the volume is attached."),
        age_column(),
    ];
    printer(columns, |attachment, now| {
        vec![
            meta::name(attachment).into(),
            text(attachment, "/spec/attacher").into(),
            text(attachment, "/spec/source/persistentVolumeName").into(),
            text(attachment, "/spec/nodeName").into(),
            boolean(attachment, "/status/attached").into(),
            age(attachment, now),
        ]
    })
}

pub fn volume_attributes_class() -> Printer {
    let columns = vec![column("DriverName", "string", "The driver that the attributes are for."), age_column()];
    printer(columns, |class, now| vec![meta::name(class).into(), text(class, "/driverName").into(), age(class, now)])
}
