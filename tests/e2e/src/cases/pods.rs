//! Pods: volumes, configuration, init containers, restarts, probes, static pods.

use anyhow::{Context, ensure};

use super::client;
use crate::cluster::{Cluster, PATIENCE, contains, eventually};

pub fn two_containers_share_an_empty_dir(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: www, emptyDir: {}}]
  containers:
  - name: writer
    image: busybox:1.36
    command: [sh, -c, 'echo written > /data/index.html; sleep infinity']
    volumeMounts: [{name: www, mountPath: /data}]
  - name: server
    image: busybox:1.36
    command: [httpd, -f, -p, '8080', -h, /www]
    volumeMounts: [{name: www, mountPath: /www, readOnly: true}]
",
    )?;
    c.apply(&client("reader"))?;
    c.k("wait pod/shared pod/reader --for=condition=Ready --timeout=60s")?;
    let ip = c.k("get pod shared -o jsonpath={.status.podIP}")?;
    let page = eventually(PATIENCE, || {
        c.kubectl(&["exec", "reader", "--", "wget", "-q", "-O", "-", &format!("http://{ip}:8080/")])
    })?;
    ensure!(page == "written\n", "{page:?}");
    c.k("delete pod shared reader --now")?;
    Ok(())
}

/// Not the class's name is what the runtime knows, but its handler's.
pub fn a_runtime_class_names_a_handler(c: &Cluster) -> anyhow::Result<()> {
    let class = |name: &str, handler: &str| {
        format!("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nhandler: {handler}\n")
    };
    c.apply(&class("plain", "runc"))?;
    c.apply(&class("runc", "no-such-handler"))?;
    let run = |name: &str, class: &str| {
        let spec = format!("{{\"spec\":{{\"runtimeClassName\":\"{class}\"}}}}");
        c.kubectl(&["run", name, "--image=busybox:1.36", "--overrides", &spec, "--", "sleep", "infinity"])
    };
    run("classed", "plain")?;
    run("misled", "runc")?;
    c.k("wait pod/classed --for=condition=Ready --timeout=60s")?;
    eventually(PATIENCE, || contains(&c.k("describe pod misled")?, &["FailedCreatePodSandBox", "no-such-handler"]))?;
    c.k("delete pod classed misled --now")?;
    c.k("delete runtimeclass plain runc").map(drop)
}

pub fn a_host_path_is_read_through_a_port_forward(c: &Cluster) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("index.html"), "from the host\n")?;
    c.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: host-path}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: www, hostPath: {{path: {}, type: Directory}}}}]
  containers:
  - name: server
    image: busybox:1.36
    command: [httpd, -f, -p, '8080', -h, /www]
    volumeMounts: [{{name: www, mountPath: /www}}]
",
        dir.path().display()
    ))?;
    c.k("wait pod/host-path --for=condition=Ready --timeout=60s")?;
    let forward = c.background(&["port-forward", "pod/host-path", ":8080"])?;
    forward.await_text("Forwarding from 127.0.0.1:")?;
    let text = forward.text();
    let port = text.split("127.0.0.1:").nth(1).and_then(|t| t.split(' ').next()).context("a port")?;
    for _ in 0..3 {
        let page = http_get(port.parse()?)?;
        contains(&page, &["200 OK", "from the host"])?;
    }
    drop(forward);
    c.k("delete pod host-path --now")?;
    Ok(())
}

fn http_get(port: u16) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn configuration_reaches_the_container(c: &Cluster) -> anyhow::Result<()> {
    c.k("create configmap settings --from-literal=color=blue --from-literal=file.txt=first")?;
    c.k("create secret generic keys --from-literal=password=hunter2")?;
    c.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {tier: one}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - name: about
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  containers:
  - name: shell
    image: busybox:1.36
    command: [sleep, infinity]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: BOTH, value: '$(COLOR)-$(NODE)'}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: keys, mountPath: /keys}
    - {name: about, mountPath: /about}
",
    )?;
    c.k("wait pod/configured --for=condition=Ready --timeout=60s")?;
    let sh = |script: &str| c.kubectl(&["exec", "configured", "--", "sh", "-c", script]);
    let node = c.k("get pod configured -o jsonpath={.spec.nodeName}")?;
    let line = sh("echo $COLOR $PASSWORD $NODE $MEMORY $BOTH")?;
    ensure!(line == format!("blue hunter2 {node} 67108864 blue-{node}\n"), "{line:?}");
    contains(&sh("cat /settings/file.txt /keys/password /about/labels")?, &["first", "hunter2", "tier=\"one\""])?;
    contains(&sh("ls -lL /keys/password")?, &["-r--------"])?;
    contains(&sh("env")?, &["KUBERNETES_SERVICE_HOST=10.96.0.1"])?;
    let token = sh(
        "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; cut -c1-3 /var/run/secrets/kubernetes.io/serviceaccount/token",
    )?;
    contains(&token, &["default", "eyJ"])?;
    c.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"file.txt":"second"}}"#])?;
    eventually(PATIENCE, || contains(&sh("cat /settings/file.txt")?, &["second"]))?;
    c.k("label pod configured tier=two --overwrite")?;
    eventually(PATIENCE, || contains(&sh("cat /about/labels")?, &["tier=\"two\""]))?;
    c.k("delete pod configured --now")?;
    c.k("delete configmap/settings secret/keys")?;
    Ok(())
}

/// What is changed while the containers start, their volumes made already, is not lost.
pub fn configuration_changed_during_a_start_arrives(c: &Cluster) -> anyhow::Result<()> {
    c.k("create configmap early --from-literal=k=v1")?;
    c.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: early, configMap: {name: early}}]
  containers:
  - name: shell
    image: busybox:1.36
    command: [sleep, infinity]
    lifecycle: {postStart: {exec: {command: [sh, -c, 'while [ ! -e /go ]; do sleep 0.1; done']}}}
    volumeMounts: [{name: early, mountPath: /early}]
",
    )?;
    let sh = |script: &str| c.kubectl(&["exec", "slow", "--", "sh", "-c", script]);
    eventually(PATIENCE, || contains(&sh("cat /early/k")?, &["v1"]))?;
    c.kubectl(&["patch", "configmap", "early", "-p", r#"{"data":{"k":"v2"}}"#])?;
    let waits = c.k("get pod slow -o jsonpath={.status.containerStatuses[0].state.waiting.reason}")?;
    ensure!(waits == "ContainerCreating", "a container is not running before its hook is through: {waits:?}");
    // Until the kubelet has seen it: a pod of its own would mount it now.
    let node = c.k("get pod slow -o jsonpath={.spec.nodeName}")?;
    c.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: sees}}
spec:
  nodeName: {node}
  restartPolicy: Never
  volumes: [{{name: early, configMap: {{name: early}}}}]
  containers: [{{name: shell, image: 'busybox:1.36', command: [grep, v2, /early/k], volumeMounts: [{{name: early, mountPath: /early}}]}}]
"
    ))?;
    c.await_json("pod sees", "{.status.phase}", "Succeeded")?;
    sh("touch /go")?;
    c.k("wait pod/slow --for=condition=Ready --timeout=60s")?;
    eventually(PATIENCE, || contains(&sh("cat /early/k")?, &["v2"]))?;
    c.k("delete pod slow sees --now")?;
    c.k("delete configmap early").map(drop)
}

pub fn init_containers_run_first_and_in_order(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  restartPolicy: Never
  volumes: [{name: log, emptyDir: {}}]
  initContainers:
  - {name: one, image: 'busybox:1.36', command: [sh, -c, 'echo one >> /log/x'], volumeMounts: [{name: log, mountPath: /log}]}
  - {name: two, image: 'busybox:1.36', command: [sh, -c, 'echo two >> /log/x'], volumeMounts: [{name: log, mountPath: /log}]}
  containers:
  - {name: main, image: 'busybox:1.36', command: [sh, -c, 'echo main >> /log/x; cat /log/x'], volumeMounts: [{name: log, mountPath: /log}]}
",
    )?;
    c.await_json("pod ordered", "{.status.phase}", "Succeeded")?;
    ensure!(c.k("logs ordered")? == "one\ntwo\nmain\n", "{}", c.k("logs ordered")?);
    contains(&c.k("get pod ordered")?, &["Completed"])?;
    c.k("delete pod ordered --now")?;
    Ok(())
}

pub fn a_crashing_container_backs_off(c: &Cluster) -> anyhow::Result<()> {
    c.kubectl(&["run", "crashing", "--image=busybox:1.36", "--", "sh", "-c", "echo boom; exit 3"])?;
    c.await_json("pod crashing", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff")?;
    let last = c.k("get pod crashing -o jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}")?;
    ensure!(last == "3", "{last}");
    contains(&c.k("get pod crashing")?, &["CrashLoopBackOff"])?;
    contains(&c.k("logs crashing --previous")?, &["boom"])?;
    eventually(PATIENCE, || contains(&c.k("get events --field-selector involvedObject.name=crashing")?, &["BackOff"]))?;
    c.k("delete pod crashing --now")?;
    c.kubectl(&["run", "missing", "--image=busybox:no-such-tag"])?;
    eventually(PATIENCE, || {
        let text = c.k("get pod missing")?;
        ensure!(text.contains("ErrImagePull") || text.contains("ImagePullBackOff"), "{text}");
        Ok(())
    })?;
    c.k("delete pod missing --now")?;
    Ok(())
}

pub fn probes_decide_readiness_and_restarts(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: shell
    image: busybox:1.36
    command: [sh, -c, 'touch /tmp/alive; sleep infinity']
    startupProbe: {periodSeconds: 1, failureThreshold: 30, exec: {command: [cat, /tmp/alive]}}
    livenessProbe: {periodSeconds: 1, failureThreshold: 2, exec: {command: [cat, /tmp/alive]}}
    readinessProbe: {periodSeconds: 1, exec: {command: [cat, /tmp/ready]}}
",
    )?;
    c.await_json("pod probed", "{.status.containerStatuses[0].started}", "true")?;
    c.await_json("pod probed", "{.status.containerStatuses[0].ready}", "false")?;
    c.kubectl(&["exec", "probed", "--", "touch", "/tmp/ready"])?;
    c.k("wait pod/probed --for=condition=Ready --timeout=30s")?;
    c.kubectl(&["exec", "probed", "--", "rm", "/tmp/alive"])?;
    c.await_json("pod probed", "{.status.containerStatuses[0].restartCount}", "1")?;
    eventually(PATIENCE, || {
        contains(
            &c.k("get events --field-selector involvedObject.name=probed")?,
            &["Unhealthy", "Liveness probe failed", "Killing"],
        )
    })?;
    c.k("delete pod probed --now")?;
    Ok(())
}

pub fn static_pods_are_mirrored(c: &Cluster) -> anyhow::Result<()> {
    let manifest = c.dir().join("nodes/node-1/manifests/fixed.yaml");
    std::fs::write(&manifest, client("fixed"))?;
    c.k("get nodes")?;
    c.await_json("pod fixed-node-1 --ignore-not-found", "{.status.phase}", "Running")?;
    contains(
        &c.k("get pod fixed-node-1 -o yaml")?,
        &["kubernetes.io/config.mirror", "kubernetes.io/config.source: file"],
    )?;
    // Deleting the mirror deletes only what was shown: it is back at once, for the same container.
    let seen = |path: &str| c.k(&format!("get pod fixed-node-1 -o jsonpath={path}"));
    let (uid, container) = (seen("{.metadata.uid}")?, seen("{.status.containerStatuses[0].containerID}")?);
    c.k("delete pod fixed-node-1")?;
    eventually(PATIENCE, || {
        ensure!(seen("{.metadata.uid}")? != uid, "the mirror was not made again");
        ensure!(seen("{.status.containerStatuses[0].containerID}")? == container, "another container");
        Ok(())
    })?;
    std::fs::remove_file(&manifest)?;
    eventually(PATIENCE, || contains(&c.refused(&["get", "pod", "fixed-node-1"])?, &["not found"]))
}

pub fn a_node_refuses_what_it_cannot_run(c: &Cluster) -> anyhow::Result<()> {
    let pod = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: shell
    image: busybox:1.36
    command: [sleep, infinity]
{spec}
"
        )
    };
    let port = "    ports: [{containerPort: 80, hostPort: 18080}]";
    c.apply(&pod("holder", port))?;
    c.k("wait pod/holder --for=condition=Ready --timeout=60s")?;
    let too_much = "    resources: {requests: {cpu: '1000'}}";
    let elsewhere = "  nodeSelector: {kubernetes.io/hostname: node-2}";
    for (name, spec, status) in
        [("second", port, "NodePorts"), ("huge", too_much, "OutOfcpu"), ("astray", elsewhere, "NodeAffinity")]
    {
        c.apply(&pod(name, spec))?;
        c.await_json(&format!("pod {name}"), "{.status.phase} {.status.reason}", &format!("Failed {status}"))?;
        contains(&c.k(&format!("get pod {name}"))?, &["0/1", status])?;
        contains(&c.k(&format!("get pod {name} -o jsonpath={{.status.message}}"))?, &["Pod was rejected: "])?;
    }
    c.k("delete pod holder second huge astray --now")?;
    Ok(())
}

pub fn an_image_that_cannot_be_had_is_said_so(c: &Cluster) -> anyhow::Result<()> {
    let pod = |name: &str, image: &str, policy: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: '{image}', imagePullPolicy: {policy}}}]
"
        )
    };
    c.apply(&pod("never", "busybox:0.0.0-none", "Never"))?;
    c.apply(&pod("malformed", "Busybox", "IfNotPresent"))?;
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    c.await_json("pod never", reason, "ErrImageNeverPull")?;
    c.await_json("pod malformed", reason, "InvalidImageName")?;
    let events = |name: &str, words: &[&str]| {
        let get = format!("get events --field-selector involvedObject.name={name}");
        eventually(PATIENCE, || contains(&c.k(&get)?, words))
    };
    // Two events of one failure: it was tried again, and still says what it is.
    events("never", &["ErrImageNeverPull", "Error: ErrImageNeverPull"])?;
    events("malformed", &["InspectFailed", "repository name (library/Busybox) must be lowercase"])?;
    c.await_json("pod never", reason, "ErrImageNeverPull")?;
    c.k("delete pod never malformed --now")?;
    Ok(())
}
