"""Command line: `python -m refit_graphs --header FILE --out DIR [--name NAME] [--table]`.

FILE is a checkpoint (.safetensors; only its header is read) or a JSON table `{name: {"dtype", "shape"}}`. Progress goes to stderr;
the last line of stdout is JSON: `{"ok": true, "name", "family", "structure", "out"}` or `{"ok": false, "code", "message", "lasting", "packages"}`;
lasting: the same attempt ends in the same way until one of the folders `packages` changes.
Exit status: 0 done, 1 the structure is not supported, 2 bad input, 3 a needed package is missing, 4 an error that nobody foresaw.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

from . import errors, header


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="refit_graphs", description="Exports the weightless graphs of a checkpoint's structure. No network is used."
    )
    parser.add_argument("--header", type=Path, required=True, help="checkpoint, or JSON table of names with dtype and shape")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; an older bundle there is replaced")
    parser.add_argument("--name", help="name of the bundle; default: the folder's name")
    parser.add_argument("--table", action="store_true", help="graph.json alone, without the ONNX models: what the torch host reads")
    options = parser.parse_args(arguments)
    # Nothing here downloads; this keeps the libraries from trying.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        shapes = header.canonical_shapes(header.read_header(options.header))
        # Only now: PyTorch and diffusers take seconds to load, and a header that cannot be read needs neither.
        name = options.name or options.out.name
        if options.table:
            from .table import write_table

            made = write_table(shapes, name, options.out)
            print(json.dumps({"ok": True, "name": name, "family": made["family"], "structure": made["structure"], "out": str(options.out)}))
            return 0
        from . import bundle

        table = bundle.export_bundle(shapes, name, options.out, lambda text: print(text, file=sys.stderr, flush=True))
    except errors.UnsupportedStructure as error:
        return _fail(1, "GRAPH_STRUCTURE_UNSUPPORTED", str(error), lasting=True)
    except errors.HeaderError as error:
        return _fail(2, "GRAPH_HEADER_UNREADABLE", str(error))
    except errors.OutputRefused as error:
        return _fail(2, "GRAPH_OUTPUT_REFUSED", str(error))
    except ImportError as error:
        return _fail(
            3,
            "GRAPH_PACKAGE_MISSING",
            f"expected the packages torch, diffusers and onnx, missing: {error.name}; install them into this Python",
            lasting=True,
        )
    except OSError as error:
        # strerror alone: the text may reach a client, and paths must not.
        return _fail(2, "GRAPH_HEADER_UNREADABLE", f"expected a readable header and a writable folder: {error.strerror}")
    except Exception as error:  # the border of the program: whatever it is becomes a verdict
        traceback.print_exc()
        scarce = isinstance(error, MemoryError) or "allocate" in str(error)
        return _fail(
            4,
            "GRAPH_EXPORT_BROKEN",
            f'the graph of this structure could not be made: {type(error).__name__}; run "refit-sidecar graph export" to see where',
            lasting=not scarce,
        )
    print(
        json.dumps({"ok": True, "name": table["name"], "family": table["family"], "structure": table["structure"], "out": str(options.out)})
    )
    return 0


def _fail(status: int, code: str, message: str, lasting: bool = False) -> int:
    print(json.dumps({"ok": False, "code": code, "message": message, "lasting": lasting, "packages": _package_folders()}))
    return status


def _package_folders() -> list[str]:
    """Where the packages of this Python lie, ours left out."""
    own = Path(__file__).resolve().parents[1]
    return sorted({path for path in sys.path if path and Path(path).is_dir() and Path(path).resolve() != own})


if __name__ == "__main__":
    sys.exit(main())
