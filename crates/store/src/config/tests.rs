use super::*;

fn check(flags: &[&str], expected: Result<(), &str>) {
    let flags = ["kube-store"].iter().chain(flags);
    let got = Flags::try_parse_from(flags).expect("known flags").validate();
    match (got, expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err(words)) => assert!(format!("{error:#}").contains(words), "{error:#}"),
        (got, expected) => panic!("{got:?} is not {expected:?}"),
    }
}

#[test]
fn mistakes_are_named() {
    check(&[], Ok(()));
    check(&["--listen-client-urls", "https://127.0.0.1:2379"], Err("needs --cert-file"));
    check(&["--listen-client-urls", "127.0.0.1:2379"], Err("--listen-client-urls"));
    check(&["--listen-client-urls", "http://127.0.0.1"], Err("has no port"));
    check(&["--listen-client-urls", "http://127.0.0.1:80", "--advertise-client-urls", "https://a:443"], Ok(()));
    check(&["--initial-advertise-peer-urls", "http://a:80", "--initial-cluster", "default=http://a:80"], Ok(()));
    check(&["--cert-file", "x"], Err("must be set together"));
    check(&["--client-cert-auth"], Err("needs --cert-file"));
    check(&["--auto-compaction-retention", "5x"], Err("--auto-compaction-retention=5x"));
    check(&["--auto-compaction-retention", "5m"], Ok(()));
    check(&["--auto-compaction-mode", "revision", "--auto-compaction-retention", "5m"], Err("mode revision"));
    check(&["--watch-progress-notify-interval", "0s"], Ok(()));
    check(&["--watch-progress-notify-interval", "5"], Err("is no duration"));
    check(&["--grpc-keepalive-interval=0"], Ok(()));
    check(&["--max-request-bytes", "0"], Err("--max-request-bytes"));
    check(&["--bcrypt-cost", "3"], Err("--bcrypt-cost"));
    check(&["--auth-token", "jwt"], Err("--auth-token=jwt"));
    check(&["--listen-peer-urls", "https://127.0.0.1:2380"], Err("needs --peer-cert-file"));
    check(&["--initial-cluster", "a=http://127.0.0.1:2380"], Err("couldn't find local name \"default\""));
    check(&["--initial-cluster", "default=http://127.0.0.1:1"], Err("--initial-advertise-peer-urls"));
    check(&["--initial-cluster", "default=http://a:1,b=http://a:1/"], Err("has duplicate url http://a:1"));
    check(&["--listen-client-urls", "http://10.0.0.1:2379"], Err("--advertise-client-urls is required"));
    check(&["--initial-cluster", "default"], Err("--initial-cluster: default is not name=url"));
    check(&["--initial-cluster-state", "old"], Err("neither new nor existing"));
    check(&["--election-timeout", "200"], Err("5 times"));
    check(&["--quota-backend-bytes", "-1"], Ok(()));
    check(&["--log-level", "loud"], Err("--log-level=loud is none of debug, info"));
    check(&["--pre-vote"], Ok(()));
    check(&["--pre-vote=1", "--strict-reconfig-check=F", "--feature-gates=InitialCorruptCheck=True"], Ok(()));
    check(&["--pre-vote=false"], Err("--pre-vote=false"));
    check(&["--tls-min-version", "TLS1.3"], Ok(()));
    check(&["--tls-min-version", "TLS1.1"], Err("--tls-min-version=TLS1.1: unexpected TLS version"));
    check(&["--cipher-suites", "TLS_RSA_WITH_RC4_128_SHA"], Err("unexpected TLS cipher suite"));
    check(&["--peer-cert-allowed-cn", "member"], Err("--peer-cert-allowed-cn needs --peer-cert-file"));
    check(&["--max-concurrent-streams", "0"], Err("--max-concurrent-streams"));
    check(&["--grpc-keepalive-interval", "0s"], Ok(()));
    check(&["--grpc-keepalive-timeout", "1"], Err("--grpc-keepalive-timeout=1 is no duration"));
    check(&["--feature-gates", "InitialCorruptCheck=true"], Ok(()));
    check(&["--feature-gates", "InitialCorruptCheck"], Err("missing bool value"));
    check(&["--feature-gates", "InitialCorruptCheck=yes"], Err("use true or false"));
    check(&["--feature-gates", "Other=true"], Err("unrecognized feature gate: Other"));
    check(&["--quota-backend-bytes", "107374182400"], Ok(()));
    let three = "default=http://localhost:2380,b=http://127.0.0.1:2480,c=http://127.0.0.1:2580";
    check(&["--initial-cluster", three], Ok(()));
}

#[test]
fn durations_as_go_writes_them() {
    for (text, expected) in [
        ("5m", Some(300_000)),
        ("1h30m", Some(5_400_000)),
        ("1.5s", Some(1_500)),
        ("10ms", Some(10)),
        ("", None),
        ("5", None),
        ("m", None),
    ] {
        assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn the_file_speaks_etcds_keys() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = "name: one\ndata-dir: /d\nlog-level: warn\nlisten-client-urls: https://127.0.0.1:1\n\
        advertise-client-urls: https://127.0.0.1:1\n\
        cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n\
        client-transport-security:\n  cert-file: c\n  key-file: k\n  trusted-ca-file: a\n  client-cert-auth: true\n";
    std::fs::write(file.path(), text).expect("writable");
    let path = file.path().to_str().expect("ascii");
    let flags = Flags::try_parse_from(["kube-store", "--config-file", path]).expect("known flags");
    let config = flags.validate().expect("a valid file");
    let tls = config.tls.expect("configured");
    assert_eq!((config.name.as_str(), config.log_level.as_str(), tls.client_cert_auth), ("one", "warn", true));
    std::fs::write(file.path(), "client-transport-security:\n  allowed-cn: ann\n").expect("writable");
    check(&["--config-file", path], Err("allowed-cn is for members only"));
    std::fs::write(file.path(), "nmae: one\n").expect("writable");
    check(&["--config-file", path], Err("nmae"));
}

#[test]
fn who_is_a_member_need_not_be_named_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_str().expect("ascii");
    let flags = ["--name", "b", "--data-dir", path, "--initial-cluster", "a=http://127.0.0.1:2380"];
    check(&flags, Err("couldn't find local name"));
    let wal = dir.path().join("member/wal");
    Wal::create(&wal, Default::default(), Default::default(), Default::default()).expect("a log");
    check(&flags, Ok(()));
    check(&[&flags[..], &["--listen-peer-urls", "nowhere"]].concat(), Err("--listen-peer-urls"));
}
