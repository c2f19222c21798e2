"""Hints: the command line, files that it names, Hugging Face, disks."""

from __future__ import annotations

from pi.vllm.hint import Hint

SETUP = 'pi pods setup NAME "ssh ..."'

INSTALL = "on the pod, uv pip install -p ~/{venv} "

APT = "on the pod as root, apt-get install -y "

THE_TOKEN = "HF_TOKEN (pi pods setup NAME sends a new one)"  # noqa: S105 - its name

HINTS = (
    # Command line and its files
    Hint(
        "rejected-arguments",
        r"^(?:vllm|api_server\.py)[ \w]*: error: ",
        "check the words after --vllm, or the arguments in pi plan; on the pod, vllm serve --help=all explains them",
    ),
    Hint(
        "unknown-parser",
        r"invalid (?:tool call|reasoning) parser: ?([\w.-]{1,40})",
        "{vllm} has no parser {0}: name one that the log lists",
    ),
    Hint("tool-parser-missing", r"requires --tool-call-parser", "choose a parser", ("--set tool-call-parser=NAME",)),
    Hint("template-missing", r"appears path-like, but doesn't exist", "give the path of a template that is on the pod"),
    Hint(
        "venv-missing",
        r"launch\.sh: line \d+: (?:vllm|python): command not found",
        f"~/{{venv}} is not on the pod any more, or is damaged: run {SETUP} again",
    ),
    Hint("port-taken", r"[Aa]ddress already in use", "another process took the port meanwhile: start again"),
    Hint(
        "template-damaged",
        r"jinja2\.exceptions\.\w+|Template\w*Error",
        "vLLM cannot read the chat template: use the model's own (leave --chat-template out), or correct that line",
    ),
    Hint(
        "vocabulary-missing",
        r"HarmonyError|openaipublic|load vocab file",
        "the pod cannot fetch GPT-OSS's o200k_base.tiktoken and cl100k_base.tiktoken from"
        " https://openaipublic.blob.core.windows.net/encodings/; with both in a folder on the pod",
        ("--env TIKTOKEN_ENCODINGS_BASE=FOLDER",),
    ),
    # pi's watchdog
    Hint(
        "server-hung",
        r"^the server hangs: no answer to ",
        "below that line, the log shows where its processes stood; if it comes back, run fewer requests at a time",
        ("--set max-num-seqs={fewer_sequences}", "--set enforce-eager"),
    ),
    # Hugging Face
    Hint(
        "gated-repository",
        r"gated repo[\s\S]{0,300}?https://huggingface\.co/([\w.-]+/[\w-]+(?:\.[\w-]+)*)",
        f"accept the licence at https://huggingface.co/{{0}} and check {THE_TOKEN}",
    ),
    Hint(
        "gated-repository",
        r"Access denied\. Model '([\w.-]+/[\w.-]+)' requires approval",
        f"accept the licence at https://huggingface.co/{{0}} and check {THE_TOKEN}",
    ),
    Hint(
        "gated-repository",
        r"gated repo",
        f"accept the licence on the model's page at Hugging Face and check {THE_TOKEN}",
    ),
    Hint(
        "hub-transfer-broken",
        r"CAS service|xethub|hf_xet|XetError|xet_core|Data processing error|File reconstruction",
        "the transfer with xet broke",
        ("--env HF_HUB_DISABLE_XET=1", "start again: files that are whole stay"),
    ),
    Hint(
        "hub-token-rejected",
        r"Invalid (?:credentials in Authorization header|user token|username or password)|401 (?:Client Error"
        r"|Unauthori)",
        f"Hugging Face rejects HF_TOKEN: set a valid one and run {SETUP} again",
    ),
    Hint(
        "hub-rate-limit",
        r"429 Too Many Requests|429 Client Error",
        f"too many requests: try again in a few minutes, with {THE_TOKEN}",
    ),
    Hint(
        "no-such-revision",
        r"Revision Not Found|RevisionNotFoundError|is not a valid git identifier",
        "the repository has no such branch, tag or commit: check what follows --revision",
    ),
    Hint(
        "no-such-repository",
        r"is not a valid model identifier|Repository Not Found|^Error: Model .{1,200} not found|404 Client Error",
        f"no such model at Hugging Face, or it is private: check the id and {THE_TOKEN}",
    ),
    Hint(
        "hub-offline",
        r"outgoing traffic has been disabled|offline mode is enabled",
        "vLLM runs offline, and this repository is not on the pod",
        ("give a path on the pod", "download it there first: hf download REPOSITORY"),
    ),
    Hint(
        "certificate-rejected",
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",
        f"a proxy replaces the hub's certificate: export SSL_CERT_FILE=PATH with its authority, then {SETUP}",
    ),
    Hint(
        "name-not-resolved",
        r"[Nn]ame or service not known|[Nn]ame resolution|Could not resolve host|nodename nor servname|getaddrinfo",
        "the pod cannot look up names: check its /etc/resolv.conf and its proxy",
    ),
    Hint(
        "hub-unreachable",
        r"ProxyError|Cannot connect to proxy|Tunnel connection failed",
        "the pod's proxy does not lead to Hugging Face: check its https_proxy and no_proxy, or give a path on the pod",
    ),
    Hint(
        "hub-transfer-broken",
        r"peer closed connection|IncompleteRead|Consistency check failed|Connection broken|RemoteProtocolError"
        r"|(?:Read|Connect)Timeout|Read timed out|ChunkedEncodingError|Connection reset by peer|50[0234] Server Error"
        r"|Max retries exceeded|ProtocolError|Server disconnected",
        "the connection to Hugging Face broke: start again, which continues the download",
    ),
    Hint(
        "hub-unreachable",
        r"couldn't connect to 'http|LocalEntryNotFoundError|Local entry not found|Network is unreachable",
        "the pod cannot reach Hugging Face: check its network and proxy, or give a path on the pod",
    ),
    Hint(
        "damaged-config",
        r"(?<!\.gguf)' is not a valid JSON file|JSONDecodeError",
        "a file of the model is damaged: pi cache rm MODEL, then start again",
    ),
    Hint(
        "no-such-directory",
        r"Repo id must be in the form|Incorrect path_or_model_id",
        "the pod does not have this directory: check the path",
    ),
    Hint(
        "config-missing",
        r"a file named config\.json|config\.json.{0,20}(?:not found|No such file)",
        "config.json is missing: check the path or the repository",
    ),
    # Disks and shared memory
    Hint(
        "shared-memory-full",
        r"'/psm_|/dev/shm|shared memory segment|</torch_\d|Bus error|SIGBUS",
        "the pod's /dev/shm is too small: run its container with --shm-size=16g or --ipc=host",
    ),
    Hint(
        "disk-full",
        r"No space left on device|Not enough free disk space|Disk quota exceeded",
        f"the pod's disk is full: free space, or keep models on another disk: {SETUP} --models-path PATH",
    ),
    Hint(
        "disk-failed",
        r"Stale file handle|Input/output error|Transport endpoint is not connected",
        f"the disk of the models does not answer: mount it again on the pod, or use another: {SETUP}"
        " --models-path PATH",
    ),
    Hint(
        "port-variable-taken",
        r"VLLM_PORT '[^']{1,200}' appears to be a URI",
        "Kubernetes sets VLLM_PORT for a service with the name vllm: unset it in the pod's environment, or rename that",
    ),
    Hint(
        "address-unknown",
        r"Cannot assign requested address",
        "the pod does not have the address after --host, or in VLLM_HOST_IP of its environment",
    ),
    Hint(
        "no-temporary-directory",
        r"No usable temporary directory",
        "no temporary directory on the pod is writable: free space in /tmp, or correct its TMPDIR",
    ),
    Hint(
        "temporary-path-too-long",
        r"ZMQError: File name too long|AF_UNIX path too long",
        "the path of the pod's temporary directory is too long for sockets: set TMPDIR=/tmp in its environment",
    ),
    Hint(
        "read-only-disk",
        r"Read-only file system",
        f"the pod cannot write where its models are kept: mount it for writing, or {SETUP} --models-path PATH",
    ),
    Hint(
        "no-permission",
        r"Permission denied: '(/dev/[\w/.-]{1,200})",
        "the pod's user may not use {0}: run its container with access to the GPUs",
    ),
    Hint(
        "no-permission",
        r"Permission denied: '((?:/[\w.@+-]{1,80}){1,3})(?=[^']*(?:huggingface|/hub/|models--|safetensors))",
        f"another user owns it: on the pod, sudo chown -R $(id -un) {{0}}; or {SETUP} --models-path PATH",
    ),
    Hint(
        "no-permission",
        r"Permission denied: '((?:/[\w.@+-]{1,80}){1,3})",
        "another user owns it: on the pod, sudo chown -R $(id -un) {0}",
    ),
)
