"""Two hundred hostile values, for every input that comes from others.

Payloads create a file `pwned` in the working directory or the home: if one appears, a shell ran the text.
"""

from __future__ import annotations

import re

PAYLOAD = "touch pwned"
CANARY = "pwned"

DANGEROUS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that pi must never send to a terminal, except in colour sequences."""

# {} is the payload, {{ and }} are braces
_SHELL = [
    *("$({})", "`{}`", ";{}", "; {} ;", "&& {}", "|| {}", "| {}", "& {} &", "\n{}\n", "\r\n{}\r\n", "'; {}; '"),
    *("'$({})'", '"; {}; "', '"$({})"', "'\"'\"'$({})", "\\'; {}; #", "\\\n{}", "$'\\n{}'", "$((`{}`))", "<({})"),
    *(">({})", "${{x:-$({})}}", "${{IFS}};{}", "{{{};}}", "({})", ");{};(", "}};{};{{", "#\n{}", "!{}", "x;{};#"),
    *("EOF\n{}\nEOF", "'EOF'\n{}\n", "\nEOF\n{}", "<<EOF\n$({})\nEOF", "<<<$({})", "a[$({})]", "$[`{}`]", "~;{}"),
    *("-exec {} ;", "--eval=$({})", "-c '{}'", "x=$({}) y", "[[ $({}) ]]", "\t;{}\t", "\v;{}", "\x00;{}", "%0a{}"),
    *("\\x3b{}", "&#59;{}", "\u037e{}", "\uff1b{}", "\u2028{}", "\u0085{}", "$\u200b({})", "\\$({})", "\\\\$({})"),
    *("\\`{}\\`", "${{HOME+$({})}}", "$(cd ~; {})", "$({})" * 20, "\n" * 50 + "{}", "'" * 7 + ";{}", '"' * 7 + ";{}"),
    *("*/../$({})", "{{a,$({})}}", "?$({})", "=$({})", ":$({})", "@$({})", "^{}", ",{}", "a b;{}", "$0;{}", "$$;{}"),
]

_PLAIN = [
    *("", " ", "   ", "\t", "\n", "\r", "\r\n", "\\", "\\\\", "'", '"', "`", "$", "$$", "$@", "$*", "$HOME", "${HOME}"),
    *("~", "~/", "~root", "~+", "*", "**", "?", "[a-z]*", "{a,b}", "!", "!!", "#", "-", "--", "---", "-rf", "-rf /"),
    *("-h", "--help", "--version", "-x", "--x", "-oProxyCommand=touch pwned", "--rsh=touch pwned", "-1", "+1", "@file"),
    *("/", "//", "//etc", "/etc/passwd", "/dev/zero", "/proc/self/environ", ".", "..", "../", "../../etc/passwd"),
    *("..\\..", "a/../b", "/mnt/../etc", "a//b", "a/b/c", "file:///etc/passwd", "http://127.0.0.1:8001/", "x" * 64),
    *("x" * 97, "x" * 300, "x" * 5000, "9" * 5000, "0", "-0", "1e400", "NaN", "0x10", "\u0663", "1_000", "undefined"),
    *("null", "None", "true", "{}", "[]", '{"a": 1}', '{"a": "$(touch pwned)"}', '{"event": "done"}', "[" * 3000),
    *("%s", "%n%n%n", "%(name)s", "%d%x", "{0}", "{name!r}", "{{7*7}}", "{{ ''.__class__.__mro__ }}", "{% raw %}"),
    *("{% for x in y %}", "{# x #}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "<script>x</script>", "a;b", "a|b", "a&b"),
    *("a<b>c", "(a)", "a,b", "a=b", "a:b", "a@b", "a%b", "a^b", "EOF", "PI_EOF", "MARK", "main", "x y", " x", "x "),
    *(
        "\u00e9",
        "\u6f22\u5b57",
        "\U0001f680",
        "e\u0301",
        "\u202egpj.exe",
        "\u2066x\u2069",
        "\u200b",
        "\ufeff",
        "\u00a0",
    ),
    *("\ud800", "a\udcffb", "\udc80\udc81", "\x00", "a\x00b", "\x01", "\x07", "\x08\x08\x08", "\x7f", "\x1b", "\x9b2J"),
    *("\x1b[2J", "\x1b[31mred", "\x1b[1A\x1b[2Kpi: ok", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1bPq#0\x1b\\"),
    *("\x1b]8;;http://e.vil\x1b\\x\x1b]8;;\x1b\\", "\x1b[6n", "\x1bc", "good\rbad", "a\nb", "a\n  b\nc", "a\tb"),
    *(
        "VLLM_API_KEY=",
        "PI_API_KEY=x",
        "export X=1",
        "root@h",
        "ssh root@h; touch pwned",
        "0, H100, 80",
        "Robert'); --",
    ),
]

_RUNS = [shape.replace("{}", PAYLOAD).replace("{{", "{").replace("}}", "}") for shape in _SHELL]

VALUES = list(dict.fromkeys([*_RUNS, *_PLAIN, "\u00fc$(touch pwned)'" * 5900]))
"""The last one has 100 KB."""


def is_clean(text: str) -> bool:
    return not DANGEROUS.search(text)
