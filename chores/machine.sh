#!/bin/sh
# Installs missing programs: machine.sh NEED..., each of make, python, shells, ssh, network, haproxy, vllm, rootfs.
#
# As root, or with sudo that needs no password, it installs Debian packages with apt-get. For other users it unpacks
# them into .machine, which affects nobody else. If nothing is missing, it changes nothing.
set -eu
cd "$(dirname "$0")/.."
PRIVATE=$PWD/.machine
ROOT=$PRIVATE/root
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$PRIVATE/bin
PYTHON=${PYTHON:-python3}

have() { command -v "$1" >/dev/null 2>&1; }
has_library() { ldconfig -p 2>/dev/null | grep -qF "$1"; }
any() { [ -e "$1" ]; } # the first of the files that a pattern matches

missing() { # NEED: prints the missing packages, one a line
    case $1 in
    make)
        have make || echo make
        ;;
    python)
        have "$PYTHON" || echo python3
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || any "$ROOT"/usr/share/python-wheels/pip-*.whl ||
            echo "$(basename "$PYTHON")-venv"
        ;;
    shells)
        have zsh || echo zsh
        have fish || echo fish
        ;;
    ssh)
        have sshd || echo openssh-server
        if ! have ssh || ! have ssh-keygen || ! have ssh-agent || ! have ssh-add; then echo openssh-client; fi
        ;;
    network) # for pods with networks of their own, which only root can make
        [ "$(id -u)" != 0 ] || have ip || echo iproute2
        [ "$(id -u)" != 0 ] || have nft || echo nftables
        ;;
    haproxy)
        have haproxy || echo haproxy
        ;;
    vllm)
        have g++ || printf '%s\n' g++ libc6-dev
        any /usr/include/python3*/Python.h || any "$ROOT"/usr/include/python3*/Python.h || echo libpython3-dev
        has_library libnuma.so.1 || any "$PRIVATE/lib/libnuma.so.1" || echo libnuma1
        ;;
    rootfs)
        have debootstrap || echo debootstrap
        ;;
    *)
        echo "machine.sh: unknown need '$1'" >&2
        return 1
        ;;
    esac
}

install() { # as root
    echo "installing Debian packages: $*"
    case " $* " in *" openssh-server "*) echo "Debian starts an SSH server on port 22 with openssh-server" ;; esac
    $SUDO apt-get -qq update || echo "apt-get update failed; trying with the package lists on this machine" >&2
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "$@" >/dev/null
}

unpack() { # as anyone, with package lists of our own
    have dpkg || return 1
    echo "unpacking Debian packages into $PRIVATE: $*"
    case " $* " in *" zsh "*) set -- "$@" zsh-static ;; esac # zsh looks for its modules in /usr alone
    mkdir -p "$PRIVATE/apt/state/lists/partial" "$PRIVATE/apt/cache/archives/partial" "$ROOT" "$PRIVATE/bin"
    cat >"$PRIVATE/apt/apt.conf" <<END
Dir::State "$PRIVATE/apt/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$PRIVATE/apt/cache";
Debug::NoLocking "true";
END
    export APT_CONFIG="$PRIVATE/apt/apt.conf"
    apt-get -qq update || return 1
    apt-get -qq install -y --reinstall --download-only --no-install-recommends "$@" >/dev/null || return 1
    for package in "$PRIVATE"/apt/cache/archives/*.deb; do
        case $package in */libc6_*) continue ;; esac # the loader of this system takes its own libc alone
        dpkg -x "$package" "$ROOT" || return 1
    done
    rm -r "$PRIVATE/apt"
    wrap
}

wrap() { # programs in .machine/bin that run the unpacked ones with the unpacked libraries
    libraries=$(find "$ROOT/usr/lib" "$ROOT/lib" -maxdepth 1 -name '*-linux-gnu*' -type d 2>/dev/null | paste -sd:)
    for program in "$ROOT"/usr/sbin/sshd "$ROOT"/usr/sbin/haproxy "$ROOT"/usr/bin/ssh "$ROOT"/usr/bin/ssh-* "$ROOT"/usr/bin/make; do
        ! [ -x "$program" ] || wrapper "${program##*/}" "$program"
    done
    for program in "$ROOT"/bin/zsh-static "$ROOT"/usr/bin/zsh-static; do
        [ -x "$program" ] || continue
        functions=$(find "$ROOT/usr/share/zsh/functions" -type d | paste -sd:)
        wrapper zsh "$program"
        sed -i "s|^LD_LIBRARY_PATH=|FPATH=\"$functions\" &|" "$PRIVATE/bin/zsh"
    done
    if [ -e "$ROOT/usr/bin/fish" ]; then
        ln -sfn ../etc "$ROOT/usr/etc" # fish looks for its files beside itself if it finds both
        wrapper fish "$ROOT/usr/bin/fish"
    fi
    if [ -e "$ROOT/usr/bin/g++" ]; then
        # libc.so is a linker script that names its other half by an absolute path
        find "$ROOT/usr/lib" -name libc.so -exec sed -i "s| /usr/lib/[^ ]*/libc_nonshared.a| $(
            find "$ROOT/usr/lib" -name libc_nonshared.a
        )|" {} +
        headers=$(for folder in "$ROOT"/usr/include/python3* "$ROOT"/usr/include/*-linux-gnu* "$ROOT/usr/include"; do
            ! [ -d "$folder" ] || printf ' -idirafter "%s"' "$folder"
        done)
        wrapper g++ "$ROOT/usr/bin/g++" "-B \"$ROOT/usr/bin\"$headers"
    fi
    mkdir -p "$PRIVATE/lib" # for pods: what vLLM, and what it compiles, loads
    for library in "$ROOT"/usr/lib/*/libnuma.so.1 "$ROOT"/usr/lib/*/libgomp.so.1; do
        ! [ -e "$library" ] || ln -sf "$library" "$PRIVATE/lib/"
    done
    if any "$PRIVATE/lib/libnuma.so.1"; then
        # shellcheck disable=SC2016  # expands when the written program runs
        printf '#!/bin/sh\n/sbin/ldconfig "$@"\nls "%s"\n' "$PRIVATE/lib" >"$PRIVATE/bin/ldconfig"
        chmod +x "$PRIVATE/bin/ldconfig"
    fi
}

wrapper() { # NAME PROGRAM [WORDS]
    # shellcheck disable=SC2016  # expands when the written program runs
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "%s" %s "$@"\n' \
        "$libraries" "$2" "${3:-}" >"$PRIVATE/bin/$1"
    chmod +x "$PRIVATE/bin/$1"
}

needed=$(for need; do missing "$need"; done)
[ -n "$needed" ] || exit 0
# shellcheck disable=SC2086  # one word for each package
set -- $needed
have apt-get || { echo "missing: $* (Debian's names), and this system has no apt-get" >&2; exit 1; }
SUDO=""
[ "$(id -u)" = 0 ] || ! have sudo || ! sudo -n true 2>/dev/null || SUDO="sudo -n"
if [ "$(id -u)" = 0 ] || [ -n "$SUDO" ]; then install "$@"; else unpack "$@"; fi ||
    { echo "missing: $*; as root, run: apt-get install -y $*" >&2; exit 1; }
