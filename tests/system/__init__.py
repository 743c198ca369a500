"""The whole system: real processes, real ports, real signals. Every wait is bounded."""

import pytest

pytest.register_assert_rewrite("tests.system.processes", "tests.system.echo")
