"""End a rank whose peers are gone: `pi_link.py PID OWN WAIT_S POD=ADDRESS...`, run by its launcher.

PID is the rank's server, OWN this pod's private address. A peer must connect within WAIT_S; then its connections with
this rank may be gone for at most GONE_S, and its pod may be silent for at most SILENT_S. Else the file `link` beside
this one gets the reason as JSON (`pod`, `address`, `what`: "late", "gone" or "silent", `text`), the log a line, the
server TERM, and after KILL_S all processes of the session but the launcher KILL. It ends with its server.
"""

from __future__ import annotations

GONE_S = 5.0

SILENT_S = 15.0

KILL_S = 5.0


def main() -> None:
    raise NotImplementedError


if __name__ == "__main__":
    main()
