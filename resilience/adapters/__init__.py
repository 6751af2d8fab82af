"""Client libraries, one a file, each imported only by those who use it."""

from __future__ import annotations
