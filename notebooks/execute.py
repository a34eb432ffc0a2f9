"""Executes the notebooks and writes their outputs into them: `make notebooks`, or this file with their names.

Outputs are made the same wherever they are made: no times of execution, no names of machines or folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 120


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with fresh outputs, run in `folder`, which holds the data that it reads.

    Raises:
        CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )  # fmt: skip
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Execute the notebooks that are named, or all of them, in place."""
    for path in [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        nbformat.write(executed(path, HERE), path)
        print(path.name)


if __name__ == "__main__":
    main()
