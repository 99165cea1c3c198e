#!/bin/sh
# Makes sure that the programs which the tests run are installed, or with an argument those of a
# benchmark or of `make test-storage`: as root from Debian packages, otherwise by saying what is
# missing.
set -eu

# Debian keeps servers where users do not look.
PATH=$PATH:/usr/sbin:/sbin

# program:package
needed='slapd:slapd slapadd:slapd ldapsearch:ldap-utils python3:python3 find:findutils
unshare:util-linux prlimit:util-linux ip:iproute2 shellcheck:shellcheck'

case ${1-} in
bench-scan) needed='find:findutils bfs:bfs fdfind:fd-find strace:strace' ;;
bench-resolver) needed='slapd:slapd slapadd:slapd ldapsearch:ldap-utils jq:jq' ;;
storage)
    needed='mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs fusermount3:fuse3
python3:python3 find:findutils mount:mount'
    ;;
esac

missing=
for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# shellcheck disable=SC2086 # a list of packages
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
[ -n "${missing% }" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "These Debian packages are needed: $missing" >&2
    echo "Install them, or run this as root on Debian." >&2
    exit 1
fi

# The tests start servers of their own; the packages must not start one for the whole machine.
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
