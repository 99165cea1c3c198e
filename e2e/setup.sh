#!/bin/sh
# Installs the programs that the tests need, or with an argument those of another make target. Root on
# Debian installs packages; other users get a list of the missing packages.
set -eu

# Debian installs servers to directories that are not in every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# program:package or, if it is not a program, file:package
needed='slapd:slapd slapadd:slapd ldapsearch:ldap-utils python3:python3 find:findutils
unshare:util-linux prlimit:util-linux ip:iproute2 shellcheck:shellcheck strace:strace
mkfs.ext4:e2fsprogs mount:mount diff:diffutils setpriv:util-linux bindfs:bindfs
mkfs.exfat:exfatprogs mount.exfat-fuse:exfat-fuse
nginx:nginx kubectl:kubernetes-client
man:man-db bash:bash zsh:zsh fish:fish'

case ${1-} in
manifests)
    needed='promtool:prometheus nginx:nginx jq:jq python3:python3 shellcheck:shellcheck
slapd:slapd slapadd:slapd diff:diffutils unshare:util-linux setpriv:util-linux mount:mount'
    # Debian's Python has the module for virtual environments in a separate package.
    python3 -c 'import ensurepip' 2>/dev/null || needed="$needed ensurepip:python3-venv"
    ;;
pods)
    needed='podman:podman runc:runc catatonit:catatonit /usr/lib/podman/netavark:netavark
iptables:iptables ip:iproute2 unshare:util-linux mount:mount mmdebstrap:mmdebstrap
slapd:slapd slapadd:slapd dnsmasq:dnsmasq-base curl:curl objcopy:binutils tar:tar
/usr/bin/python3:python3 /usr/lib/python3/dist-packages/yaml:python3-yaml'
    ;;
cluster)
    needed='runc:runc /usr/lib/cni/bridge:containernetworking-plugins iptables:iptables ipset:ipset
conntrack:conntrack ip:iproute2 bridge:iproute2 sysctl:procps modprobe:kmod unshare:util-linux nsenter:util-linux flock:util-linux
mount:mount find:findutils openssl:openssl htpasswd:apache2-utils docker-registry:docker-registry
skopeo:skopeo curl:curl jq:jq podman:podman mmdebstrap:mmdebstrap gcc:gcc promtool:prometheus
/usr/bin/python3:python3 /usr/lib/python3/dist-packages/yaml:python3-yaml slapd:slapd slapadd:slapd
java:default-jre-headless /etc/ssl/certs/java/cacerts:ca-certificates-java mvn:maven unzip:unzip
/usr/lib/*/libc.a:libc6-dev busybox:busybox-static'
    ;;
applications)
    # nginx loads the types of files from its package, and postgres is in no directory of PATH.
    needed='java:default-jre-headless mvn:maven unzip:unzip /usr/lib/postgresql/*/bin/postgres:postgresql
nginx:nginx slapd:slapd slapadd:slapd curl:curl openssl:openssl catatonit:catatonit flock:util-linux
unshare:util-linux setpriv:util-linux mount:mount ip:iproute2 python3:python3'
    python3 -c 'import ensurepip' 2>/dev/null || needed="$needed ensurepip:python3-venv"
    ;;
bench-scan) needed='find:findutils bfs:bfs fdfind:fd-find strace:strace' ;;
bench-resolver) needed='slapd:slapd slapadd:slapd ldapsearch:ldap-utils jq:jq' ;;
bench-provisioner)
    needed='cp:coreutils sync:coreutils rsync:rsync mkfs.ext4:e2fsprogs mount:mount losetup:mount'
    ;;
bench-reloader) needed='nginx:nginx inotifywait:inotify-tools' ;;
storage)
    needed='mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs fusermount3:fuse3
python3:python3 find:findutils mount:mount'
    ;;
volumes)
    needed='strace:strace faketime:faketime python3:python3 mount:mount'
    ;;
directories)
    needed='slapd:slapd slapadd:slapd ldapsearch:ldap-utils ns-slapd:389-ds-base
dscreate:python3-lib389 samba:samba samba-tool:samba-common-bin unshare:util-linux ip:iproute2
/usr/share/samba/setup:samba-ad-provision /usr/lib/*/samba/ldb/samba_dsdb.so:samba-dsdb-modules
/usr/lib/*/samba/vfs/acl_xattr.so:samba-vfs-modules'
    ;;
esac

is_there() {
    # shellcheck disable=SC2086 # a pattern: the path holds the architecture
    case $1 in
    /*) ls -d $1 ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

missing=
for pair in $needed; do
    is_there "${pair%%:*}" || missing="$missing ${pair#*:}"
done
# shellcheck disable=SC2086 # a list of packages
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
[ -n "${missing% }" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "These Debian packages are needed: $missing" >&2
    echo "Install them, or run this as root on Debian." >&2
    exit 1
fi

# The tests start the servers; the packages must not start system services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=120 update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $missing

# Disables the services too, which would listen on all networks after the next boot.
if command -v systemctl >/dev/null; then
    case " $missing" in
    *" samba "*) systemctl --root=/ --quiet disable smbd.service nmbd.service samba-ad-dc.service ;;
    esac
    case " $missing" in
    *" nginx "*) systemctl --root=/ --quiet disable nginx.service ;;
    esac
    case " $missing" in
    *" postgresql "*) systemctl --root=/ --quiet disable postgresql.service ;;
    esac
    case " $missing" in
    *" prometheus "*) systemctl --root=/ --quiet disable prometheus.service ;;
    *" podman "*)
        systemctl --root=/ --quiet disable podman.socket podman.service podman-restart.service \
            podman-auto-update.service podman-auto-update.timer
        ;;
    esac
fi
