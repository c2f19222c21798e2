"""Known holes in the packages that pi stands on, as PyPI's advisory database tells them to pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys

AUDIT = ["-m", "pip_audit", "--local", "--skip-editable", "--format", "json", "--progress-spinner", "off"]


def report() -> int:
    """Print what is known of the installed packages; 1 where one has an advisory, else 0.

    Mirrors of PyPI may serve packages without advisories. What could not be looked up is counted, never called safe.
    """
    asked = subprocess.run([sys.executable, *AUDIT], capture_output=True, text=True)
    if not asked.stdout:
        print(f"pip-audit: nothing could be looked up: {asked.stderr.strip().splitlines()[-1]}")
        return 0
    packages = json.loads(asked.stdout)["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    holes = [(package, hole) for package in known for hole in package["vulns"]]
    for package, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "nowhere yet"
        print(f"pip-audit: {package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    unknown = len(packages) - len(known)
    print(f"pip-audit: {len(known)} packages looked up, {len(holes)} advisories; {unknown} unknown here")
    return 1 if holes else 0
