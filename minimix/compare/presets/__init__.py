"""The studies that come with minimix: a TOML file each, as anybody may write one."""

from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
