//! A node and a pod, joined by a veth pair: packets to Services arrive where the rules say.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netfilter::Iptables;
use netfilter::testing::{Namespace, command, in_namespace};
use proxy::health::ProxyHealth;
use proxy::metrics::Metrics;
use proxy::proxier::{Periods, Proxier};
use proxy::service_health::ServiceHealth;
use proxyrules::{Family, LocalDetector, ServiceKey};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const POD_PORT: u16 = 8080;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const DEADLINE: Duration = Duration::from_secs(20);
/// One try; a packet that goes nowhere is not waited for long.
const TRY: Duration = Duration::from_millis(200);

/// Must run in the node's namespace.
fn pod() -> Namespace {
    let pod = Namespace::new();
    command(&format!("ip link add veth0 type veth peer name eth0 netns {}", pod.id()));
    command(&format!("ip address add {NODE}/24 dev veth0"));
    command("ip link set veth0 up");
    // Where Services are routed to does not matter, as their packets never get there.
    command("ip route add 10.96.0.0/12 dev veth0");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the node forwards");
    std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("node ports answer on loopback");
    pod.run(|| {
        command(&format!("ip address add {POD}/24 dev eth0"));
        command("ip link set eth0 up");
        command(&format!("ip route add default via {NODE}"));
        let tcp = TcpListener::bind((POD, POD_PORT)).expect("a free port");
        let udp = UdpSocket::bind((POD, POD_PORT)).expect("a free port");
        std::thread::spawn(move || serve_tcp(&tcp));
        std::thread::spawn(move || serve_udp(&udp));
    });
    pod
}

/// Tells every client the address it is seen with. Ends with the test's process.
fn serve_tcp(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
        let _ = stream.write_all(peer.as_bytes());
    }
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = [0; 16];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
    }
}

/// The source address that the pod sees, or why there is no connection.
fn connect(to: SocketAddr) -> Result<IpAddr, String> {
    let text = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, TRY)?;
        stream.set_read_timeout(Some(TRY))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = text().map_err(|error| format!("{:?}", error.kind()))?;
    text.parse().map_err(|_| format!("the pod said {text:?}"))
}

fn ask(to: SocketAddr) -> Result<IpAddr, String> {
    let text = || -> std::io::Result<String> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(TRY))?;
        socket.send_to(b"?", to)?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let text = text().map_err(|error| format!("{:?}", error.kind()))?;
    text.parse().map_err(|_| format!("the pod said {text:?}"))
}

/// Waits until `attempt` gives what is expected.
async fn eventually<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, attempt: impl Fn() -> T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = attempt();
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {found:?} is not {expected:?}\n{}", command("iptables-save"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn service(name: &str, ip: Ipv4Addr, spec: Value) -> Service {
    let mut object = json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIP": ip.to_string(), "ports": [
            {"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "u", "port": 80, "protocol": "UDP"},
        ]},
    });
    let spec = spec.as_object().expect("an object").clone();
    object["spec"].as_object_mut().expect("an object").extend(spec);
    serde_json::from_value(object).expect("a Service")
}

fn slice(service: &str, ready: bool) -> EndpointSlice {
    let endpoint = json!({"addresses": [POD.to_string()], "nodeName": "node", "conditions": {"ready": ready}});
    serde_json::from_value(json!({
        "addressType": "IPv4",
        "metadata": {"namespace": "ns", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [endpoint],
        "ports": [{"name": "t", "port": POD_PORT, "protocol": "TCP"}, {"name": "u", "port": POD_PORT, "protocol": "UDP"}],
    }))
    .expect("an EndpointSlice")
}

fn proxier() -> Arc<Proxier> {
    let mut config = proxyrules::Config::new(Family::V4, "node");
    config.local_detector = LocalDetector::Cidr("10.244.0.0/16".parse().expect("a network"));
    config.node_ips = [NODE.into()].into();
    config.random_fully = true;
    let periods = Periods { min_sync: Duration::from_millis(10), canary: Duration::from_millis(50) };
    let metrics = daemon::metrics::Metrics::default().register(Metrics::register);
    Arc::new(Proxier::new(config, periods, Arc::new(ProxyHealth::new(DEADLINE)), metrics.of(Family::V4)))
}

/// Runs `test` on a node with a proxier, and `afterwards` when that has been stopped.
fn on_a_node(test: impl AsyncFnOnce(&Proxier, &Namespace) + Send, afterwards: impl AsyncFnOnce() + Send) {
    in_namespace(async || {
        let pod = pod();
        let proxier = proxier();
        let token = CancellationToken::new();
        let health = ServiceHealth::new(Arc::new(ProxyHealth::new(DEADLINE)));
        let running = {
            let (proxier, token) = (proxier.clone(), token.clone());
            tokio::spawn(async move { proxier.run(Some(health), token).await })
        };
        test(&proxier, &pod).await;
        token.cancel();
        running.await.expect("the loop does not panic");
        afterwards().await;
    });
}

fn vip(port: u16) -> SocketAddr {
    (VIP, port).into()
}

fn set(proxier: &Proxier, service: &Service) {
    let name = service.metadata.name.as_deref().expect("a name");
    proxier.service_changed(&ServiceKey::new("ns", name), Some(service));
}

#[test]
fn packets_reach_the_endpoint_over_every_way_in() {
    let test = async |proxier: &Proxier, pod: &Namespace| {
        set(proxier, &service("web", VIP, json!({"type": "NodePort"})));
        proxier.slice_changed(&slice("web", true), false);
        let node = Ok(IpAddr::from(NODE));
        eventually("cluster IP over TCP", node.clone(), || connect(vip(80))).await;
        eventually("cluster IP over UDP", node.clone(), || ask(vip(80))).await;
        eventually("node port", node.clone(), || connect((NODE, 30080).into())).await;
        eventually("node port on loopback", node.clone(), || connect((Ipv4Addr::LOCALHOST, 30080).into())).await;
        // The pod reaches itself through the Service, and must not see itself as the client.
        let hairpin = pod.run(|| connect(vip(80)));
        assert_eq!(hairpin, node);
    };
    on_a_node(test, async || {});
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let test = async |proxier: &Proxier, _: &Namespace| {
        set(proxier, &service("web", VIP, json!({})));
        proxier.slice_changed(&slice("web", false), false);
        eventually("refusal", Err("ConnectionRefused".to_owned()), || connect(vip(80))).await;
        proxier.slice_changed(&slice("web", true), false);
        eventually("service", Ok(IpAddr::from(NODE)), || connect(vip(80))).await;
    };
    on_a_node(test, async || {});
}

#[test]
fn a_flushed_kernel_is_written_again() {
    let test = async |proxier: &Proxier, _: &Namespace| {
        set(proxier, &service("web", VIP, json!({})));
        proxier.slice_changed(&slice("web", true), false);
        let node = Ok(IpAddr::from(NODE));
        eventually("before the flush", node.clone(), || connect(vip(80))).await;
        for table in ["nat", "filter", "mangle"] {
            command(&format!("iptables -t {table} -F"));
            command(&format!("iptables -t {table} -X"));
        }
        assert_ne!(connect(vip(80)), node, "the flush took the rules away");
        eventually("after the flush", node, || connect(vip(80))).await;
    };
    on_a_node(test, async || {});
}

#[test]
fn rules_outlive_the_proxy_until_they_are_cleaned_up() {
    const FOREIGN: [&str; 2] = ["-A PREROUTING -j MINE", "-A MINE -j RETURN"];
    let test = async |proxier: &Proxier, _: &Namespace| {
        command("iptables -t nat -N MINE");
        FOREIGN.iter().for_each(|rule| drop(command(&format!("iptables -t nat {rule}"))));
        set(proxier, &service("web", VIP, json!({"sessionAffinity": "ClientIP"})));
        proxier.slice_changed(&slice("web", true), false);
        eventually("service", Ok(IpAddr::from(NODE)), || connect(vip(80))).await;
    };
    let afterwards = async || {
        assert_eq!(connect(vip(80)), Ok(IpAddr::from(NODE)), "nobody watches, and it still works");
        let save = Iptables::V4.save().await.expect("the rules can be read");
        for known in
            ["KUBE-SERVICES", "KUBE-SVC-", "KUBE-SEP-", "KUBE-MARK-MASQ", "ns/web:t cluster IP", "--name KUBE-SEP-"]
        {
            assert!(save.contains(known), "{known} is not in\n{save}");
        }
        proxy::cleanup::run().await.expect("cleaned up");
        let save = Iptables::V4.save().await.expect("the rules can be read");
        assert!(!save.contains("KUBE-"), "{save}");
        assert!(FOREIGN.iter().all(|rule| save.contains(rule)), "{save}");
    };
    on_a_node(test, afterwards);
}
