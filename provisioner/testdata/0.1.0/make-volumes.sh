#!/bin/sh
# Makes the archives beside this script: volumes in every layout and state that provisioner 0.1.0
# leaves, for tests/it/earlier_versions.rs. Each later version must read them, roll them back and
# publish to them, so they are never made anew by a later version.
#
# usage: make-volumes.sh PROVISIONER, a program built from 0.1.0 (commit 4455f19)
#
# sources.tar.gz holds the trees v1, v2 and v3 that were published. Each other archive holds
#   volume/        the volume
#   order          `..data`, versions and what was replaced by links, in the order of their times of
#                  change, which no archive holds; `..data` last where the clock was too coarse
#   status.json    what `provisioner status --json` of 0.1.0 says of it
#   history.json   what `provisioner history --json` says
#
# Runs that are killed or fail are made by strace, which injects that into a certain system call;
# each state is checked before it is packed. Tags and times differ from one run of this script to
# the next. Owners are written as root's: tar gives the files to the user who unpacks them.
set -eu
export LC_ALL=C
umask 022

provisioner=$(realpath "${1:?usage: make-volumes.sh PROVISIONER}")
out=$(realpath "$(dirname "$0")")
"$provisioner" --version | grep -qx 'provisioner 0.1.0' || { echo "not 0.1.0" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# The trees: names of all kinds, modes, links, a name that changes its kind.
odd=$(printf 'not-utf8-\377')
broken='line
break'
folder=$(printf 'folder\n\376')
tree() { # NAME
    mkdir -p "$1/certs" "$1/empty" "$1/$folder"
    seq 1 500 | sed "s/^/$1 /" >"$1/list"
    seq 1 500 >"$1/same"
    echo "root" >"$1/certs/root.pem"
    : >"$1/empty-file"
    echo "$1" >"$1/$odd"
    echo "$1" >"$1/$broken"
    echo "same in all" >"$1/$folder/inside"
    echo "quoted" >"$1/back\\slash \"quoted\""
    echo '#!/bin/sh' >"$1/run.sh"
    ln -s certs/root.pem "$1/link"
    ln -s . "$1/$folder/here"
    chmod 0400 "$1/certs/root.pem"
    chmod 0750 "$1/certs"
    chmod 0600 "$1/same"
    chmod 0755 "$1/run.sh"
}
tree v1
tree v2
tree v3
echo "removed by v2" >v1/certs/old.pem
echo "a file in v1, a directory in v2" >v1/kind
mkdir v2/kind v3/kind
echo "inside" >v2/kind/file
ln -sf file v3/kind/link
echo "inside" >v3/kind/file
ln -sfn certs v2/link
chmod 0711 v2/run.sh
mkdir v3/new
echo "new in v3" >"v3/new/$odd"

# Times to the nanosecond: archives on a volume are ordered by them.
packed='--sort=name --format=posix --owner=0 --group=0 --numeric-owner
--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'
# shellcheck disable=SC2086 # words
tar --create $packed v1 v2 v3 | gzip -9n >"$out/sources.tar.gz"

publish() { # TREE, and options
    tree=$1
    shift
    sleep 0.05 # the clock of a file system ticks every few milliseconds
    "$provisioner" --source "$tree" --target volume --grace 0 "$@" >>log
}
injected() { # WHAT COMMAND...: runs it under strace; it must be killed, or fail
    what=$1
    shift
    sleep 0.05
    if strace -f -qq -o /dev/null -e "trace=${what%%:*}" -e "inject=$what" "$@" >>log 2>&1; then
        echo "not reached: $what" >&2
        exit 1
    fi
}
killed() { # CALL NUMBER TREE, and options: the run is killed at this system call
    call=$1 number=$2 tree=$3
    shift 3
    injected "$call:signal=KILL:when=$number" \
        "$provisioner" --source "$tree" --target volume --grace 0 "$@"
}
is_there() { # PATTERN: a name on the volume
    # shellcheck disable=SC2086 # a pattern
    ls -d volume/$1 >/dev/null
}
is_missing() {
    # shellcheck disable=SC2086 # a pattern
    ! ls -d volume/$1 >/dev/null 2>&1
}
modes() { # PATTERN: the modes of these names on the volume, sorted
    # shellcheck disable=SC2086 # a pattern
    stat -c %a volume/$1 | sort | tr '\n' ' '
}
manifests() { # how many versions have one
    find volume -path 'volume/..version-*/manifest' | wc -l
}
fresh() {
    rm -rf volume
    mkdir volume
}
# shellcheck disable=SC2086 # words
pack() { # NAME
    # It exits 1 if nothing is live.
    "$provisioner" status --json --target volume >status.json || test $? -eq 1
    "$provisioner" history --json --target volume >history.json
    find volume -maxdepth 1 \( -name '..data' -o -name '..version-*' -o -name '..old-*' \) \
        -printf '%C@ %f\n' | sort -k1,1n -k2,2r | cut -d' ' -f2 >order
    tar --create $packed history.json order status.json volume | gzip -9n >"$out/$1.tar.gz"
    fresh
}

fresh

# Behind links.
publish v1
pack atomic-fresh

three() { # and options
    publish v1 "$@"
    publish v2 "$@"
    publish v3 "$@"
}
three
pack atomic-three

three
"$provisioner" rollback --target volume --grace 0 >>log
pack atomic-pinned

publish v1
publish v2 --then false --then-post http://127.0.0.1:1/ 2>>log || test $? -eq 1
is_there '..provisioner/untold-command-*'
is_there '..provisioner/untold-post-*'
pack atomic-untold

publish v1
killed flock 2 v2
test "$(modes '..version-*')" = '755 755 '
is_missing '..provisioner/versions/*'
pack atomic-not-packed

publish v1
killed fsync 7 v2
is_there '..provisioner/versions/next-*'
pack atomic-half-packed

# Plain files, as `cp -r` has put them there, are taken over.
cp -a v1/. volume
killed flock 2 v2
is_there '..old-*'
pack atomic-migrated

cp -a v1/. volume
killed renameat2 5 v2
is_there '..old-*'
test -d volume/certs -a -L volume/certs -o -f volume/same -a ! -L volume/same
pack atomic-killed-in-migration

cp -a v1/. volume
killed symlinkat 4 v2 --allow-gap
is_there '..old-*'
pack atomic-killed-in-gap

# Runs that were killed before anything went live, or while a version went live.
killed syncfs 1 v1
is_missing ..data
pack atomic-killed-first

publish v1
killed mkdirat 3 v2
test "$(modes '..version-*')" = '700 755 '
test "$(manifests)" -eq 1
pack atomic-killed-without-manifest

publish v1
killed syncfs 1 v2
test "$(modes '..version-*')" = '700 755 '
test "$(manifests)" -eq 2
pack atomic-killed-covered

publish v1
killed renameat 1 v2
is_there '..next-*'
test "$(modes '..version-*')" = '755 755 '
pack atomic-killed-next-link

# The switch cannot be brought to the disk, and is taken back.
publish v1
injected fsync:error=EIO:when=3 "$provisioner" --source v2 --target volume --grace 0
test "$(modes '..version-*')" = '755 755 '
test "$(manifests)" -eq 1
pack atomic-undone

# The pin is set, and the version that it names is not live yet.
three
injected renameat:signal=KILL:when=2 "$provisioner" rollback --target volume --grace 0
is_there ..provisioner/pinned
is_there '..next-*'
pack atomic-killed-rollback

# As plain files.
files='--layout files'
# shellcheck disable=SC2086 # words
{
    publish v1 $files
    pack files-fresh

    three $files
    pack files-three

    publish v1 $files
    publish v2 $files --then false --then-post http://127.0.0.1:1/ 2>>log || test $? -eq 1
    is_there '..provisioner/untold-command-*'
    pack files-untold

    publish v1 $files
    killed syncfs 1 v2 $files
    is_there '..provisioner/files/next-*'
    is_missing '..provisioner/files/pending-*'
    pack files-killed-staging

    publish v1 $files
    killed renameat 4 v2 $files
    is_there '..provisioner/files/pending-*'
    pack files-killed-pending

    # Files that others have put there stay: `certs/old.pem` is not in v2.
    cp -a v1/. volume
    rm volume/kind
    echo mine >volume/mine
    publish v2 $files
    pack files-taken-over

    # From one layout to the other.
    publish v1
    publish v2
    publish v3 $files
    pack files-from-atomic

    publish v1
    killed renameat 4 v2 $files
    is_there '..provisioner/files/pending-*'
    is_there '..version-*'
    pack files-killed-from-atomic

    publish v1 $files
    publish v2
    pack atomic-from-files
}
ls -l "$out"
