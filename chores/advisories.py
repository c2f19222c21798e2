"""Known security holes in the installed packages, from PyPI's advisory database through pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys

AUDIT = ["-m", "pip_audit", "--local", "--skip-editable", "--format", "json", "--progress-spinner", "off"]


def report() -> int:
    """Print the advisories of the installed packages; return 1 if there are any, else 0.

    Mirrors of PyPI may serve packages without advisories. Packages that pip-audit cannot look up count as unknown.
    """
    asked = subprocess.run([sys.executable, *AUDIT], capture_output=True, text=True)
    if not asked.stdout:
        print(f"pip-audit: cannot look up packages: {asked.stderr.strip().splitlines()[-1]}")
        return 0
    packages = json.loads(asked.stdout)["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    holes = [(package, hole) for package in known for hole in package["vulns"]]
    for package, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"pip-audit: {package['name']} {package['version']}: {hole['id']}, fixed in {fixed}")
    unknown = len(packages) - len(known)
    print(f"pip-audit: {len(known)} packages looked up, {len(holes)} advisories; {unknown} unknown here")
    return 1 if holes else 0
