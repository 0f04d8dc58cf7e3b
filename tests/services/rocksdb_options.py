"""What RocksDB says that the options of a folder are."""

from pathlib import Path


def stated(folder: Path) -> dict[str, dict[str, str]]:
    """The newest file OPTIONS of a folder: name and value, by section."""
    newest = max(folder.glob("OPTIONS-*"), key=lambda path: path.name)
    found: dict[str, dict[str, str]] = {}
    for line in newest.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif "=" in line:
            name, _, value = line.strip().partition("=")
            section[name] = value
    return found
