#!/usr/bin/env bash
# setup.sh GROUP...: install the Debian packages that a make target needs, and
# say which and why. Nothing is done when all are there. Groups:
#   test     the database and the C compiler that the tests need
#   cluster  what a real Kubernetes node on this machine is made of
set -euo pipefail

say() { printf '==> %s\n' "$*"; }

# package|a command that shows it is there (or a file)|why
test_packages='
postgresql|/usr/lib/postgresql|the hub keeps its state in PostgreSQL: tests and demo start a private one (no system service is set up)
redis-server|redis-server|Dapr keeps state and topics in Redis: tests start a private one (no system service is set up)
gcc|gcc|the race detector of Go needs a C compiler
libc6-dev|/usr/include/stdio.h|the race detector of Go needs the C headers
git|git|make check compares generated code with what is committed
ca-certificates|/etc/ssl/certs/ca-certificates.crt|go into the images, and Go downloads modules over HTTPS
'
cluster_packages='
containerd|containerd|runs the containers of the nodes
runc|runc|containerd starts containers with it
containernetworking-plugins|/usr/lib/cni/bridge|the pod network
iptables|iptables|kube-proxy writes its rules with it
iproute2|ip|the nodes live in network namespaces
procps|ps|the harness watches its processes
postgresql|/usr/lib/postgresql|the hub keeps its state in PostgreSQL
ca-certificates|/etc/ssl/certs/ca-certificates.crt|go into the images
'

present() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
	esac
}

# wanted prints the lines of the groups whose package is missing.
wanted() {
	local group package probe why list
	for group in "$@"; do
		case $group in
		test) list=$test_packages ;;
		cluster) list=$cluster_packages ;;
		*)
			echo "setup.sh: unknown group $group (test, cluster)" >&2
			exit 2
			;;
		esac
		while IFS='|' read -r package probe why; do
			[ -n "$package" ] || continue
			present "$probe" || printf '%s|%s\n' "$package" "$why"
		done <<<"$list"
	done | sort -u -t'|' -k1,1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo --preserve-env=DEBIAN_FRONTEND "$@"
	else
		echo "setup.sh: installing packages needs root, and there is no sudo here; run as root: apt-get install -y ${packages[*]}" >&2
		exit 1
	fi
}

# apt waits for another apt to finish, and tries again when a mirror hiccups.
apt() {
	local try
	for try in 1 2 3; do
		if as_root apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1; then
			return 0
		fi
		say "apt-get $1 did not succeed (try $try of 3):"
		tail -n 5 "$log"
		sleep $((try * 5))
	done
	echo "setup.sh: apt-get $* failed three times; its whole output:" >&2
	cat "$log" >&2
	exit 1
}

check_go() {
	local need have
	need=$(sed -n 's/^go //p' go.mod)
	if ! command -v go >/dev/null 2>&1; then
		echo "setup.sh: there is no Go on the PATH; install Go $need or newer from https://go.dev/dl (Debian's is too old)" >&2
		exit 1
	fi
	have=$(go env GOVERSION)
	if [ "$(printf '%s\n%s\n' "$need" "${have#go}" | sort -V | head -n 1)" != "$need" ]; then
		say "this Go is ${have#go}, go.mod wants $need: the go command will fetch that toolchain by itself"
	fi
}

cd "$(dirname "$0")/.."
check_go
missing=$(wanted "$@")
if [ -z "$missing" ]; then
	exit 0
fi
mapfile -t packages < <(cut -d'|' -f1 <<<"$missing")
if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup.sh: this is no Debian or Ubuntu, so nothing was installed; please install what these packages hold: ${packages[*]}" >&2
	exit 1
fi

say "installing ${#packages[@]} Debian package(s), once:"
while IFS='|' read -r package why; do
	printf '      %-28s %s\n' "$package" "$why"
done <<<"$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
say "apt-get update (some seconds)"
apt update
if [[ " ${packages[*]} " == *" postgresql "* ]]; then
	# Debian makes and starts a database cluster when PostgreSQL is installed; nobody here needs it.
	apt install -y --no-install-recommends postgresql-common
	as_root mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.d/50-budcluster.conf >/dev/null
fi
policy=/usr/sbin/policy-rc.d
if [[ " ${packages[*]} " == *" redis-server "* ]] && [ ! -e $policy ]; then
	# Debian starts Redis as a service when it is installed; nobody here needs that either.
	printf '#!/bin/sh\nexit 101 # 50-budcluster\n' | as_root tee $policy >/dev/null
	as_root chmod 755 $policy
	trap 'as_root rm -f $policy; rm -f "$log"' EXIT
fi
say "apt-get install (about a minute)"
apt install -y --no-install-recommends "${packages[@]}"
as_root rm -f /etc/postgresql-common/createcluster.d/50-budcluster.conf
say "packages are in place"
