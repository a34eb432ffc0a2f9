"""Every morning: did anything that we ship get slower, bigger or wrong on our devices, and since when?

A night is one run over a suite on all devices. What it measures is kept under a study of its own (`notes`); `series`
reads that back as what `reports.verdicts` judges; `night` and `device_night` do the measuring.
"""
