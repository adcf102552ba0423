"""`repair.py`: removes the records of packages whose installation was cut short, so that pip installs them again instead of calling them present.

pip copies a package's files and its metadata first and writes INSTALLER after the last of them: a record without it is half a package.
"""

import json
import shutil
import sysconfig
from pathlib import Path


def main() -> None:
    site = Path(sysconfig.get_paths()["purelib"])
    removed = []
    for record in site.glob("*.dist-info"):
        if (record / "INSTALLER").exists() and (record / "RECORD").exists():
            continue
        shutil.rmtree(record)
        removed.append(record.name)
    # What pip had moved aside while it replaced a package.
    for leftover in site.glob("~*"):
        shutil.rmtree(leftover, ignore_errors=True)
    print(json.dumps({"removed": removed}))


if __name__ == "__main__":
    main()
