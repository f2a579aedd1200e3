//! Volumes, claims and classes.

use serde_json::Value;

use super::{UNSET, age, age_column, boolean, column, list, printer, text, text_or, wide};
use crate::meta;
use crate::table::Printer;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
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
