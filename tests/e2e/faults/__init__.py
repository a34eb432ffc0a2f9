"""The fault campaign: real studies on real devices, disturbed at random moments, and what must hold whatever happens.

`python -m tests.e2e.faults --help` runs it; `kinds.py` lists the faults, `invariants.py` what must hold.
"""
