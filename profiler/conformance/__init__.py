"""The suite every transport must pass; a transport of your own is checked by subclassing it.

With `profiler/transports/mine.py` written, this is all of its test file (pytest comes with `archsearch[test]`):

    import pytest

    from profiler.conformance import TransportConformance
    from profiler.transports.mine import MyTransport


    class TestMyTransport(TransportConformance):
        @pytest.fixture
        def transport(self, tmp_path):
            with MyTransport(..., work_dir=f"{tmp_path}/work, with a space") as transport:
                yield transport

The fixture yields an open transport whose work folder is empty and whose device has Python 3. pytest then tries exit
codes, streams, arguments and file names that a shell would take for code, time-outs, bounds, large files, replacement,
removal and detached processes.

`DisconnectionConformance` breaks the link in every phase. Its fixture, `link`, yields a `Link`: a transport whose link
the test can cut, freeze and mend, for instance by a small TCP proxy.
"""

import pytest

pytest.register_assert_rewrite("profiler.conformance._disconnection", "profiler.conformance._transport")

from profiler.conformance._disconnection import DisconnectionConformance, Link  # noqa: E402 - pytest rewrites on import
from profiler.conformance._transport import TransportConformance, eventually  # noqa: E402

__all__ = ["DisconnectionConformance", "Link", "TransportConformance", "eventually"]
