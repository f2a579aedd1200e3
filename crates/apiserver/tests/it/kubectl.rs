//! The real kubectl, whichever version is installed.

use std::path::Path;
use std::process::Command;

use crate::harness::Harness;

/// Runs kubectl and returns what it wrote; `Err` when it failed.
fn kubectl(kubeconfig: &Path, arguments: &str) -> Result<String, String> {
    let cache = kubeconfig.with_file_name("cache");
    let output = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--cache-dir")
        .arg(cache)
        .args(arguments.split(' '))
        .output()
        .expect("kubectl is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_people_type() {
    let h = Harness::start().await;
    let config = h.kubeconfig();
    let manifest = h.dir.path().join("web.yaml");
    let text = crate::harness::deployment("web").to_string();
    std::fs::write(&manifest, text).expect("a file");
    let file = manifest.display().to_string();
    let asked = h.dir.path().join("csr.yaml");
    let text = crate::certificates::request("ann", "example.com/signer", "people").to_string();
    std::fs::write(&asked, text).expect("a file");
    let asked = asked.display().to_string();
    let cases: Vec<(String, &str)> = vec![
        ("create namespace blue".into(), "namespace/blue created"),
        ("create serviceaccount default -n blue".into(), "serviceaccount/default created"),
        (format!("apply -n blue -f {file}"), "deployment.apps/web created"),
        (format!("apply -n blue -f {file}"), "deployment.apps/web unchanged"),
        (format!("apply -n blue --server-side -f {file}"), "deployment.apps/web serverside-applied"),
        (format!("diff -n blue --server-side -f {file}"), ""),
        (
            "get -n blue deploy web -o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields".into(),
            "kubectl",
        ),
        ("scale -n blue deployment/web --replicas=3".into(), "deployment.apps/web scaled"),
        ("set image -n blue deployment/web c=nginx:2".into(), "deployment.apps/web image updated"),
        ("expose -n blue deployment/web --port=80".into(), "service/web exposed"),
        ("get -n blue deployments".into(), "NAME"),
        ("run -n blue box --image=busybox".into(), "pod/box created"),
        ("label -n blue pod box a=b".into(), "pod/box labeled"),
        ("annotate -n blue pod box a=b".into(), "pod/box annotated"),
        ("get -n blue pods -l a=b -o name".into(), "pod/box"),
        ("describe -n blue pod box".into(), "Name:"),
        ("create configmap -n blue cm --from-literal=k=v".into(), "configmap/cm created"),
        ("get -n blue configmap cm -o jsonpath={.data.k}".into(), "v"),
        ("auth can-i delete nodes".into(), "yes"),
        ("create token -n blue default".into(), "ey"),
        ("explain pod.spec".into(), "KIND:"),
        ("api-resources -o name".into(), "bindings"),
        (format!("create -f {asked}"), "certificatesigningrequest.certificates.k8s.io/ann created"),
        ("get csr ann -o jsonpath={.spec.username}".into(), "admin"),
        ("certificate approve ann".into(), "certificatesigningrequest.certificates.k8s.io/ann approved"),
        ("get csr".into(), "NAME"),
        ("autoscale -n blue deployment web --max=3".into(), "horizontalpodautoscaler.autoscaling/web autoscaled"),
        ("get -n blue horizontalpodautoscalers.v1.autoscaling web -o jsonpath={.spec.targetCPUUtilizationPercentage}".into(), "80"),
        ("delete -n blue pod box".into(), "pod \"box\""),
        ("delete namespace blue --wait=false".into(), "namespace \"blue\" deleted"),
    ];
    for (arguments, expected) in &cases {
        let got = tokio::task::block_in_place(|| kubectl(&config, arguments));
        assert!(got.as_ref().is_ok_and(|got| got.starts_with(expected)), "kubectl {arguments}: {got:?}");
    }
}
