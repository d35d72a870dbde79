"""The version of this package and its commit, which nothing else needs to be imported for."""

from pathlib import Path

__version__ = "0.2.0"


def commit() -> str | None:
    """The commit of the checkout that this package runs from, with a remark if its sources were changed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    name = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "src")
    return f"{name} with changes" if changed else name or None


def _git(root: Path, *arguments: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip()
