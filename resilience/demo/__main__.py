"""
``make demo``: play the tour.

    python -m resilience.demo                    all of it
    python -m resilience.demo --list             what there is
    python -m resilience.demo --only breaker     this one; may be repeated

Exit status: 0 if every scenario ended as documented, 1 if one did not, 2 for a mistake in the arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    # Before the tour begins and after it has ended there is nothing to tidy up: Ctrl-C simply ends the process, without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from resilience.demo.tour_command import main

    sys.exit(main())
