"""A pipe that is open for as long as these tests run: standard input of clients that end with whoever started them.

Tests that are ended by a signal leave their contexts without a word; nobody else would end what they have started.
"""

from __future__ import annotations

import os

READ_END, _write_end = os.pipe()
"""For `subprocess.Popen(stdin=...)`, with --exit-with-parent. No child inherits the other end."""
