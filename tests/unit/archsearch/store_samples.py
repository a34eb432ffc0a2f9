"""Records for the tests of the store; processes that tests start import them too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsearch.store import MeasurementRecord

REPOSITORY = Path(__file__).parents[3]
LAYOUT = {"width": 64, "layers": ["C", "G"]}


def record(number: int | str = 0, **fields: Any) -> MeasurementRecord:
    return MeasurementRecord(
        **{
            "job_id": f"job-{number}", "study": "s", "role": "candidate", "label": "#1 CG", "device": "local",
            "device_fingerprint": "f" * 16, "workload": "quick", "precision": "int4", "key_hash": f"key-{number}",
            "key": {"threads": 2}, "method": "1", "status": "ok", "result": b'{"times": [1, 2, 3]}', "bytes_sent": 20,
            "info": {"phase": 0.5}, "created_unix": 1.5,
        }
        | fields
    )  # fmt: skip
